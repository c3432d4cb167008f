//! What a step reads by what the engine made of the recipe's text.

use std::collections::BTreeMap;

use kiln_cache::Object;
use kiln_engine::graph::{Determinism, Part, Reference, Step, Toolchain, Value};

use crate::reading::{Piece, Reading};

/// What `step` reads, with these `files`.
pub fn reading(step: &Step, files: BTreeMap<String, Object>) -> Reading<Reference> {
    let outputs = step.outputs.iter();
    let number = |value: &Value| match value {
        Value::Int(number) => *number as u64,
        other => panic!("{other:?} is no number"),
    };
    let mut reading = Reading {
        builder: step.builder.to_string(),
        nondeterministic: step.determinism == Determinism::None,
        salt: step.salt.clone(),
        host: step.toolchain == Toolchain::Host,
        outputs: outputs
            .map(|output| (output.name.clone(), output.file.clone(), output.alias))
            .collect(),
        files,
        facts: Vec::new(),
        fragile: step.args.get("fragile") == Some(&Value::Bool(true)),
        keeps: match step.args.get("parts") {
            Some(Value::Table(parts)) => {
                parts.iter().map(|(name, keep)| (name.clone(), number(keep))).collect()
            }
            _ => BTreeMap::new(),
        },
        limit: step.args.get("limit").map(number),
    };
    for (name, value) in &step.args {
        read(step, name, value, &mut reading);
    }
    for (name, value) in &step.env {
        read(step, &format!("variable {name}"), value, &mut reading);
    }
    reading
}

fn read(step: &Step, subject: &str, value: &Value, reading: &mut Reading<Reference>) {
    let text = |text: String| vec![Piece::Text(text)];
    match value {
        Value::Bool(flag) => reading.say(subject, text(flag.to_string())),
        Value::Int(number) => reading.say(subject, text(number.to_string())),
        Value::Float(number) => reading.say(subject, text(format!("{number:?}"))),
        Value::Input(reference) => reading.say(subject, vec![Piece::In(*reference)]),
        Value::Text(parts) => {
            let pieces = parts.iter().map(|part| match part {
                Part::Text(text) => Piece::Text(text.clone()),
                Part::Input(reference) => Piece::In(*reference),
                Part::Output(number) => Piece::Out(step.outputs[*number as usize].name.clone()),
            });
            reading.say(subject, pieces.collect());
        }
        Value::List(values) => {
            reading.count(subject, values.len());
            for (at, value) in values.iter().enumerate() {
                read(step, &format!("{subject}[{at}]"), value, reading);
            }
        }
        Value::Table(fields) => {
            reading.count(subject, fields.len());
            for (name, value) in fields {
                read(step, &format!("{subject}.{name}"), value, reading);
            }
        }
    }
}
