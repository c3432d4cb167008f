//! The course of a training: one record an epoch, which epoch is kept, and when to stop.
//!
//! Unaware of how an epoch is carried out.

use std::io::{self, Write};

use kiln_kernels::device::DeviceError;

use super::backprop::Tally;
use crate::model::Learned;

/// Why a course ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// The loss or a weight is no longer a number.
    #[error("training diverged in epoch {epoch}: loss or weights are not finite; help: {help}")]
    Diverged {
        /// The epoch, counted from 1.
        epoch: u32,
        /// What to change.
        help: String,
    },
    /// The GPU failed.
    #[error("training on the GPU failed: {0}")]
    Device(#[from] DeviceError),
    /// The log could not be written.
    #[error("cannot write the log")]
    Log(#[from] io::Error),
}

/// One epoch's figures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Epoch {
    pub(crate) number: u32,
    pub(crate) train: Tally,
    pub(crate) valid: Option<Tally>,
}

/// Which epoch's weights are the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// The last one's.
    Last,
    /// Those with the lowest validation loss; the earliest on a tie.
    BestValidation,
}

/// What to do after an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Advice {
    /// Its weights are the best so far.
    pub(crate) keep: bool,
    /// No further epoch is worth it.
    pub(crate) stop: bool,
}

/// All epochs so far.
#[derive(Debug)]
pub(crate) struct Course {
    epochs: Vec<Epoch>,
    /// Index of the epoch whose weights are kept.
    kept: usize,
    keep: Keep,
    patience: Option<u32>,
}

impl Course {
    pub(crate) fn new(keep: Keep, patience: Option<u32>) -> Course {
        Course { epochs: Vec::new(), kept: 0, keep, patience }
    }

    /// Adds an epoch.
    pub(crate) fn record(&mut self, epoch: Epoch) -> Advice {
        let index = self.epochs.len();
        let loss = |epoch: &Epoch| epoch.valid.map(|tally| tally.mean_loss());
        let keep = match (self.keep, self.epochs.get(self.kept).and_then(loss), loss(&epoch)) {
            (Keep::BestValidation, Some(best), Some(now)) => now < best,
            _ => true,
        };
        self.epochs.push(epoch);
        if keep {
            self.kept = index;
        }
        let since = (index - self.kept) as u64;
        let stop = self.patience.is_some_and(|patience| since >= u64::from(patience));
        Advice { keep, stop }
    }

    /// What the kept weights reached; `train` is the training part scored with them.
    pub(crate) fn learned(&self, train: Tally) -> Learned {
        let kept = &self.epochs[self.kept];
        Learned {
            epoch: kept.number,
            epochs_run: self.epochs.len() as u32,
            train_loss: train.mean_loss(),
            train_accuracy: train.accuracy(),
            valid_loss: kept.valid.map(|tally| tally.mean_loss()),
            valid_accuracy: kept.valid.map(|tally| tally.accuracy()),
        }
    }

    /// Writes the line that the log shows when [`Advice::stop`] is followed.
    pub(crate) fn log_stop(&self, log: &mut dyn Write) -> io::Result<()> {
        let kept = self.epochs[self.kept].number;
        writeln!(log, "stopped by `patience`: no validation loss since epoch {kept} was lower")
    }

    /// The learning curve as CSV; the validation columns are empty without a validation part.
    pub(crate) fn csv(&self) -> String {
        let mut text =
            "epoch,train_loss,train_accuracy,valid_loss,valid_accuracy,kept\n".to_owned();
        for (index, Epoch { number, train, valid }) in self.epochs.iter().enumerate() {
            let valid = valid.map_or(",".to_owned(), |tally| {
                format!("{:.6},{:.6}", tally.mean_loss(), tally.accuracy())
            });
            let kept = u8::from(index == self.kept);
            let (loss, accuracy) = (train.mean_loss(), train.accuracy());
            text.push_str(&format!("{number},{loss:.6},{accuracy:.6},{valid},{kept}\n"));
        }
        text
    }
}

impl Epoch {
    /// Writes the line that the log shows for it.
    pub(crate) fn log(&self, of: u32, log: &mut dyn Write) -> io::Result<()> {
        let width = of.to_string().len();
        let Epoch { number, train, .. } = self;
        write!(log, "epoch {number:>width$}/{of}  train loss {:.6}", train.mean_loss())?;
        if let Some(valid) = &self.valid {
            let (loss, accuracy) = (valid.mean_loss(), valid.accuracy());
            write!(log, "  valid loss {loss:.6}  valid accuracy {accuracy:.4}")?;
        }
        writeln!(log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(number: u32, valid: Option<f64>) -> Epoch {
        let tally = |loss| Tally { loss, hits: 1, rows: 2 };
        Epoch { number, train: tally(1.0), valid: valid.map(tally) }
    }

    #[test]
    fn the_earliest_best_validation_epoch_is_kept_and_patience_ends_it() {
        let mut course = Course::new(Keep::BestValidation, Some(2));
        let advice: Vec<Advice> = [4.0, 2.0, 2.0, 3.0]
            .iter()
            .enumerate()
            .map(|(index, loss)| course.record(epoch(index as u32 + 1, Some(*loss))))
            .collect();
        assert_eq!(advice.iter().map(|a| a.keep).collect::<Vec<_>>(), [true, true, false, false]);
        assert_eq!(advice.iter().map(|a| a.stop).collect::<Vec<_>>(), [false, false, false, true]);
        let learned = course.learned(Tally { loss: 3.0, hits: 3, rows: 4 });
        assert_eq!((learned.epoch, learned.epochs_run, learned.valid_loss), (2, 4, Some(1.0)));
        assert_eq!(learned.train_accuracy, 0.75);
    }

    #[test]
    fn without_validation_the_last_epoch_is_kept() {
        let mut course = Course::new(Keep::BestValidation, None);
        for number in 1..=3 {
            assert_eq!(course.record(epoch(number, None)), Advice { keep: true, stop: false });
        }
        assert_eq!(
            course.csv(),
            "epoch,train_loss,train_accuracy,valid_loss,valid_accuracy,kept\n\
             1,0.500000,0.500000,,,0\n2,0.500000,0.500000,,,0\n3,0.500000,0.500000,,,1\n"
        );
    }
}
