//! Random recipes and edits with the built binary: what is built is what the programs make of it, what ran is what had
//! to, and `status` had said so. The engine's own oracle goes through far more cases without running programs.
//!
//! `KILN_ORACLE_E2E_CASES` says how many cases run, `KILN_ORACLE_E2E_FROM` the first one, `KILN_ORACLE_E2E_SEED` runs one.
//! A case that fails is made simpler while it fails.

mod case;
#[path = "../../src/engine/tests/oracle/chance.rs"]
mod chance;
mod draft;
mod judge;
mod model;
mod request;
mod spelled;
mod telltale;
mod together;
mod world;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use self::case::Case;

/// Cases of a plain test run.
const CASES: u64 = 120;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

fn play(case: &Case) -> Result<(), String> {
    let mut story = String::new();
    catch_unwind(AssertUnwindSafe(|| case.play(&mut story))).map_err(|panic| {
        let wrong = panic.downcast_ref::<String>().cloned();
        let wrong = wrong.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
        format!("{story}\n{}", wrong.unwrap_or_default())
    })
}

/// Plays the case `seed`; if it fails, the simplest one that does.
fn run(seed: u64) -> Result<(), String> {
    let mut case = Case::new(seed);
    let Err(mut told) = play(&case) else { return Ok(()) };
    'simpler: loop {
        for simpler in case.simpler() {
            if let Err(shorter) = play(&simpler) {
                (case, told) = (simpler, shorter);
                continue 'simpler;
            }
        }
        return Err(format!("KILN_ORACLE_E2E_SEED={seed}\n{case:?}\n{told}"));
    }
}

#[test]
fn every_build_is_what_the_programs_make_and_exactly_that_ran_which_had_to() {
    let one = number("KILN_ORACLE_E2E_SEED");
    let first = one.or_else(|| number("KILN_ORACLE_E2E_FROM")).unwrap_or(0);
    let cases = match one {
        Some(_) => 1,
        None => number("KILN_ORACLE_E2E_CASES").unwrap_or(CASES),
    };
    let next = AtomicU64::new(first);
    let failed: Mutex<Vec<String>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(2, |threads| threads.get().min(8));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while failed.lock().unwrap().is_empty() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + cases {
                        break;
                    }
                    if let Err(told) = run(seed) {
                        failed.lock().unwrap().push(told);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "the oracle disagrees:\n{}", failed.join("\n\n"));
    println!("{cases} cases from {first} on agree");
}
