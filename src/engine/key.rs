//! The action key: what decides whether work was done before.
//!
//! One `walk` goes over everything that can change a step's result, with inputs replaced by what they now
//! stand for. It has two visitors: `KeyHasher` feeds the hash, `Recorder` writes the [`Manifest`], the
//! key's readable twin. Since both see the same items, an explanation cannot disagree with the key, and a
//! manifest can be hashed again to prove it.
//!
//! # Encoding (format 1)
//!
//! The key is BLAKE3 in `derive_key` mode, context [`CONTEXT`], over a sequence of items. An item is
//!
//! ```text
//! u32 LE  length of the path, then the path: its segments joined by NUL
//! u8      tag (see `Item::tag`)
//! u64 LE  length of the payload, then the payload
//! ```
//!
//! Payloads: integers are 8 bytes little-endian, numbers IEEE 754 binary64 little-endian with −0 as 0, flags
//! one byte, texts UTF-8, objects their text form, counts 8 bytes. A text with references is a sequence of
//! parts: a byte (0 text, 1 input, 2 output), a u64 LE length, and the text, the input's place in decimal, or the
//! output's name. Fields are visited in the order of their names, tables in the order of their keys,
//! lists in their own; each list and table is preceded by its length. An input's place is the number of other inputs that the
//! walk met before it.
//!
//! This module is unaware of files, of the store and of what steps do.

use std::{collections::BTreeMap, fmt::Write as _};

use kiln_cache::{Digest, Object};
use serde::{Deserialize, Serialize};

use crate::graph::{Availability, Determinism, Part, Reference, Step, Toolchain, Value};

/// The version of the encoding; the first item of every key.
pub const FORMAT: i64 = 1;

/// Separates action keys from all other uses of BLAKE3.
pub const CONTEXT: &str = "kiln 2026-11 action key";

/// Everything that a step's key is made of.
pub struct Subject<'a> {
    /// The step.
    pub step: &'a Step,
    /// What its references stand for.
    pub inputs: &'a dyn Inputs,
    /// The contents of `files`: recipe-relative path and object.
    pub files: &'a BTreeMap<String, Object>,
    /// The values of `pass_env`; `None` where unset.
    pub passed: &'a BTreeMap<String, Option<String>>,
    /// What it can run: facts by name.
    pub toolchain: &'a [(String, String)],
    /// Architecture and operating system, `x86_64-linux`.
    pub platform: &'a str,
}

/// Answers what references stand for.
pub trait Inputs {
    /// The content, and the extension under which a step sees it; `None` for an absent one.
    fn input(&self, reference: Reference) -> Option<(Object, &str)>;
    /// How the recipe spells it. For people; never hashed.
    fn label(&self, reference: Reference) -> String;
}

/// The inputs of a step by place: number N is seen at `/build/in/N.EXT`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places(Vec<Reference>);

impl Places {
    /// In the order of their places.
    pub fn iter(&self) -> impl Iterator<Item = (u32, Reference)> {
        self.0.iter().enumerate().map(|(place, &reference)| (place as u32, reference))
    }

    /// The place of `reference`, which is given the next one if it has none.
    pub fn place(&mut self, reference: Reference) -> u32 {
        let known = self.0.iter().position(|&other| other == reference);
        known.unwrap_or_else(|| {
            self.0.push(reference);
            self.0.len() - 1
        }) as u32
    }

    /// The place of `reference`, if it has one.
    pub fn find(&self, reference: Reference) -> Option<u32> {
        self.0.iter().position(|&other| other == reference).map(|place| place as u32)
    }
}

/// One thing that was walked over.
enum Item<'a> {
    Text(&'a str),
    Int(i64),
    Float(f64),
    Flag(bool),
    List(usize),
    Table(usize),
    Parts(&'a [KeyPart]),
    Object(Object),
    Place(u32),
    Absent,
}

/// A piece of text with references as places.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyPart {
    /// As it is.
    Text(String),
    /// An input, by place.
    In(u32),
    /// An output, by name.
    Out(String),
}

impl Item<'_> {
    fn tag(&self) -> u8 {
        match self {
            Item::Text(_) => 1,
            Item::Int(_) => 2,
            Item::Float(_) => 3,
            Item::Flag(_) => 4,
            Item::List(_) => 5,
            Item::Table(_) => 6,
            Item::Parts(_) => 7,
            Item::Object(_) => 8,
            Item::Place(_) => 9,
            Item::Absent => 10,
        }
    }
}

