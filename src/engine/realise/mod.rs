//! Building: makes the outputs of the steps that were asked for exist.
//!
//! One thread, the owner, holds the whole state and changes it; workers carry steps out and send back what came of
//! it. Steps are known before they are made: a step whose result is on record costs a look-up, and the bytes
//! of its inputs are asked for only if it, or what was asked for, really needs them.

mod lending;
mod node;
mod owner;
mod report;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
    sync::Arc,
    time::Instant,
};

use kiln_cache::{Digest, FsError, Realisation, Store};
use rayon::prelude::*;

pub use self::lending::beyond_gpus;
use self::owner::Owner;
use crate::{
    attempt::Failed,
    event::{BuildReport, Event},
    gpu::Pool,
    graph::{Reference, StepId},
    outside::Outside,
    resolve::{BuildError, Context, closure, resolve},
    schedule::Capacity,
};

/// What is asked of a build.
#[derive(Clone, Debug)]
pub struct Options {
    /// The steps whose outputs have to be there. See [`crate::resolve::default_targets`].
    pub targets: Vec<StepId>,
    /// What the machine has to give.
    pub capacity: Capacity,
    /// Its GPUs; `capacity` counts them.
    pub gpus: Arc<Pool>,
    /// Go on after a failure with whatever does not depend on it.
    pub keep_going: bool,
    /// Carry these out once more, and count the new results from now on.
    pub again: BTreeSet<StepId>,
    /// Carry these out once more, and compare.
    pub check: BTreeSet<StepId>,
    /// Of which steps the report says where the outputs are: all, or only those that were asked for.
    pub locate_all: bool,
}

/// A build that ended, well or not.
pub struct Built {
    /// What came of each step.
    pub report: BuildReport,
    /// The results that are now in force, by step.
    pub results: BTreeMap<StepId, Realisation>,
    /// The host path of each output that is here, by reference.
    pub paths: BTreeMap<Reference, PathBuf>,
    /// Why steps failed, with their logs.
    pub failures: BTreeMap<StepId, Failed>,
    /// What was found outside of the store.
    pub outside: Outside,
}

/// Makes the outputs of `options.targets` exist, telling `emit` what happens.
///
/// # Errors
/// If sources are missing, or the store cannot be used. Steps that fail are no error: the report says so.
pub fn build(
    context: &Context<'_>,
    options: &Options,
    emit: &mut dyn FnMut(Event<'_>),
) -> Result<Built, BuildError> {
    let started = Instant::now();
    let graph = context.graph;
    let session = context.store.session()?;
    let asked = options.targets.iter().chain(&options.again).chain(&options.check);
    let steps = closure(graph, asked.copied());
    let resolution = resolve(context, &steps)?;
    // Before anybody looks whether they are in the store: the collector must not take them from under a step. Most
    // steps have the key that they had, and what is held already costs nothing more when the step comes to it.
    let latest = steps.iter().filter_map(|&id| context.history.latest(&graph.step(id).name));
    let latest: Vec<Digest> = latest.collect();
    session.hold(&latest, &resolution.objects())?;
    // What is to be recorded anew is not looked up in advance.
    let recorded = match options.again.is_empty() {
        true => recorded(context.store, &latest)?,
        false => HashMap::new(),
    };
    emit(Event::Begun { steps: steps.len() });
    let mut owner = Owner::new(context, options, &resolution, &session, recorded, emit);
    owner.run(&steps)?;
    context.store.flush()?;
    let outside = Outside::of(graph, &steps, &resolution);
    Ok(owner.finish(&steps, outside, started))
}

/// What is recorded under `keys`, looked up on all cores.
fn recorded(store: &Store, keys: &[Digest]) -> Result<HashMap<Digest, Realisation>, FsError> {
    let found = keys.par_iter().with_min_len(256).map(|key| {
        let recorded = store.realisation(key)?;
        Ok(recorded.map(|recorded| (*key, recorded)))
    });
    found.filter_map(Result::transpose).collect()
}
