//! The part of the owner that lends GPUs to steps.
//!
//! A step gets its slots first and then its GPUs, which other kilns of the machine may have. While they do, it waits
//! without slots, so that others run.

use super::{
    node::Phase,
    owner::{Lent, Owner},
};
use crate::{
    attempt::{Failed, Outcome},
    diagnostic::chain,
    event::Event,
    graph::StepId,
};

impl Owner<'_, '_> {
    /// The GPUs that a step needs which holds its slots.
    pub(super) fn lend(&mut self, step: StepId) -> Lent {
        let resources = self.context.graph.step(step).resources;
        let count = resources.gpus_of(self.options.gpus.len());
        if count == 0 {
            if resources.gpus > 0 && !self.told_of_cpu {
                self.told_of_cpu = true;
                let name = &self.context.graph.step(step).name;
                let text = format!(
                    "`{name}` is computed on the CPU: there is no GPU that this build may use"
                );
                (self.emit)(Event::Note(&text));
            }
            return Lent::Ready(None);
        }
        match self.options.gpus.lease(count) {
            Ok(Some(lease)) => return Lent::Ready(Some(lease)),
            Ok(None) => {
                if self.told_to_wait.insert(step) {
                    let name = &self.context.graph.step(step).name;
                    let text = format!("`{name}` waits for {} that others use", counted(count));
                    (self.emit)(Event::Note(&text));
                }
                self.awaiting_gpus.push(step);
            }
            Err(error) => {
                let help = "a folder that others cannot write to keeps them out: remove it, or let its owner open it";
                self.fail(step, Failed::new(chain(&error)).helped(help));
            }
        }
        self.slots.release(step);
        Lent::Nothing
    }

    /// Puts the steps in the queue again that waited for GPUs, if they still want any.
    pub(super) fn ask_again(&mut self) {
        let waiting = std::mem::take(&mut self.awaiting_gpus);
        let still = |step: &StepId| matches!(self.nodes[step.index()].phase, Phase::Queued(_));
        let waiting: Vec<StepId> = waiting.into_iter().filter(still).collect();
        if waiting.is_empty() {
            self.options.gpus.give_way();
        }
        for step in waiting {
            self.queue(step);
        }
    }

    /// Fails a step that asks for more GPUs than there are, before anything is done for it. Whether it did.
    pub(super) fn is_beyond_gpus(&mut self, step: StepId) -> bool {
        let there = self.options.gpus.len();
        let asked = self.context.graph.step(step).resources.gpus_of(there);
        if asked <= there {
            return false;
        }
        let help = "lower its `gpus`, or build it where there are as many";
        self.fail(step, Failed::new(beyond_gpus(asked, there)).helped(help));
        true
    }

    /// Says of which steps it is not known yet whether they have to run, and that they cannot.
    pub(super) fn warn_of_gpus(&mut self, steps: &[StepId]) {
        for &step in steps {
            let definition = self.context.graph.step(step);
            let there = self.options.gpus.len();
            let asked = definition.resources.gpus_of(there);
            if asked > there && matches!(self.nodes[step.index()].phase, Phase::Resolving) {
                let reason = beyond_gpus(asked, there);
                let text = format!("if `{}` has to run, it will fail: {reason}", definition.name);
                (self.emit)(Event::Note(&text));
            }
        }
    }

    fn fail(&mut self, step: StepId, failed: Failed) {
        self.done(step, Outcome::Failed(failed));
    }
}

/// Why a step cannot run that asks for so many GPUs where there are only so many.
pub fn beyond_gpus(asked: u32, there: u32) -> String {
    let there = match there {
        0 => "there is none".to_owned(),
        1 => "there is 1".to_owned(),
        more => format!("there are {more}"),
    };
    format!("it asks for {}, and {there} that this build may use", counted(asked))
}

fn counted(count: u32) -> String {
    if count == 1 { "1 GPU".to_owned() } else { format!("{count} GPUs") }
}
