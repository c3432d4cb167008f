//! Array kernels whose results are specified to the bit.
//!
//! Every function here defines each of its output elements as one fixed chain of IEEE 754 binary32
//! operations (see `README.md` beside this file). Tile sizes, instruction sets and thread counts are
//! implementation details that cannot change a bit, so a model trained here has the same digest on
//! every machine, and a GPU kernel can be held to the same chains.
//!
//! This crate knows arrays and nothing else: no models, no files, no formats.

mod adam;
mod arithmetic;
mod cpu;
mod functions;
mod gemm;
mod loss;
mod matrix;
mod random;
mod reduce;

pub use adam::{Adam, AdamState};
pub use cpu::{Cpu, Isa, Threads};
pub use functions::{exp, log, sigmoid, tanh};
pub use gemm::{Start, product};
pub use loss::{relu, relu_backward, sigmoid_cross_entropy, softmax_cross_entropy, softmax_rows};
pub use matrix::Matrix;
pub use random::Philox;
pub use reduce::{CHUNK, LANES, column_sums};

#[cfg(test)]
mod testing;
