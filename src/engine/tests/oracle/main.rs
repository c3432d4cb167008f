//! The oracle: random recipes, random edits, damage and failures; every build is held against what it must come to.
//!
//! After each build: results, verdicts, failures and skipped steps are those that follow from the graph; no step
//! ran whose resolved inputs had been built before; equal inputs had equal keys and different ones different keys;
//! what was planned happened; and in the end the outputs are those of a clean build in a new store.
//!
//! `KILN_ORACLE_CASES` says how many cases run, `KILN_ORACLE_SEED` runs one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod builders;
mod chance;
mod draft;
mod expectation;
mod fake;
mod function;
mod world;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering},
};

use chance::Chance;
use draft::Draft;
use kiln_cache::Object;
use world::{Outcome, Request, World};

/// Cases of a plain test run.
const CASES: u64 = 1500;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// What was done in a case, to be shown if it fails.
struct Story {
    edits: Vec<String>,
    draft: Option<Draft>,
}

fn case(seed: u64, length: usize, story: &mut Story) {
    let mut chance = Chance::new(seed);
    let wobbling = chance.once_in(5);
    let mut draft = Draft::random(&mut chance, wobbling);
    let mut world = World::new(chance.once_in(3));
    let mut last: Option<Outcome> = None;
    for round in 0..length {
        if round > 0 {
            for _ in 0..1 + chance.below(2) {
                story.edits.push(draft.edit(&mut chance));
            }
            let act = damage(&mut chance, &mut world, last.as_ref());
            story.edits.push(act.to_owned());
        }
        let request = Request::random(&mut chance, &draft);
        story.edits.push(format!("build: {request:?}"));
        story.draft = Some(draft.clone());
        world.write(&draft);
        let outcome = world.build(&draft, &request);
        last = request.remember.then_some(outcome);
    }
    story.edits.push("build everything, twice, and once more in a new store".into());
    let built = world.build(&draft, &Request::plain());
    let again = world.build(&draft, &Request::plain());
    if built.whole {
        assert!(again.ran.is_empty(), "the second of two builds ran {:?}", again.ran);
    }
    if !wobbling {
        let mut clean = World::new(false);
        clean.write(&draft);
        let clean = clean.build(&draft, &Request::plain());
        assert_eq!(outputs(&built), outputs(&clean), "a clean build gives something else");
    }
}

/// Outputs by step and name.
fn outputs(outcome: &Outcome) -> BTreeMap<(String, String), Object> {
    let reports = outcome.reports.values();
    reports
        .flat_map(|report| {
            let outputs = report.outputs.iter();
            outputs.map(|(name, output)| ((report.step.clone(), name.clone()), output.object()))
        })
        .collect()
}

fn damage(chance: &mut Chance, world: &mut World, last: Option<&Outcome>) -> &'static str {
    match chance.below(12) {
        0..=2 => {
            world.lose_object(chance);
            "an object is lost"
        }
        3 => {
            world.lose_record(chance);
            "a record is lost"
        }
        4 | 5 => {
            world.collect(last);
            "the collector runs"
        }
        6 => {
            world.touch(chance);
            "a file is written again as it is"
        }
        7 => {
            world.reopen();
            "the store is opened again"
        }
        _ => "no damage",
    }
}

/// Runs a case with fewer and fewer rounds while it still fails, and panics with the shortest story.
fn run(seed: u64) {
    for length in 1..=6 {
        let mut story = Story { edits: Vec::new(), draft: None };
        let full = length == 6;
        if !full && number("KILN_ORACLE_SEED").is_none() {
            continue;
        }
        let result = catch_unwind(AssertUnwindSafe(|| case(seed, length, &mut story)));
        if result.is_err() {
            let draft = story.draft.expect("a case begins with a draft");
            panic!(
                "the oracle disagrees; KILN_ORACLE_SEED={seed} finds the shortest story\n{}\n\n{draft:?}",
                story.edits.join("\n")
            );
        }
    }
}

#[test]
fn every_build_comes_to_what_follows_from_the_recipe() {
    if let Some(seed) = number("KILN_ORACLE_SEED") {
        return run(seed);
    }
    let cases = number("KILN_ORACLE_CASES").unwrap_or(CASES);
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(2, |threads| threads.get().min(8));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= cases {
                        break;
                    }
                    run(seed);
                }
            });
        }
    });
}
