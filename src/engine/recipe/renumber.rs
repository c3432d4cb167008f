//! Steps put in order, with every reference following its step.

use crate::graph::{Part, Reference, Step, StepId, Value};

/// New numbers for steps.
pub(super) struct Renumbering(Vec<u32>);

impl Renumbering {
    /// The reference after renumbering.
    pub(super) fn of(&self, reference: Reference) -> Reference {
        match reference {
            Reference::Source(_) => reference,
            Reference::Output(step, output) => {
                Reference::Output(StepId(self.0[step.index()]), output)
            }
        }
    }

    fn value(&self, value: &mut Value) {
        match value {
            Value::Text(parts) => {
                for part in parts {
                    if let Part::Input(reference) = part {
                        *reference = self.of(*reference);
                    }
                }
            }
            Value::List(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::Table(fields) => fields.values_mut().for_each(|field| self.value(field)),
            Value::Input(reference) => *reference = self.of(*reference),
            Value::Bool(_) | Value::Int(_) | Value::Float(_) => {}
        }
    }
}

/// The steps in `order`, each reference following its step.
pub(super) fn renumbered(steps: Vec<Step>, order: &[usize]) -> (Vec<Step>, Renumbering) {
    let mut numbers = vec![0; order.len()];
    for (new, &old) in order.iter().enumerate() {
        numbers[old] = new as u32;
    }
    let numbering = Renumbering(numbers);
    let mut slots: Vec<Option<Step>> = steps.into_iter().map(Some).collect();
    let steps = order
        .iter()
        .filter_map(|&old| {
            let mut step = slots[old].take()?;
            let values = step
                .args
                .values_mut()
                .chain(step.implementation.values_mut())
                .chain(step.env.values_mut());
            for value in values {
                numbering.value(value);
            }
            for output in &mut step.outputs {
                output.alias = output.alias.map(|alias| numbering.of(alias));
            }
            step.inputs.iter_mut().for_each(|input| *input = numbering.of(*input));
            step.inputs.sort_unstable();
            Some(step)
        })
        .collect();
    (steps, numbering)
}
