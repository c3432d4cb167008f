//! What a build would do, found out without doing it.
//!
//! It judges by the rules of a build ([`crate::standing`]); what it cannot know, since it depends on what an earlier
//! step will make, it says. Nothing runs and nothing is recorded; sources are read and snapshotted as always.

use std::collections::BTreeMap;

use kiln_cache::{Digest, Object, Realisation};

use crate::{
    explain::{self, Reason},
    graph::{Reference, StepId},
    key::{self, Inputs, Manifest, Subject},
    realise::Options,
    resolve::{BuildError, Context, Resolution, closure, resolve},
    standing::{Results, Standing},
};

/// What a build would do with each step.
pub struct Plan {
    /// One for each step in the closure of the targets, inputs first.
    pub steps: Vec<Planned>,
    /// What the steps read from outside.
    pub resolution: Resolution,
}

/// What a build would do with a step.
#[derive(Debug)]
pub struct Planned {
    /// Which step.
    pub step: StepId,
    /// Its action key, if its inputs are known.
    pub key: Option<Digest>,
    /// The result that its key has now, whether or not it can be used.
    pub result: Option<Realisation>,
    /// What would happen.
    pub outlook: Outlook,
}

/// What would happen to a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outlook {
    /// Its result is there.
    UpToDate,
    /// It would run.
    WouldRun(Reason),
    /// Steps before it would run first; whether it has to depends on what they make.
    MayRun {
        /// Those that would run for sure.
        after: Vec<StepId>,
    },
    /// It cannot be reached.
    Withheld(String),
}

impl Results for Vec<Option<Realisation>> {
    fn result(&self, step: StepId) -> Option<&Realisation> {
        self[step.index()].as_ref()
    }
}

/// Finds out what a build with these options would do.
///
/// # Errors
/// If sources are missing, or the store cannot be read.
pub fn plan(context: &Context<'_>, options: &Options) -> Result<Plan, BuildError> {
    let steps = closure(context.graph, options.targets.iter().copied());
    let resolution = resolve(context, &steps)?;
    let mut planner = Planner {
        context,
        options,
        resolution: &resolution,
        known: vec![None; context.graph.steps.len()],
        planned: context.graph.steps.iter().map(|_| None).collect(),
    };
    for &step in &steps {
        let planned = planner.judge(step)?;
        planner.planned[step.index()] = Some(planned);
    }
    planner.require_bytes(&steps);
    let planned = planner.planned.into_iter().flatten().collect();
    Ok(Plan { steps: planned, resolution })
}

struct Planner<'a> {
    context: &'a Context<'a>,
    options: &'a Options,
    resolution: &'a Resolution,
    /// The results that a build would go on from, by step.
    known: Vec<Option<Realisation>>,
    planned: Vec<Option<Planned>>,
}