/// Sees each item of the walk, in order.
trait Visitor {
    fn item(&mut self, path: &str, item: Item<'_>);
    /// What people call the input at the item's path. Not part of the key.
    fn label(&mut self, _label: &dyn Fn() -> String) {}
}

/// Computes the action key of `subject`, and where its inputs are placed.
pub fn action_key(subject: &Subject<'_>) -> (Digest, Places) {
    let mut hasher = KeyHasher::new();
    let places = walk(subject, &mut hasher);
    (hasher.finish(), places)
}

/// Writes down what went into the action key of `subject`.
pub fn manifest(subject: &Subject<'_>) -> Manifest {
    let mut recorder = Recorder::default();
    walk(subject, &mut recorder);
    Manifest { items: recorder.items }
}

struct Walk<'a, V> {
    subject: &'a Subject<'a>,
    visitor: &'a mut V,
    path: String,
    places: Places,
}

fn walk<V: Visitor>(subject: &Subject<'_>, visitor: &mut V) -> Places {
    let mut walk =
        Walk { subject, visitor, path: String::with_capacity(64), places: Places::default() };
    walk.all();
    walk.places
}

impl<V: Visitor> Walk<'_, V> {
    fn all(&mut self) {
        let Subject { step, files, toolchain, platform, .. } = *self.subject;
        self.leaf("format", Item::Int(FORMAT));
        self.table("args", &step.args);
        self.leaf("builder", Item::Text(&step.builder.to_string()));
        self.leaf("determinism", Item::Text(determinism_word(step.determinism)));
        self.environment();
        self.within("files", |walk| {
            walk.here(Item::Table(files.len()));
            for (path, object) in files {
                walk.leaf(path, Item::Object(*object));
            }
        });
        // How many there are decides how fast it goes; whether there is one decides what a program does. Builders that
        // kiln brings make the same bytes either way.
        if step.resources.gpus > 0 && step.builder.is_command() {
            self.leaf("gpu", Item::Flag(true));
        }
        self.leaf("network", Item::Flag(step.network));
        self.outputs();
        if step.platform {
            self.leaf("platform", Item::Text(platform));
        }
        self.leaf("salt", Item::Text(&step.salt));
        self.within("toolchain", |walk| {
            // A library of which nothing was found is none.
            let word = match &step.toolchain {
                Toolchain::Library(_) if toolchain.is_empty() => {
                    toolchain_word(&Toolchain::Builtin)
                }
                own => toolchain_word(own),
            };
            walk.here(Item::Text(word));
            walk.here(Item::Table(toolchain.len()));
            for (name, fact) in toolchain {
                walk.leaf(name, Item::Text(fact));
            }
        });
        // Last, since the fields above decide the places.
        self.inputs();
        for value in step.implementation.values() {
            self.place_implementation(value);
        }
    }

    fn environment(&mut self) {
        let Subject { step, passed, .. } = *self.subject;
        self.within("env", |walk| {
            let names: std::collections::BTreeSet<&String> =
                step.env.keys().chain(passed.keys()).collect();
            walk.here(Item::Table(names.len()));
            for name in names {
                walk.within(name, |walk| match (step.env.get(name), passed.get(name)) {
                    (Some(value), _) => walk.value(value),
                    (None, Some(Some(value))) => walk.here(Item::Text(value)),
                    (None, _) => walk.here(Item::Absent),
                });
            }
        });
    }

    fn outputs(&mut self) {
        let step = self.subject.step;
        self.within("outputs", |walk| {
            walk.here(Item::Table(step.outputs.len()));
            for output in &step.outputs {
                walk.within(&output.name, |walk| {
                    walk.here(Item::Text(&output.file));
                    walk.here(Item::Flag(output.availability == Availability::IfAccepted));
                    match output.alias {
                        Some(reference) => {
                            let place = walk.places.place(reference);
                            walk.here(Item::Place(place));
                        }
                        None => walk.here(Item::Absent),
                    }
                });
            }
        });
    }

    fn inputs(&mut self) {
        let places = self.places.clone();
        let inputs = self.subject.inputs;
        self.within("inputs", |walk| {
            walk.here(Item::List(places.0.len()));
            for (place, reference) in places.iter() {
                walk.within(&place.to_string(), |walk| match inputs.input(reference) {
                    Some((object, extension)) => {
                        walk.here(Item::Text(extension));
                        walk.here(Item::Object(object));
                        walk.visitor.label(&|| inputs.label(reference));
                    }
                    None => {
                        walk.here(Item::Absent);
                        walk.visitor.label(&|| inputs.label(reference));
                    }
                });
            }
        });
    }

    fn place_implementation(&mut self, value: &Value) {
        match value {
            Value::Input(reference) => {
                self.places.place(*reference);
            }
            Value::List(values) => values.iter().for_each(|value| self.place_implementation(value)),
            Value::Table(values) => {
                values.values().for_each(|value| self.place_implementation(value));
            }
            Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) => {}
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Bool(flag) => self.here(Item::Flag(*flag)),
            Value::Int(number) => self.here(Item::Int(*number)),
            Value::Float(number) => self.here(Item::Float(*number)),
            Value::Text(parts) => match parts.as_slice() {
                [] => self.here(Item::Text("")),
                [Part::Text(text)] => self.here(Item::Text(text)),
                parts => {
                    let parts: Vec<KeyPart> = parts.iter().map(|part| self.part(part)).collect();
                    self.here(Item::Parts(&parts));
                }
            },
            Value::List(values) => {
                self.here(Item::List(values.len()));
                for (index, value) in values.iter().enumerate() {
                    self.within(&index.to_string(), |walk| walk.value(value));
                }
            }
            Value::Table(values) => {
                self.here(Item::Table(values.len()));
                for (name, value) in values {
                    self.within(name, |walk| walk.value(value));
                }
            }
            Value::Input(reference) => {
                let place = self.places.place(*reference);
                self.here(Item::Place(place));
            }
        }
    }

    fn part(&mut self, part: &Part) -> KeyPart {
        match part {
            Part::Text(text) => KeyPart::Text(text.clone()),
            Part::Input(reference) => KeyPart::In(self.places.place(*reference)),
            Part::Output(number) => {
                KeyPart::Out(self.subject.step.outputs[*number as usize].name.clone())
            }
        }
    }

    fn table(&mut self, name: &str, values: &BTreeMap<String, Value>) {
        self.within(name, |walk| {
            walk.here(Item::Table(values.len()));
            for (name, value) in values {
                walk.within(name, |walk| walk.value(value));
            }
        });
    }

    fn leaf(&mut self, name: &str, item: Item<'_>) {
        self.within(name, |walk| walk.here(item));
    }

    fn here(&mut self, item: Item<'_>) {
        self.visitor.item(&self.path, item);
    }

    fn within(&mut self, name: &str, visit: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        if length > 0 {
            self.path.push('\0');
        }
        self.path.push_str(name);
        visit(self);
        self.path.truncate(length);
    }
}

