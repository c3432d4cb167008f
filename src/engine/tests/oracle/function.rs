//! What steps compute: pure functions of what they read, defined once for the executor and for the expectation.
//!
//! Results are cut down to few values, so that different inputs often give the same output.

use std::collections::BTreeMap;

use kiln_cache::{Digest, Leaf, Object, Tree, Verdict};

use crate::{draft::FileDraft, reading::Reading};

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

/// What a step makes of what it reads, `text` being the whole of it. `nonce` matters only to steps that promise no
/// determinism.
pub fn made<L>(reading: &Reading<L>, text: &str, nonce: u64) -> Made {
    if reading.fragile && number(text, "fails").is_multiple_of(3) {
        return Made::Failure;
    }
    let wobble = if reading.nondeterministic { nonce % 3 } else { 0 };
    let mut outputs = BTreeMap::new();
    for (name, ..) in reading.outputs.iter().filter(|(.., alias)| alias.is_none()) {
        let keep = reading.keeps.get(name).copied().unwrap_or(4);
        let value = number(text, name) % (keep + 1);
        let said = format!("{value}/{wobble}");
        let content = if name.ends_with('2') {
            Content::Folder(BTreeMap::from([("a".into(), said), ("b/c".into(), keep.to_string())]))
        } else {
            Content::File { text: said, executable: value == 1 }
        };
        outputs.insert(name.clone(), content);
    }
    let verdict = reading.limit.map(|limit| {
        let value = number(text, "verdict") % 4;
        Verdict { accepted: value >= limit, reason: format!("{value} against {limit}") }
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

/// The object that a file of a draft is.
pub fn object(file: &FileDraft) -> Object {
    let digest = Digest::of(file.text.as_bytes());
    if file.executable { Object::program(digest) } else { Object::file(digest) }
}

/// The tree with these files: path, bytes, whether executable.
pub fn tree<'a>(files: impl Iterator<Item = (&'a str, &'a [u8], bool)>) -> Object {
    let leaves = files.map(|(name, bytes, executable)| {
        (name, Leaf::File { digest: Digest::of(bytes), bytes: bytes.len() as u64, executable })
    });
    Object::tree(Tree::from_leaves(leaves).digest())
}
