//! The graph as a tree of text, from what is wanted down to what it is made of.

use std::collections::BTreeSet;

use kiln_engine::graph::{Graph, Reference, StepId};

/// Draws `targets` and what they need; with `all`, deployments stand above what they release.
pub fn draw(graph: &Graph, targets: &[StepId], all: bool) -> String {
    let mut drawing = Drawing { graph, text: format!("{}\n", graph.name), drawn: BTreeSet::new() };
    let mut roots: Vec<(String, Vec<Reference>)> = Vec::new();
    if all {
        for deployment in &graph.deployments {
            let after = deployment
                .after
                .as_ref()
                .map_or_else(String::new, |after| format!(", after {after}"));
            roots.push((format!("deploy.{}{after}", deployment.name), vec![deployment.release]));
        }
    }
    let released: BTreeSet<StepId> = roots
        .iter()
        .flat_map(|(_, releases)| releases)
        .filter_map(|release| match release {
            Reference::Output(step, _) => Some(*step),
            Reference::Source(_) => None,
        })
        .collect();
    let rest: Vec<StepId> =
        targets.iter().copied().filter(|target| !released.contains(target)).collect();
    let count = roots.len() + rest.len();
    for (number, (title, releases)) in roots.into_iter().enumerate() {
        let last = number + 1 == count;
        drawing.line("", last, &title);
        drawing.inputs(if last { "   " } else { "│  " }, &releases);
    }
    for (number, &step) in rest.iter().enumerate() {
        drawing.step("", number + 1 == rest.len(), step, None);
    }
    drawing.text
}

struct Drawing<'a> {
    graph: &'a Graph,
    text: String,
    drawn: BTreeSet<StepId>,
}

impl Drawing<'_> {
    fn line(&mut self, prefix: &str, last: bool, line: &str) {
        self.text.push_str(&format!("{prefix}{} {line}\n", if last { "└─" } else { "├─" }));
    }

    /// Inputs, those of one step together.
    fn inputs(&mut self, prefix: &str, inputs: &[Reference]) {
        let mut groups: Vec<(Option<StepId>, Vec<Reference>)> = Vec::new();
        for &input in inputs {
            let step = match input {
                Reference::Output(step, _) => Some(step),
                Reference::Source(_) => None,
            };
            match groups.iter_mut().find(|(other, _)| step.is_some() && *other == step) {
                Some((_, group)) => group.push(input),
                None => groups.push((step, vec![input])),
            }
        }
        let count = groups.len();
        for (number, (step, group)) in groups.into_iter().enumerate() {
            let last = number + 1 == count;
            match (step, group.as_slice()) {
                (Some(step), group) => self.step(prefix, last, step, Some(group)),
                (None, [Reference::Source(id)]) => {
                    let source = self.graph.source(*id);
                    let line =
                        format!("sources.{}: {}", source.name, super::origin(&source.origin));
                    self.line(prefix, last, &line);
                }
                (None, _) => {}
            }
        }
    }

    fn step(&mut self, prefix: &str, last: bool, id: StepId, read: Option<&[Reference]>) {
        let step = self.graph.step(id);
        let outputs: Vec<String> = read
            .unwrap_or_default()
            .iter()
            .filter_map(|&reference| {
                let Reference::Output(_, number) = reference else { return None };
                let name = &step.outputs[number as usize].name;
                let origin = self.graph.origin(reference);
                match (origin == reference, name == "out" && step.outputs.len() == 1) {
                    (true, true) => None,
                    (true, false) => Some(name.clone()),
                    (false, _) => Some(format!("{name} = {}", self.graph.spell(origin))),
                }
            })
            .collect();
        let outputs =
            if outputs.is_empty() { String::new() } else { format!(" [{}]", outputs.join(", ")) };
        let again = !self.drawn.insert(id);
        let gate = if step.gate { ", gate" } else { "" };
        let above = if again && !step.inputs.is_empty() { ", as above" } else { "" };
        self.line(
            prefix,
            last,
            &format!("{} ({}{gate}){outputs}{above}", step.name, step.builder.name),
        );
        if !again {
            let prefix = format!("{prefix}{}", if last { "   " } else { "│  " });
            self.inputs(&prefix, &step.inputs.clone());
        }
    }
}
