//! What a check finds: how the outputs of a second run differ from those on record.

use kiln_cache::{IngestError, Realisation, Store, Verdict};

use crate::{
    difference::{Differences, Findings, Numbers},
    executor::Executed,
    graph::{Determinism, Step},
};

/// Holds a second run to what `step` says of itself.
pub(super) fn check(
    store: &Store,
    numbers: &dyn Numbers,
    step: &Step,
    recorded: &Realisation,
    executed: &Executed,
) -> Result<Findings, IngestError> {
    let tolerance = match step.determinism {
        Determinism::Tolerance(tolerance) => Some(tolerance),
        Determinism::Bitwise | Determinism::None => None,
    };
    let mut differences = Differences::new(store, tolerance.map(|tolerance| (tolerance, numbers)));
    let (before, now) = (&recorded.verdict, &executed.verdict);
    // A verdict's reason is full of numbers that may be a little different. What it comes to may not.
    let agree = match tolerance {
        Some(_) => accepted(before) == accepted(now),
        None => before == now,
    };
    if !agree {
        differences.say(format!("verdict: {} → {}", word(before), word(now)));
    }
    for output in step.outputs.iter().filter(|output| output.alias.is_none()) {
        let Some(before) = recorded.output(&output.name) else { continue };
        let path = executed.outputs.join(&output.file);
        if path.symlink_metadata().is_err() {
            differences.say(format!("{}: not made", output.name));
            continue;
        }
        let now = store.ingest(&path, super::taken(executed.isolation))?;
        if now.object != before.object {
            differences.between(&output.name, &output.file, before.object, now.object);
        }
    }
    Ok(differences.findings())
}

fn accepted(verdict: &Option<Verdict>) -> Option<bool> {
    verdict.as_ref().map(|verdict| verdict.accepted)
}

fn word(verdict: &Option<Verdict>) -> String {
    match verdict {
        Some(verdict) if verdict.accepted => format!("accepted ({})", verdict.reason),
        Some(verdict) => format!("rejected ({})", verdict.reason),
        None => "none".to_owned(),
    }
}
