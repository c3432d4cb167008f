//! Everything that a build looked at outside of the store, and what it found: sources, files, variables, programs.
//!
//! Two builds of one recipe that found the same here have the same keys. Unaware of keys, steps' results and records.

use std::{collections::BTreeMap, sync::Arc};

use kiln_cache::Object;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    diagnostic::{Location, SourceText},
    graph::{Graph, Origin, Source, StepId, Toolchain},
    resolve::Resolution,
    source::Reader,
    surroundings::Surroundings,
};

/// What a build found outside of the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outside {
    /// The sources that are read, by what they are; `None` where one is absent and that was accepted.
    sources: Vec<(Origin, Option<Object>)>,
    /// What the patterns in a step's `files` name together.
    files: Vec<(Vec<String>, BTreeMap<String, Object>)>,
    /// The values of the variables in `pass_env`.
    variables: Vec<(String, Option<String>)>,
    /// The facts about what steps can run.
    toolchains: Vec<(Toolchain, Vec<(String, String)>)>,
}

impl Outside {
    /// What was found for `steps`, a closure of `graph`.
    pub fn of(graph: &Graph, steps: &[StepId], resolution: &Resolution) -> Self {
        let sources = resolution.sources.iter();
        let mut files: BTreeMap<Vec<&str>, &BTreeMap<String, Object>> = BTreeMap::new();
        let mut variables: BTreeMap<&str, Option<&str>> = BTreeMap::new();
        let mut toolchains: Vec<(&Toolchain, &[(String, String)])> = Vec::new();
        for &id in steps {
            let (step, ground) = (graph.step(id), &resolution.grounds[&id]);
            if !step.files.is_empty() {
                let patterns = step.files.iter().map(|(pattern, _)| pattern.as_str()).collect();
                files.insert(patterns, &ground.objects);
            }
            for (name, value) in &ground.passed {
                variables.insert(name, value.as_deref());
            }
            if !toolchains.iter().any(|(known, _)| *known == &step.toolchain) {
                toolchains.push((&step.toolchain, &ground.toolbox.facts));
            }
        }
        Self {
            sources: sources
                .map(|(&id, source)| (graph.source(id).origin.clone(), source.object))
                .collect(),
            files: files
                .into_iter()
                .map(|(patterns, found)| {
                    (patterns.into_iter().map(str::to_owned).collect(), found.clone())
                })
                .collect(),
            variables: variables
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.map(str::to_owned)))
                .collect(),
            toolchains: toolchains
                .into_iter()
                .map(|(toolchain, facts)| (toolchain.clone(), facts.to_vec()))
                .collect(),
        }
    }

    /// Whether all of it is found again. What cannot be read is not.
    pub fn is_found_again(&self, reader: &Reader<'_>, surroundings: &Surroundings) -> bool {
        let variable = |(name, value): &(String, Option<String>)| {
            surroundings.variable(name) == Ok(value.as_deref())
        };
        let toolchain = |(toolchain, facts): &(Toolchain, Vec<(String, String)>)| {
            surroundings.toolbox(toolchain).is_ok_and(|toolbox| toolbox.facts == *facts)
        };
        let files = |(patterns, found): &(Vec<String>, BTreeMap<String, Object>)| {
            let mut now = BTreeMap::new();
            for pattern in patterns {
                let Ok(named) = reader.files(pattern) else { return false };
                now.extend(named.into_iter().map(|(name, (_, object))| (name, object)));
            }
            now == *found
        };
        // Whatever is wrong is told, with its place, by the build that follows.
        let nowhere =
            Location::new(&Arc::new(SourceText { name: String::new(), text: String::new() }), 0..0);
        let source = |(origin, _): &(Origin, Option<Object>)| {
            let (origin, at) = (origin.clone(), nowhere.clone());
            Source { name: String::new(), origin, at }
        };
        let sources = || {
            let sources: Vec<Source> = self.sources.iter().map(source).collect();
            let now = reader.resolve_all(&sources.iter().collect::<Vec<_>>());
            let both = self.sources.iter().zip(now);
            both.into_iter().all(|((_, object), now)| now.is_ok_and(|now| now.object == *object))
        };
        self.variables.iter().all(variable)
            && self.toolchains.iter().all(toolchain)
            && self.files.par_iter().all(files)
            && sources()
    }
}

#[cfg(test)]
impl Outside {
    /// One of each sort.
    pub(crate) fn sample() -> Self {
        let object = Object::program(kiln_cache::Digest::of(b"s"));
        Self {
            sources: vec![
                (Origin::Path("data.csv".into()), Some(object)),
                (Origin::Glob("*.x".into()), None),
            ],
            files: vec![(vec!["*.py".into()], [("a.py".into(), object)].into())],
            variables: vec![("WHO".into(), Some("me".into())), ("NOBODY".into(), None)],
            toolchains: vec![(
                Toolchain::Tools(vec!["sh".into()]),
                vec![("sh".into(), "1".into())],
            )],
        }
    }
}