/// The word for a determinism, as the recipe writes it.
pub fn determinism_word(determinism: Determinism) -> &'static str {
    match determinism {
        Determinism::Bitwise => "bitwise",
        Determinism::Tolerance(_) => "tolerance",
        Determinism::None => "none",
    }
}

fn toolchain_word(toolchain: &Toolchain) -> &'static str {
    match toolchain {
        Toolchain::Builtin => "builtin",
        Toolchain::Library(_) => "library",
        Toolchain::Host => "host",
        Toolchain::Tools(_) => "tools",
    }
}

/// The visitor that hashes.
struct KeyHasher(blake3::Hasher);

impl KeyHasher {
    fn new() -> Self {
        Self(blake3::Hasher::new_derive_key(CONTEXT))
    }

    fn finish(&self) -> Digest {
        Digest::from_bytes(*self.0.finalize().as_bytes())
    }

    fn payload(&mut self, payload: &[u8]) {
        self.0.update(&(payload.len() as u64).to_le_bytes());
        self.0.update(payload);
    }
}

impl Visitor for KeyHasher {
    fn item(&mut self, path: &str, item: Item<'_>) {
        self.0.update(&(path.len() as u32).to_le_bytes());
        self.0.update(path.as_bytes());
        self.0.update(&[item.tag()]);
        match item {
            Item::Text(text) => self.payload(text.as_bytes()),
            Item::Int(number) => self.payload(&number.to_le_bytes()),
            Item::Float(number) => self.payload(&canonical_zero(number).to_le_bytes()),
            Item::Flag(flag) => self.payload(&[u8::from(flag)]),
            Item::List(count) | Item::Table(count) => self.payload(&(count as u64).to_le_bytes()),
            Item::Parts(parts) => self.payload(&encode_parts(parts)),
            Item::Object(object) => self.payload(object.to_string().as_bytes()),
            Item::Place(place) => self.payload(&u64::from(place).to_le_bytes()),
            Item::Absent => self.payload(&[]),
        }
    }
}

fn encode_parts(parts: &[KeyPart]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        let (tag, text) = match part {
            KeyPart::Text(text) => (0, text.clone()),
            KeyPart::In(place) => (1, place.to_string()),
            KeyPart::Out(name) => (2, name.clone()),
        };
        bytes.push(tag);
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text.as_bytes());
    }
    bytes
}

fn canonical_zero(number: f64) -> f64 {
    if number == 0.0 { 0.0 } else { number }
}

