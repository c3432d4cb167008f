//! What `why` must say: the words for each thing that a key is made of, and what differs between two of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::OnceLock,
};

use kiln_cache::Object;

use crate::{draft::Link, expectation::Expected, reading::Piece, world::surroundings};

/// What a key is made of, by subject: in words, and whether it is something that another step made.
pub type Told = BTreeMap<String, (String, bool)>;

/// What the key of step number `at` is made of.
pub fn told(expected: &Expected<'_>, at: usize) -> Told {
    let draft = expected.draft;
    let reading = draft.reading(at);
    let mut told = Told::new();
    let mut say = |subject: String, text: String| drop(told.insert(subject, (text, false)));
    say("builder".into(), reading.builder.clone());
    say("determinism".into(), reading.nondeterministic.to_string());
    say("salt".into(), reading.salt.clone());
    say("toolchain".into(), reading.host.to_string());
    if reading.host {
        host().iter().for_each(|fact| say(fact.clone(), String::new()));
    }
    for (name, file, _) in &reading.outputs {
        say(format!("output {name}"), file.clone());
    }
    for (path, object) in &reading.files {
        say(format!("file {path}"), object.to_string());
    }
    for fact in &reading.facts {
        let text: String = fact
            .pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.clone(),
                Piece::Out(name) => format!("<{name}>"),
                Piece::In(link) => format!("${{{}}}", draft.spelled(*link)),
            })
            .collect();
        match fact.count {
            None => say(fact.subject.clone(), text),
            Some(0) => say(fact.subject.clone(), "[]".into()),
            // The parts themselves tell more than their number.
            Some(_) => {}
        }
    }
    for link in reading.places() {
        let label = draft.spelled(link);
        let object = expected.content(link);
        let text = object.map_or("absent".to_owned(), |object: Object| object.to_string());
        told.insert(format!("input {label}"), (text, matches!(link, Link::Step(..))));
        if object.is_some() {
            let extension = expected.extension(link).to_owned();
            told.insert(format!("extension of input {label}"), (extension, false));
        }
    }
    told
}

/// What the host's identity consists of.
fn host() -> &'static [String] {
    static HOST: OnceLock<Vec<String>> = OnceLock::new();
    HOST.get_or_init(|| {
        let fields = surroundings().host().fields().into_iter().map(|(name, _)| name);
        fields.chain(["platform".to_owned()]).collect()
    })
}

/// The subjects that differ: causes, and what merely follows from what other steps made.
pub fn differing(before: &Told, now: &Told) -> [BTreeSet<String>; 2] {
    let mut found = [BTreeSet::new(), BTreeSet::new()];
    let subjects: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    for subject in subjects {
        let (old, new) = (before.get(subject), now.get(subject));
        let came_or_went = old.is_none() || new.is_none();
        if old.map(|(text, _)| text) == new.map(|(text, _)| text)
            || (came_or_went && subject.starts_with("extension of "))
        {
            continue;
        }
        let follows = new.or(old).is_some_and(|(_, follows)| *follows);
        found[usize::from(follows)].insert(subject.clone());
    }
    found
}
