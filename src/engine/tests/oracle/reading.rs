//! What a step reads, in a form in which the draft's view and the engine's can be held side by side.
//!
//! Equal readings may share a result; different ones must not.

use std::{collections::BTreeMap, fmt::Write as _};

use kiln_cache::Object;

/// A piece of an argument; `L` is how an input is referred to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece<L> {
    Text(String),
    In(L),
    /// Where the step writes its output with this name.
    Out(String),
}

/// One argument or variable, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact<L> {
    /// As a person would name it: `inputs[0]`, `variable WHERE`.
    pub subject: String,
    pub pieces: Vec<Piece<L>>,
    /// How many parts a list or table has; they follow.
    pub count: Option<usize>,
}

/// Everything that a step reads.
#[derive(Clone, Debug)]
pub struct Reading<L> {
    pub builder: String,
    pub nondeterministic: bool,
    pub salt: String,
    /// Whether it can run the host's programs.
    pub host: bool,
    /// Names and file names of the outputs, and which input the output is, if it is one.
    pub outputs: Vec<(String, String, Option<L>)>,
    pub files: BTreeMap<String, Object>,
    /// In the order in which places are given to inputs.
    pub facts: Vec<Fact<L>>,
    /// Whether it may fail.
    pub fragile: bool,
    /// How many values each output can have.
    pub keeps: BTreeMap<String, u64>,
    /// What a gate asks for.
    pub limit: Option<u64>,
}

/// What a step sees of an input: the name in the folder of inputs, and the content.
pub type Seen = (String, Option<Object>);

impl<L: Copy + PartialEq> Reading<L> {
    /// Adds what has no parts.
    pub fn say(&mut self, subject: impl Into<String>, pieces: Vec<Piece<L>>) {
        self.facts.push(Fact { subject: subject.into(), pieces, count: None });
    }

    /// Adds that so many parts follow.
    pub fn count(&mut self, subject: impl Into<String>, count: usize) {
        self.facts.push(Fact { subject: subject.into(), pieces: Vec::new(), count: Some(count) });
    }

    /// The inputs by place.
    pub fn places(&self) -> Vec<L> {
        let mut places = Vec::new();
        let pieces = self.facts.iter().flat_map(|fact| &fact.pieces);
        let read = pieces.filter_map(|piece| match piece {
            Piece::In(link) => Some(*link),
            Piece::Text(_) | Piece::Out(_) => None,
        });
        for link in read.chain(self.outputs.iter().filter_map(|(.., alias)| *alias)) {
            if !places.contains(&link) {
                places.push(link);
            }
        }
        places
    }

    /// All of it as text.
    pub fn text(&self, see: &mut dyn FnMut(L) -> Seen) -> String {
        let mut text = format!(
            "{} {} {} host={} {:?} ",
            self.builder,
            if self.nondeterministic { "wobbles" } else { "steady" },
            self.salt,
            self.host,
            self.files
        );
        for (name, file, _) in &self.outputs {
            let _ = write!(text, "{name}>{file} ");
        }
        for fact in &self.facts {
            let _ = write!(text, "\n{}", fact.subject);
            if let Some(count) = fact.count {
                let _ = write!(text, "#{count}");
            }
            for piece in &fact.pieces {
                let _ = match piece {
                    Piece::Text(piece) => write!(text, "={piece:?}"),
                    Piece::Out(name) => write!(text, "=<out {name}>"),
                    Piece::In(link) => match see(*link) {
                        (name, Some(object)) => write!(text, "=<{name} {object}>"),
                        (name, None) => write!(text, "=<{name} absent>"),
                    },
                };
            }
        }
        text
    }
}

/// The name in the folder of inputs.
pub fn place_name(place: usize, extension: &str) -> String {
    if extension.is_empty() { place.to_string() } else { format!("{place}.{extension}") }
}
