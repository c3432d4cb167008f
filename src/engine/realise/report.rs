//! What is told of a build: one report a step, and the whole at the end.

use std::{collections::BTreeMap, time::Instant};

use super::{Built, node::Phase, owner::Owner};
use crate::{
    event::{BuildReport, How, OutputReport, StepReport},
    graph::{Reference, StepId},
    key::determinism_word,
    outside::Outside,
};

impl Owner<'_, '_> {
    /// What came of one step so far.
    pub(super) fn step_report(&self, id: StepId) -> StepReport {
        let step = self.context.graph.step(id);
        let node = &self.nodes[id.index()];
        let store = self.context.store;
        let result = node.result.as_ref();
        let outputs = result.map_or_else(BTreeMap::new, |result| {
            let outputs = result.outputs.iter().map(|output| {
                let report = OutputReport {
                    kind: output.object.kind,
                    digest: output.object.digest,
                    executable: output.object.executable,
                    path: None,
                    bytes: output.bytes,
                };
                (output.name.clone(), report)
            });
            outputs.collect()
        });
        let verdict = result.and_then(|result| result.verdict.as_ref());
        let reason = match &node.phase {
            Phase::Failed => node.failure.as_ref().map(|failed| failed.reason.clone()),
            Phase::Skipped(reason) => Some(reason.clone()),
            Phase::Known | Phase::Running(_) => verdict.map(|verdict| verdict.reason.clone()),
            _ => Some(self.stop_reason()),
        };
        let log = match &node.failure {
            Some(failed) => failed.log,
            None => result.and_then(|result| result.log),
        };
        StepReport {
            step: step.name.clone(),
            action_key: node.key,
            how: if matches!(node.phase, Phase::Known | Phase::Running(_) | Phase::Failed) {
                node.how
            } else {
                How::Skipped
            },
            verdict: verdict.map(Into::into),
            reason,
            determinism: determinism_word(step.determinism),
            isolation: result.map(|result| result.isolation),
            outputs,
            seconds: result.map_or(0.0, |result| result.cost.seconds),
            log: log.map(|log| store.path(&log)),
            why: node.why.clone(),
            attempts: match node.attempts.as_slice() {
                [] | [_] => Vec::new(),
                several => several.to_vec(),
            },
            unchecked: node.unchecked.clone(),
            differences: node.findings.differences.clone(),
            deviation: node.findings.deviation.clone(),
            log_tail: node.failure.as_ref().map(|failed| failed.tail.clone()).unwrap_or_default(),
            help: node.failure.as_ref().and_then(|failed| failed.help.clone()),
        }
    }

    /// The whole, once nothing runs any more.
    pub(super) fn finish(mut self, steps: &[StepId], outside: Outside, started: Instant) -> Built {
        let mut built = Built {
            report: BuildReport {
                recipe: self.context.graph.name.clone(),
                steps: Vec::with_capacity(steps.len()),
                seconds: 0.0,
                interrupted: self.context.cancel.is_tripped(),
            },
            results: BTreeMap::new(),
            paths: BTreeMap::new(),
            failures: BTreeMap::new(),
            outside,
        };
        for &id in steps {
            let mut report = self.step_report(id);
            if self.options.locate_all || self.options.targets.contains(&id) {
                for (number, output) in self.context.graph.step(id).outputs.iter().enumerate() {
                    let reference = Reference::Output(id, number as u32);
                    let Some(shown) = report.outputs.get_mut(&output.name) else { continue };
                    let path = match self.context.graph.origin(reference) {
                        Reference::Source(source) if self.options.targets.contains(&id) => {
                            self.resolution.sources[&source].lasting(self.context.store)
                        }
                        _ => None,
                    };
                    let object = shown.object();
                    let stored = || {
                        self.context
                            .store
                            .contains(&object)
                            .then(|| self.context.store.path(&object))
                    };
                    shown.path = path.or_else(stored);
                    if let Some(path) = &shown.path {
                        built.paths.insert(reference, path.clone());
                    }
                }
            }
            built.report.steps.push(report);
        }
        for &id in steps {
            let node = &mut self.nodes[id.index()];
            if let Some(result) = node.result.take() {
                built.results.insert(id, result);
            }
            if let Some(failed) = node.failure.take() {
                built.failures.insert(id, failed);
            }
        }
        built.report.seconds = started.elapsed().as_secs_f64();
        built
    }
}
