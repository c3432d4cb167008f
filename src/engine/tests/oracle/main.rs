//! The oracle: random recipes, random edits, damage and failures; every build is held against what it must come to.
//!
//! What must come of a build is worked out from the recipe as the oracle thinks of it, without the engine: what each
//! step reads and makes, what is on record, what is lost, what is remembered. Then: results, verdicts, failures and
//! skipped steps are those; exactly that ran which had to, as often as it had to, for the reasons that there were; what
//! was planned happened; equal inputs have equal keys and different ones different keys; the collector leaves what is
//! remembered and takes all else.
//!
//! `KILN_ORACLE_CASES` says how many cases run, `KILN_ORACLE_FROM` the first one, `KILN_ORACLE_SEED` runs one. A case
//! that fails is made simpler while it fails.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod builders;
mod chance;
mod damage;
mod draft;
mod drafted;
mod evaluated;
mod expectation;
mod fake;
mod function;
mod judge;
mod ledger;
mod memory;
mod needs;
mod reading;
mod regressions;
mod request;
mod script;
mod site;
mod told;
mod world;

use std::{
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use script::{Script, Story};

/// Cases of a plain test run.
const CASES: u64 = 2_000;

/// How many failing cases are shown.
const SHOWN: usize = 3;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

thread_local! {
    /// Where and why this thread panicked last. What a worker of the engine's died of comes without a place.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Plays a script. `Err` with what was done and what was wrong, if something was.
fn play(script: &Script) -> Result<(), String> {
    let mut story = Story::default();
    PANIC.take();
    catch_unwind(AssertUnwindSafe(|| script.play(&mut story))).map_err(|panic| {
        let mut wrong = PANIC.take();
        if wrong.is_empty() {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            wrong = format!("a worker panicked: {}", text.unwrap_or_default());
        }
        format!("{}\n\n{:?}\n\n{wrong}", story.lines.join("\n"), story.draft)
    })
}

/// Plays the case `seed`; if it fails, the simplest one that does.
fn run(seed: u64) -> Result<(), String> {
    let mut script = Script::new(seed);
    let Err(mut told) = play(&script) else { return Ok(()) };
    'simpler: loop {
        for simpler in script.simpler() {
            if let Err(shorter) = play(&simpler) {
                (script, told) = (simpler, shorter);
                continue 'simpler;
            }
        }
        return Err(format!("KILN_ORACLE_SEED={seed}\n{script:?}\n{told}"));
    }
}

#[test]
fn every_build_comes_to_what_follows_from_the_recipe() {
    let first = number("KILN_ORACLE_SEED").or_else(|| number("KILN_ORACLE_FROM")).unwrap_or(0);
    let cases = match number("KILN_ORACLE_SEED") {
        Some(_) => 1,
        None => number("KILN_ORACLE_CASES").unwrap_or(CASES),
    };
    let next = AtomicU64::new(first);
    let failed: Mutex<Vec<String>> = Mutex::default();
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().unwrap();
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(|panic| PANIC.set(panic.to_string())));
    let threads = std::thread::available_parallelism().map_or(2, |threads| threads.get().min(8));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                // The engine's parallel walks over a handful of files cost more in waking threads than in files.
                let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
                alone.install(|| {
                    while failed.lock().unwrap().len() < SHOWN {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= first + cases {
                            break;
                        }
                        if let Err(told) = run(seed) {
                            failed.lock().unwrap().push(told);
                        }
                    }
                });
            });
        }
    });
    std::panic::set_hook(usual);
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "the oracle disagrees:\n{}", failed.join("\n\n"));
    println!("{cases} cases from {first} on agree");
}
