//! How things stand, given what steps came out as: keys, what is withheld, what is lost.
//!
//! A build and a plan judge by the same rules, which stand here once. This module changes nothing, and is unaware of
//! how results come to be.

use kiln_cache::{Object, Output, Realisation};

use crate::{
    graph::{Reference, StepId},
    key::{Inputs, Subject},
    resolve::{Context, Resolution},
};

/// Answers what steps came out as.
pub trait Results {
    /// The result of a step, once it is known.
    fn result(&self, step: StepId) -> Option<&Realisation>;
}

/// What is known at some moment of a build or a plan.
pub struct Standing<'a> {
    /// The recipe, the store, and what surrounds them.
    pub context: &'a Context<'a>,
    /// Sources and grounds.
    pub resolution: &'a Resolution,
    /// What steps came out as.
    pub results: &'a dyn Results,
}

impl Standing<'_> {
    /// What the key of `step` is made of. Its inputs have to be known.
    pub fn subject(&self, step: StepId) -> Subject<'_> {
        let ground = &self.resolution.grounds[&step];
        Subject {
            step: self.context.graph.step(step),
            inputs: self,
            files: &ground.objects,
            passed: &ground.passed,
            toolchain: &ground.toolbox.facts,
            platform: self.context.surroundings.platform(),
        }
    }

    /// Why an input of a step will never exist: its gate rejected, or what it stands for is absent.
    pub fn withheld(&self, step: StepId) -> Option<String> {
        let graph = self.context.graph;
        graph.step(step).inputs.iter().find_map(|&input| {
            let Reference::Output(upstream, output) = input else { return None };
            let result = self.results.result(upstream)?;
            let name = &graph.step(upstream).outputs[output as usize].name;
            if result.output(name).is_some() {
                return None;
            }
            Some(match &result.verdict {
                Some(verdict) if !verdict.accepted => {
                    format!("`{}` rejected: {}", graph.step(upstream).name, verdict.reason)
                }
                _ => format!("`{}` does not exist", graph.spell(input)),
            })
        })
    }

    /// The first output with bytes of its own that a step has made and that is not in the store.
    pub fn lost(&self, step: StepId) -> Option<&str> {
        let outputs = &self.context.graph.step(step).outputs;
        outputs.iter().enumerate().find_map(|(number, output)| {
            let reference = Reference::Output(step, number as u32);
            (output.alias.is_none() && !self.is_present(reference)).then_some(output.name.as_str())
        })
    }

    /// The steps, other than itself, that make what the outputs of `step` stand for. What its gate rejected stands
    /// for nothing.
    pub fn makers_behind(&self, step: StepId) -> Vec<StepId> {
        let graph = self.context.graph;
        let result = self.results.result(step);
        let outputs = graph.step(step).outputs.iter().enumerate();
        let exist = outputs.filter(|(_, output)| {
            result.is_none_or(|result| result.output(&output.name).is_some())
        });
        let makers = exist.filter_map(|(number, _)| {
            match graph.origin(Reference::Output(step, number as u32)) {
                Reference::Output(maker, _) if maker != step => Some(maker),
                _ => None,
            }
        });
        makers.collect()
    }

    /// Whether the bytes behind a reference can be read, or nothing has to be.
    pub fn is_present(&self, reference: Reference) -> bool {
        match self.context.graph.origin(reference) {
            Reference::Source(_) => true,
            Reference::Output(step, number) => {
                let Some(result) = self.results.result(step) else { return false };
                let name = &self.context.graph.step(step).outputs[number as usize].name;
                result.output(name).is_none_or(|output| self.context.store.contains(&output.object))
            }
        }
    }

    /// Output `number` of a step, if its result is known and has it.
    pub fn output(&self, step: StepId, number: u32) -> Option<&Output> {
        let name = &self.context.graph.step(step).outputs[number as usize].name;
        self.results.result(step)?.output(name)
    }
}

impl Inputs for Standing<'_> {
    fn input(&self, reference: Reference) -> Option<(Object, &str)> {
        match reference {
            Reference::Source(id) => {
                let source = &self.resolution.sources[&id];
                Some((source.object?, &source.extension))
            }
            Reference::Output(step, number) => {
                let output = self.output(step, number)?;
                Some((output.object, &output.extension))
            }
        }
    }

    fn label(&self, reference: Reference) -> String {
        self.context.graph.spell(reference)
    }
}