impl Planner<'_> {
    fn standing(&self) -> Standing<'_> {
        Standing { context: self.context, resolution: self.resolution, results: &self.known }
    }

    /// What becomes of a step, as far as its key and its record tell.
    fn judge(&mut self, step: StepId) -> Result<Planned, BuildError> {
        let graph = self.context.graph;
        let mut after = Vec::new();
        for upstream in graph.step(step).upstream() {
            match self.planned[upstream.index()].as_ref().map(|planned| &planned.outlook) {
                Some(Outlook::Withheld(_)) => {
                    let reason = format!("`{}` was skipped", graph.step(upstream).name);
                    return Ok(unknown(step, Outlook::Withheld(reason)));
                }
                Some(Outlook::WouldRun(_)) => after.push(upstream),
                Some(Outlook::MayRun { after: roots }) => after.extend(roots),
                Some(Outlook::UpToDate) | None => {}
            }
        }
        let standing = self.standing();
        // Whatever else has to run first, a gate that has rejected stays in the way.
        if let Some(reason) = standing.withheld(step) {
            return Ok(unknown(step, Outlook::Withheld(reason)));
        }
        if !after.is_empty() {
            after.sort_unstable();
            after.dedup();
            return Ok(unknown(step, Outlook::MayRun { after }));
        }
        let subject = standing.subject(step);
        let (key, _) = key::action_key(&subject);
        let record = self.context.store.realisation(&key)?;
        let name = &graph.step(step).name;
        let outlook = match &record {
            _ if self.options.again.contains(&step) => Outlook::WouldRun(Reason::Again),
            Some(record) if record.isolation < self.context.executor.isolation() => {
                Outlook::WouldRun(Reason::WeakerIsolation { recorded: record.isolation })
            }
            Some(_) => Outlook::UpToDate,
            None => {
                let reason = explain::reason(self.context, name, key, &|| key::manifest(&subject));
                Outlook::WouldRun(reason)
            }
        };
        if outlook == Outlook::UpToDate {
            self.known[step.index()].clone_from(&record);
        }
        Ok(Planned { step, key: Some(key), result: record, outlook })
    }

    /// Steps that are known and whose bytes are asked for, but gone, have to run too: outputs of targets, and
    /// inputs of steps that run.
    fn require_bytes(&mut self, steps: &[StepId]) {
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        enum Asked {
            No,
            Perhaps,
            Surely,
        }
        let graph = self.context.graph;
        let mut asked = vec![Asked::No; graph.steps.len()];
        for target in &self.options.targets {
            asked[target.index()] = Asked::Surely;
        }
        for &step in steps.iter().rev() {
            let standing = self.standing();
            let planned = self.planned[step.index()].as_ref();
            let withheld =
                planned.is_some_and(|planned| matches!(planned.outlook, Outlook::Withheld(_)));
            let own = if withheld { Asked::No } else { asked[step.index()] };
            if own > Asked::No {
                for maker in standing.makers_behind(step) {
                    asked[maker.index()] = asked[maker.index()].max(own);
                }
            }
            let lost = standing.lost(step).map(str::to_owned);
            let Some(planned) = &mut self.planned[step.index()] else { continue };
            if planned.outlook == Outlook::UpToDate {
                match (own, lost) {
                    (Asked::Surely, Some(output)) => {
                        let lost = explain::output_lost(
                            self.context.store,
                            planned.result.as_ref(),
                            output,
                        );
                        planned.outlook = Outlook::WouldRun(lost);
                    }
                    (Asked::Perhaps, Some(_)) => {
                        planned.outlook = Outlook::MayRun { after: Vec::new() }
                    }
                    _ if self.options.check.contains(&step) => {
                        planned.outlook = Outlook::WouldRun(Reason::Check);
                    }
                    _ => {}
                }
            }
            let need = match planned.outlook {
                Outlook::WouldRun(_) => Asked::Surely,
                Outlook::MayRun { .. } => Asked::Perhaps,
                Outlook::UpToDate | Outlook::Withheld(_) => continue,
            };
            for &input in &graph.step(step).inputs {
                if let Reference::Output(maker, _) = graph.origin(input) {
                    asked[maker.index()] = asked[maker.index()].max(need);
                }
            }
        }
    }
}

fn unknown(step: StepId, outlook: Outlook) -> Planned {
    Planned { step, key: None, result: None, outlook }
}

impl Plan {
    /// What is planned for `step`, if it is in the plan.
    pub fn step(&self, step: StepId) -> Option<&Planned> {
        // They stand in the order of their numbers.
        let at = self.steps.binary_search_by_key(&step, |planned| planned.step).ok()?;
        self.steps.get(at)
    }

    /// What goes into the key of `step`, if its inputs are known.
    pub fn manifest(&self, context: &Context<'_>, step: StepId) -> Option<Manifest> {
        self.step(step)?.key?;
        let standing = Standing { context, resolution: &self.resolution, results: self };
        Some(key::manifest(&standing.subject(step)))
    }

    /// The same as far as it can be known: an input that is not made yet counts as what it was in `before`.
    pub fn manifest_so_far(
        &self,
        context: &Context<'_>,
        step: StepId,
        before: &Manifest,
    ) -> Option<Manifest> {
        self.step(step)?;
        let standing = Standing { context, resolution: &self.resolution, results: self };
        let inputs = SoFar { standing: &standing, before: before.inputs_with_extensions() };
        Some(key::manifest(&Subject { inputs: &inputs, ..standing.subject(step) }))
    }
}

/// Inputs as they are, or as they were.
struct SoFar<'a> {
    standing: &'a Standing<'a>,
    before: BTreeMap<&'a str, (Object, &'a str)>,
}

impl Inputs for SoFar<'_> {
    fn input(&self, reference: Reference) -> Option<(Object, &str)> {
        self.standing.input(reference).or_else(|| self.before.get(&*self.label(reference)).copied())
    }

    fn label(&self, reference: Reference) -> String {
        self.standing.label(reference)
    }
}

impl Results for Plan {
    fn result(&self, step: StepId) -> Option<&Realisation> {
        self.step(step)?.result.as_ref()
    }
}

#[cfg(test)]
mod tests;
