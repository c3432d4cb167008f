//! Gradient-boosted trees over quantile bins: histograms are sums of integers, so that the order in
//! which rows are added, and hence threads, instruction sets and devices, cannot change a bit.
//!
//! `docs/numerics.md`, "Trees", is the specification. Unaware of what the columns mean.

mod bins;
mod booster;
mod forest;
mod gradient;
mod grow;
mod histogram;

pub use bins::{Bins, Cuts, MOST_BINS};
pub use booster::{Booster, Target};
pub use forest::{Forest, Node, Tree};
pub use grow::{Growth, GrowthOrder};

#[cfg(test)]
mod tests;
