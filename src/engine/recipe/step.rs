//! What steps of all kinds have in common.

use std::collections::{BTreeMap, BTreeSet};

use super::{parse::StepDecl, problems::Problems};
use crate::graph::{BuilderId, Part, Reference, Step, Toolchain, Value};

/// A step with what every step says, and nothing else.
pub(super) fn bare(decl: &StepDecl<'_>, problems: &Problems) -> Step {
    Step {
        name: decl.name.to_owned(),
        builder: BuilderId { name: String::new(), version: 0 },
        args: BTreeMap::new(),
        implementation: BTreeMap::new(),
        files: Vec::new(),
        env: BTreeMap::new(),
        pass_env: Vec::new(),
        toolchain: Toolchain::Builtin,
        outputs: Vec::new(),
        determinism: decl.determinism,
        network: false,
        salt: String::new(),
        platform: false,
        gate: false,
        resources: decl.resources,
        params: BTreeSet::new(),
        inputs: Vec::new(),
        at: problems.place(decl.at.clone()),
    }
}

/// Every reference in the step, once each, sorted.
pub(super) fn inputs(step: &Step) -> Vec<Reference> {
    fn visit(value: &Value, found: &mut BTreeSet<Reference>) {
        match value {
            Value::Text(parts) => found.extend(parts.iter().filter_map(|part| match part {
                Part::Input(reference) => Some(*reference),
                Part::Text(_) | Part::Output(_) => None,
            })),
            Value::List(items) => items.iter().for_each(|item| visit(item, found)),
            Value::Table(fields) => fields.values().for_each(|field| visit(field, found)),
            Value::Input(reference) => {
                found.insert(*reference);
            }
            Value::Bool(_) | Value::Int(_) | Value::Float(_) => {}
        }
    }
    let mut found = BTreeSet::new();
    for value in step.args.values().chain(step.implementation.values()).chain(step.env.values()) {
        visit(value, &mut found);
    }
    found.into_iter().collect()
}
