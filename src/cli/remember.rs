//! What was built becomes the project's history: a root that keeps it, and what explanations compare with.

use std::time::{SystemTime, UNIX_EPOCH};

use kiln_cache::Store;
use kiln_engine::{
    graph::Graph,
    project::{Ended, Failure as FailedStep, History},
    realise::Built,
};

use super::failure::Failure;

/// Notes what was built as the project's root, if there is anything new.
pub fn remember(
    graph: &Graph,
    store: &Store,
    history: &mut History,
    built: &Built,
) -> Result<(), Failure> {
    if store.read_only().is_some() {
        return Ok(());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let report = &built.report;
    let ended = if report.failed() || report.rejected() || report.interrupted {
        Ended::Otherwise
    } else {
        Ended::Well
    };
    note(store, history, |history| {
        let mut news = false;
        let mut keys = Vec::with_capacity(built.results.len());
        for (&step, result) in &built.results {
            keys.push(result.key);
            news |= history.note(&graph.step(step).name, result.key);
        }
        for (&step, failed) in &built.failures {
            news = true;
            let failure = FailedStep {
                reason: failed.reason.clone(),
                log: failed.log,
                at_ms: i64::try_from(now.as_millis()).unwrap_or(i64::MAX),
            };
            history.note_failure(&graph.step(step).name, failure);
        }
        history.note_build(keys, ended) || news
    })?;
    // Whatever builds of this recipe that were killed had finished and is still of use was looked up by now, and the
    // project's root holds it. A build that did not come so far may have passed by some of it.
    if ended == Ended::Well && report.steps.len() == graph.steps.len() {
        store.forget_killed(&history.digest()).map_err(|error| unnoted(&error))?;
    }
    Ok(())
}

/// Brings a project's history up to date, changes it, and writes it down if the change is news.
pub fn note(
    store: &Store,
    history: &mut History,
    change: impl Fn(&mut History) -> bool,
) -> Result<(), Failure> {
    if store.read_only().is_some() {
        return Ok(());
    }
    // Who has no news writes nothing, and needs no room for it.
    if !change(&mut history.clone()) {
        change(history);
        return history.touch(store).map_err(|error| unnoted(&error));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Another kiln may have built this project meanwhile: what it noted stays.
    let _alone =
        store.lock_action(&history.digest(), &|| false).map_err(|error| unnoted(&error))?;
    history.reload(store).map_err(|error| unnoted(&error))?;
    if change(history) {
        let at = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        history.save(store, at).map_err(|error| unnoted(&error))?;
    } else {
        history.touch(store).map_err(|error| unnoted(&error))?;
    }
    Ok(())
}

/// A build that could not be noted.
pub fn unnoted(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::environment(error, "what was built is kept in the store; build again to note it")
}
