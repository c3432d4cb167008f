//! Array kernels whose results are specified to the bit.
//!
//! Every function here defines each of its output elements as one fixed chain of IEEE 754 binary32
//! operations (see `docs/numerics.md`). Tile sizes, instruction sets and thread counts are
//! implementation details that cannot change a bit, so a model trained here has the same digest on
//! every machine, and a GPU kernel can be held to the same chains.
//!
//! This crate knows arrays and nothing else: no models, no files, no formats.

mod adam;
mod arithmetic;
mod cpu;
pub mod device;
mod dropout;
#[cfg(feature = "emulator")]
pub mod emulator;
mod functions;
mod gemm;
pub mod gpu;
pub mod launch;
pub mod lint;
mod loss;
mod matrix;
pub mod nvrtc;
mod order;
mod random;
pub mod ready;
mod reduce;
mod scalar;
mod sgd;
pub mod trees;

pub use adam::{Adam, AdamState};
pub use cpu::{Cpu, Isa, Threads};
pub use dropout::Dropout;
pub use functions::{exp, gelu, log, maximum, sigmoid, tanh};
pub use gemm::{Start, product};
pub use loss::{
    gelu_backward, gelu_forward, relu, relu_backward, sigmoid_cross_entropy, sigmoid_pairs,
    softmax_cross_entropy, softmax_rows,
};
pub use matrix::Matrix;
pub use order::Order;
pub use random::Philox;
pub use reduce::{CHUNK, LANES, column_sums};
pub use scalar::{cos_pi, power};
pub use sgd::Sgd;

#[cfg(test)]
mod testing;