/// What went into a key, item by item.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// In the order of the walk.
    pub items: Vec<ManifestItem>,
}

/// One item of a [`Manifest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestItem {
    /// The path: `["args", "epochs"]`.
    pub at: Vec<String>,
    /// What stood there.
    #[serde(flatten)]
    pub value: ManifestValue,
    /// How the recipe spelled the input, where it is one. Not in the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// The value of a [`ManifestItem`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ManifestValue {
    /// Text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// A number, as its shortest text that reads back to the same bits.
    Float(String),
    /// A truth value.
    Flag(bool),
    /// A list of so many values follows.
    List(u64),
    /// A table of so many values follows.
    Table(u64),
    /// Text with references.
    Parts(Vec<KeyPart>),
    /// A file or a tree.
    Object(Object),
    /// An input by place.
    Place(u32),
    /// Nothing.
    Absent,
}

/// A manifest's text that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the key manifest cannot be read")]
pub struct ManifestError(#[from] serde_json::Error);

impl Manifest {
    /// One item a line, as a JSON array.
    pub fn to_text(&self) -> String {
        let mut text = String::from("[\n");
        for (index, item) in self.items.iter().enumerate() {
            let line =
                serde_json::to_string(item).expect("manifest items hold no map but of strings");
            let comma = if index + 1 == self.items.len() { "" } else { "," };
            let _ = writeln!(text, "{line}{comma}");
        }
        text.push_str("]\n");
        text
    }

    /// Reads what [`Manifest::to_text`] wrote.
    pub fn from_text(text: &str) -> Result<Self, ManifestError> {
        Ok(Self { items: serde_json::from_str(text)? })
    }

    /// The action key of which this is the manifest.
    pub fn key(&self) -> Digest {
        let mut hasher = KeyHasher::new();
        for ManifestItem { at, value, .. } in &self.items {
            let path = at.join("\0");
            let item = match value {
                ManifestValue::Text(text) => Item::Text(text),
                ManifestValue::Int(number) => Item::Int(*number),
                ManifestValue::Float(text) => Item::Float(text.parse().unwrap_or(f64::NAN)),
                ManifestValue::Flag(flag) => Item::Flag(*flag),
                ManifestValue::List(count) => Item::List(*count as usize),
                ManifestValue::Table(count) => Item::Table(*count as usize),
                ManifestValue::Parts(parts) => Item::Parts(parts),
                ManifestValue::Object(object) => Item::Object(*object),
                ManifestValue::Place(place) => Item::Place(*place),
                ManifestValue::Absent => Item::Absent,
            };
            hasher.item(&path, item);
        }
        hasher.finish()
    }

    /// The inputs that were there, by label: object and extension.
    pub fn inputs_with_extensions(&self) -> BTreeMap<&str, (Object, &str)> {
        let pairs =
            self.items.windows(2).filter_map(|pair| match (&pair[0].value, &pair[1].value) {
                (ManifestValue::Text(extension), ManifestValue::Object(object)) => {
                    Some((pair[1].label.as_deref()?, (*object, extension.as_str())))
                }
                _ => None,
            });
        pairs.collect()
    }

    /// The inputs: label and object, in the order of their places.
    pub fn inputs(&self) -> impl Iterator<Item = (&str, Option<Object>)> {
        self.items.iter().filter_map(|item| {
            let object = match item.value {
                ManifestValue::Object(object) => Some(object),
                _ => None,
            };
            item.label.as_deref().map(|label| (label, object))
        })
    }
}

/// The visitor that writes down.
#[derive(Default)]
struct Recorder {
    items: Vec<ManifestItem>,
}

impl Visitor for Recorder {
    fn item(&mut self, path: &str, item: Item<'_>) {
        let value = match item {
            Item::Text(text) => ManifestValue::Text(text.to_owned()),
            Item::Int(number) => ManifestValue::Int(number),
            Item::Float(number) => ManifestValue::Float(format!("{:?}", canonical_zero(number))),
            Item::Flag(flag) => ManifestValue::Flag(flag),
            Item::List(count) => ManifestValue::List(count as u64),
            Item::Table(count) => ManifestValue::Table(count as u64),
            Item::Parts(parts) => ManifestValue::Parts(parts.to_vec()),
            Item::Object(object) => ManifestValue::Object(object),
            Item::Place(place) => ManifestValue::Place(place),
            Item::Absent => ManifestValue::Absent,
        };
        let at = path.split('\0').map(str::to_owned).collect();
        self.items.push(ManifestItem { at, value, label: None });
    }

    fn label(&mut self, label: &dyn Fn() -> String) {
        if let Some(item) = self.items.last_mut() {
            item.label = Some(label());
        }
    }
}
