//! What steps compute: pure functions of what they read, defined once for the executor and for the expectation.
//!
//! Results are cut down to few values, so that different inputs often give the same output.

use std::{collections::BTreeMap, fmt::Write as _};

use kiln_cache::{Digest, Leaf, Object, Tree, Verdict};
use kiln_engine::graph::{Determinism, Part, Reference, Step, Value};

/// What a step sees of an input: the name in the folder of inputs, and the content.
pub type Seen = (String, Option<Object>);

/// Everything that a step reads, as text: equal for two runs exactly if they may share a result.
pub fn readings(
    step: &Step,
    files: &BTreeMap<String, Object>,
    see: &mut dyn FnMut(Reference) -> Seen,
) -> String {
    let outputs: Vec<_> = step.outputs.iter().map(|output| (&output.name, &output.file)).collect();
    let mut text = format!(
        "{} {:?} {:?} {:?} {} {files:?} ",
        step.builder, step.determinism, outputs, step.toolchain, step.salt
    );
    for (name, value) in step.args.iter().chain(&step.env) {
        let _ = write!(text, "{name}=");
        read(value, step, see, &mut text);
    }
    text
}

fn read(value: &Value, step: &Step, see: &mut dyn FnMut(Reference) -> Seen, text: &mut String) {
    let mut input = |reference, text: &mut String| {
        let (name, object) = see(reference);
        let object = object.map_or("absent".to_owned(), |object| object.to_string());
        let _ = write!(text, "<{name} {object}>");
    };
    match value {
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
            let _ = write!(text, "{value:?};");
        }
        Value::Text(parts) => {
            text.push('"');
            for part in parts {
                match part {
                    Part::Text(piece) => {
                        let _ = write!(text, "{piece:?}");
                    }
                    Part::Input(reference) => input(*reference, text),
                    Part::Output(number) => {
                        let _ = write!(text, "<out {}>", step.outputs[*number as usize].name);
                    }
                }
            }
            text.push('"');
        }
        Value::List(values) => {
            text.push('[');
            values.iter().for_each(|value| read(value, step, see, text));
            text.push(']');
        }
        Value::Table(fields) => {
            text.push('{');
            for (name, value) in fields {
                let _ = write!(text, "{name}=");
                read(value, step, see, text);
            }
            text.push('}');
        }
        Value::Input(reference) => input(*reference, text),
    }
}

/// One output with bytes of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A file.
    File { text: String, executable: bool },
    /// A folder with these files.
    Folder(BTreeMap<String, String>),
}

/// What comes of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
    /// The step fails.
    Failure,
    /// It makes these outputs, by name, and says this.
    Outputs(BTreeMap<String, Content>, Option<Verdict>),
}

fn number(readings: &str, what: &str) -> u64 {
    let digest = Digest::of(format!("{what}\0{readings}").as_bytes());
    u64::from_le_bytes(digest.as_bytes()[..8].try_into().expect("eight bytes"))
}

/// What a step makes of what it reads. `nonce` matters only to steps that promise no determinism.
pub fn made(step: &Step, readings: &str, nonce: u64) -> Made {
    if step.args.get("fragile") == Some(&Value::Bool(true))
        && number(readings, "fails").is_multiple_of(3)
    {
        return Made::Failure;
    }
    let wobble = if step.determinism == Determinism::None { nonce % 3 } else { 0 };
    let mut outputs = BTreeMap::new();
    for output in step.outputs.iter().filter(|output| output.alias.is_none()) {
        let keep = match step.args.get("parts") {
            Some(Value::Table(parts)) => match parts.get(&output.name) {
                Some(Value::Int(keep)) => *keep as u64,
                _ => 4,
            },
            _ => 4,
        };
        let value = number(readings, &output.name) % (keep + 1);
        let text = format!("{value}/{wobble}");
        let content = if output.name.ends_with('2') {
            let inner =
                BTreeMap::from([("a".to_owned(), text), ("b/c".to_owned(), keep.to_string())]);
            Content::Folder(inner)
        } else {
            Content::File { text, executable: value == 1 }
        };
        outputs.insert(output.name.clone(), content);
    }
    let verdict = step.gate.then(|| {
        let value = number(readings, "verdict") % 4;
        let Some(Value::Int(limit)) = step.args.get("limit") else { panic!("a gate has a limit") };
        Verdict { accepted: value >= *limit as u64, reason: format!("{value} against {limit}") }
    });
    Made::Outputs(outputs, verdict)
}

impl Content {
    /// The object that the store makes of it.
    pub fn object(&self) -> Object {
        match self {
            Self::File { text, executable: false } => Object::file(Digest::of(text.as_bytes())),
            Self::File { text, executable: true } => Object::program(Digest::of(text.as_bytes())),
            Self::Folder(files) => {
                tree(files.iter().map(|(name, text)| (name.as_str(), text.as_bytes(), false)))
            }
        }
    }
}

/// The tree with these files: path, bytes, whether executable.
pub fn tree<'a>(files: impl Iterator<Item = (&'a str, &'a [u8], bool)>) -> Object {
    let leaves = files.map(|(name, bytes, executable)| {
        (name, Leaf::File { digest: Digest::of(bytes), bytes: bytes.len() as u64, executable })
    });
    Object::tree(Tree::from_leaves(leaves).digest())
}
