//! Faults on purpose: what a test arms to stop the store at any one operation.
//!
//! Every operation of [`fsio`](crate::fsio) that changes the disk is a numbered point. A plan
//! kills the process, or fails the operation, just before the point with its number; or it has the
//! disk full from there on. Unaware of what the operations are.

use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What happens at the armed point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Count,
    Kill,
    Fail,
    Full,
}

/// Which point is armed, and how many have been passed. Clones share the count.
#[derive(Debug, Clone)]
pub struct FaultPlan {
    fault: Fault,
    at: u64,
    passed: Arc<AtomicU64>,
}

/// A text that describes no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no fault plan: expected `count`, `kill@N`, `fail@N` or `full@N`, N from 1")]
pub struct FaultPlanError(String);

impl FaultPlan {
    /// Arms nothing; only counts.
    #[must_use]
    pub fn count() -> Self {
        Self::new(Fault::Count, 0)
    }

    /// The process kills itself with SIGKILL just before point `at`.
    #[must_use]
    pub fn kill_at(at: u64) -> Self {
        Self::new(Fault::Kill, at)
    }

    /// The operation at point `at` is not carried out and gives an error.
    #[must_use]
    pub fn fail_at(at: u64) -> Self {
        Self::new(Fault::Fail, at)
    }

    /// The operation at point `at` and each one after it finds the disk full, but for those that need no space.
    #[must_use]
    pub fn full_at(at: u64) -> Self {
        Self::new(Fault::Full, at)
    }

    fn new(fault: Fault, at: u64) -> Self {
        Self { fault, at, passed: Arc::new(AtomicU64::new(0)) }
    }

    /// How many points have been passed.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    /// Passes a point; `takes_space` says whether what is about to be done needs room on the disk.
    pub(crate) fn point(&self, takes_space: bool) -> io::Result<()> {
        let number = self.passed.fetch_add(1, Ordering::Relaxed) + 1;
        if self.fault == Fault::Full && number >= self.at && takes_space {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if number != self.at {
            return Ok(());
        }
        match self.fault {
            Fault::Count | Fault::Full => Ok(()),
            Fault::Fail => Err(io::Error::other("fault injected on purpose")),
            Fault::Kill => {
                let own = rustix::process::getpid();
                rustix::process::kill_process(own, rustix::process::Signal::KILL)?;
                // The signal is on its way; nothing of this process may happen meanwhile.
                loop {
                    std::thread::park();
                }
            }
        }
    }
}

impl FromStr for FaultPlan {
    type Err = FaultPlanError;

    fn from_str(text: &str) -> Result<Self, FaultPlanError> {
        let refused = || FaultPlanError(text.to_owned());
        if text == "count" {
            return Ok(Self::count());
        }
        let (fault, at) = text.split_once('@').ok_or_else(refused)?;
        let at = at.parse().ok().filter(|at| *at > 0).ok_or_else(refused)?;
        match fault {
            "kill" => Ok(Self::kill_at(at)),
            "fail" => Ok(Self::fail_at(at)),
            "full" => Ok(Self::full_at(at)),
            _ => Err(refused()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_armed_point_fails() {
        let plan: FaultPlan = "fail@2".parse().unwrap();
        assert!(plan.point(true).is_ok());
        assert!(plan.point(true).is_err());
        assert!(plan.point(true).is_ok());
        assert_eq!(plan.passed(), 3);
    }

    #[test]
    fn a_full_disk_stays_full_and_still_lets_things_go() {
        let plan: FaultPlan = "full@2".parse().unwrap();
        assert!(plan.point(true).is_ok());
        assert_eq!(plan.point(true).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(plan.point(false).is_ok());
        assert!(plan.point(true).is_err());
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "kill", "kill@", "kill@0", "kill@x", "stop@1"] {
            assert!(text.parse::<FaultPlan>().is_err(), "{text}");
        }
    }
}
