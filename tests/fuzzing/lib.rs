//! Drives fuzz tests: hands a check many inputs, and holds it to bounds of time and memory.
//!
//! An input is random, or a sample with random changes. A check says by a panic that something is wrong; beyond that it
//! may neither allocate more than a multiple of its input nor go on for ever. Unaware of what is checked.
//!
//! Each test runs for about a second; `KILN_FUZZ_SECONDS` says otherwise. A failure prints its input, and its seed, with
//! which `ARBTEST_SEED=0x…` repeats it.

mod mutate;
mod watch;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

pub use arbtest::arbitrary::{self, Arbitrary, Unstructured};

use watch::Watch;

/// Greatest number of random bytes that one input is made from.
const RANDOM_BYTES: u32 = 4096;

/// A fuzz test to be.
#[derive(Debug)]
pub struct Fuzz {
    name: &'static str,
    samples: Vec<Vec<u8>>,
    words: Vec<Vec<u8>>,
    factor: u64,
    constant: u64,
    budget: Duration,
}

/// What a run found out.
#[derive(Debug, Default)]
struct Tally {
    inputs: u64,
    /// Greatest memory that a check held, and for how many bytes of input.
    peak: (u64, usize),
}

impl Fuzz {
    /// A test; it is called `name` in what it prints.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            samples: Vec::new(),
            words: Vec::new(),
            factor: 64,
            constant: 2 << 20,
            budget: budget(),
        }
    }

    /// Inputs that mean something, to be changed at random.
    #[must_use]
    pub fn samples<S: AsRef<[u8]>>(mut self, samples: impl IntoIterator<Item = S>) -> Self {
        self.samples.extend(samples.into_iter().map(|sample| sample.as_ref().to_vec()));
        self
    }

    /// What inputs are made of: put into samples at random.
    #[must_use]
    pub fn words<S: AsRef<[u8]>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.words.extend(words.into_iter().map(|word| word.as_ref().to_vec()));
        self
    }

    /// The memory that a check may hold at once: `factor` times its input, and `constant` bytes.
    #[must_use]
    pub fn memory(mut self, factor: u64, constant: u64) -> Self {
        self.factor = factor;
        self.constant = constant;
        self
    }

    /// Checks bytes.
    ///
    /// # Panics
    /// Where the check does, or takes more memory than it may.
    pub fn bytes(self, check: impl Fn(&[u8])) {
        self.drive(|u, judge| {
            let input = mutate::input(u, &self.samples, &self.words)?;
            judge(&input, input.len(), &|| check(&input));
            Ok(())
        });
    }

    /// Checks texts.
    ///
    /// # Panics
    /// As [`Fuzz::bytes`].
    pub fn texts(self, check: impl Fn(&str)) {
        self.drive(|u, judge| {
            let input = mutate::input(u, &self.samples, &self.words)?;
            let text = String::from_utf8_lossy(&input);
            judge(text.as_bytes(), text.len(), &|| check(&text));
            Ok(())
        });
    }

    /// Checks values that `make` puts together; `size` says how many bytes one counts for.
    ///
    /// # Panics
    /// As [`Fuzz::bytes`].
    pub fn values<T: std::fmt::Debug>(
        self,
        make: impl Fn(&mut Unstructured<'_>) -> arbitrary::Result<T>,
        size: impl Fn(&T) -> usize,
        check: impl Fn(&T),
    ) {
        self.drive(|u, judge| {
            let value = make(u)?;
            // Said by its seed only: writing each value out would take longer than checking it.
            judge(b"(made from the seed)", size(&value), &|| check(&value));
            Ok(())
        });
    }

    fn drive(
        &self,
        mut one: impl FnMut(
            &mut Unstructured<'_>,
            &mut dyn FnMut(&[u8], usize, &dyn Fn()),
        ) -> arbitrary::Result<()>,
    ) {
        let watch = Watch::start(self.name);
        let tally = RefCell::new(Tally::default());
        let begun = Instant::now();
        arbtest::arbtest(|u| {
            one(u, &mut |input, size, check| {
                watch.enter(input);
                let held = self.measured(input, check);
                watch.leave();
                let allowed = self.factor * size as u64 + self.constant;
                assert!(
                    held <= allowed,
                    "{}: {held} bytes of memory for {size} bytes of input, {allowed} are allowed: {}",
                    self.name,
                    input.escape_ascii()
                );
                let mut tally = tally.borrow_mut();
                tally.inputs += 1;
                tally.peak = tally.peak.max((held, size));
            })
        })
        .size_max(RANDOM_BYTES)
        .budget(self.budget)
        .run();
        let Tally { inputs, peak: (held, size) } = tally.into_inner();
        assert!(inputs > 0, "{}: no input was tried", self.name);
        eprintln!(
            "{}: {inputs} inputs in {:.1} s; at most {held} bytes of memory, for {size} bytes of input",
            self.name,
            begun.elapsed().as_secs_f64()
        );
    }

    /// Greatest memory that the check held at once.
    fn measured(&self, input: &[u8], check: &dyn Fn()) -> u64 {
        let mut outcome = Ok(());
        let counted = allocation_counter::measure(|| {
            outcome = catch_unwind(AssertUnwindSafe(check));
        });
        if let Err(panic) = outcome {
            eprintln!("{}: the input, {} bytes: {}", self.name, input.len(), input.escape_ascii());
            resume_unwind(panic);
        }
        counted.bytes_max
    }
}

fn budget() -> Duration {
    let seconds = std::env::var("KILN_FUZZ_SECONDS").ok();
    let seconds = seconds.map(|text| text.parse().expect("KILN_FUZZ_SECONDS is a number"));
    Duration::from_secs_f64(seconds.unwrap_or(1.0))
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    /// A test that goes on until it has found what it is to find, however loaded the machine.
    fn thorough(name: &'static str) -> Fuzz {
        Fuzz { budget: Duration::from_secs(120), ..Fuzz::new(name) }
    }

    fn fails(fuzz: impl FnOnce()) -> bool {
        catch_unwind(AssertUnwindSafe(fuzz)).is_err()
    }

    #[test]
    fn a_panic_behind_a_change_of_a_sample_is_found() {
        assert!(fails(|| thorough("cut").samples(["{}"]).bytes(|bytes| {
            assert!(bytes != b"{", "cut off");
        })));
    }

    #[test]
    fn memory_beyond_the_bound_is_found() {
        let fuzz = |fuzz: Fuzz| fuzz.memory(1, 1000);
        assert!(fails(|| fuzz(thorough("memory")).bytes(|bytes| {
            black_box(vec![0u8; 2 * bytes.len() + 1001]);
        })));
        fuzz(Fuzz::new("memory")).bytes(|bytes| {
            black_box(vec![0u8; bytes.len() + 1000]);
        });
    }

    #[test]
    fn words_get_into_texts() {
        assert!(fails(|| thorough("words").samples(["ab"]).words(["é!"]).texts(|text| {
            assert!(!(text.contains("é!") && text.len() > 3));
        })));
    }
}
