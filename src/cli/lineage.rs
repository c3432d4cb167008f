//! Where a release came from: from a build that was just made, or from the records in the store.

use std::collections::{BTreeMap, HashMap, HashSet};

use kiln_cache::{Digest, FsError, Object, Realisation, Store};
use kiln_engine::{
    graph::{Graph, StepId},
    key::Manifest,
};
use kiln_registry::{Lineage, LineageStep, LineageVerdict};

/// How key manifests spell a source.
const SOURCE: &str = "sources.";

/// The lineage of what a build made.
pub fn of_build(graph: &Graph, results: &BTreeMap<StepId, Realisation>) -> Lineage {
    let mut lineage = Lineage::default();
    // Ids are topological, so that inputs come first.
    for (&id, result) in results {
        let inputs = inputs(result);
        lineage.sources.extend(inputs.into_iter().filter_map(|(label, object)| {
            label.strip_prefix(SOURCE).map(|name| (name.to_owned(), object))
        }));
        let step = graph.step(id);
        let value = |name: &String| Some((name.clone(), graph.params.get(name)?.clone()));
        lineage.params.extend(step.params.iter().filter_map(value));
        lineage.steps.push(self::step(&step.name, result));
    }
    lineage
}

/// The lineage of a release, as far as the realisations in the store tell it; `None` if none made it.
///
/// Each input is followed to the latest realisation that made it, under the name by which the key
/// manifest calls it. Parameters are not told: they stand in the keys, substituted.
///
/// # Errors
/// If the store cannot be read.
pub fn traced(store: &Store, recipe: &str, release: &Object) -> Result<Option<Lineage>, FsError> {
    let records = store.all_realisations()?;
    let mut trace = Trace::new(recipe, &records);
    let Some(maker) = trace.maker(release, None) else { return Ok(None) };
    trace.follow(maker);
    Ok(Some(trace.lineage))
}

struct Trace<'a> {
    recipe: &'a str,
    makers: HashMap<Object, Vec<&'a Realisation>>,
    seen: HashSet<Digest>,
    lineage: Lineage,
}

impl<'a> Trace<'a> {
    fn new(recipe: &'a str, records: &'a [Realisation]) -> Self {
        let mut makers: HashMap<Object, Vec<&Realisation>> = HashMap::new();
        for record in records {
            for output in &record.outputs {
                makers.entry(output.object).or_default().push(record);
            }
        }
        Self { recipe, makers, seen: HashSet::new(), lineage: Lineage::default() }
    }

    /// The likeliest maker of an object: of this recipe, the step that is named, not a mere alias, the latest.
    fn maker(&self, object: &Object, step: Option<&str>) -> Option<&'a Realisation> {
        let made = |record: &Realisation| {
            record.outputs.iter().any(|output| output.object == *object && output.alias.is_none())
        };
        self.makers.get(object)?.iter().copied().max_by_key(|record| {
            (
                record.recipe == self.recipe,
                step.is_some_and(|step| record.step == step),
                made(record),
                record.cost.started_ms,
                record.key,
            )
        })
    }

    fn follow(&mut self, record: &'a Realisation) {
        if !self.seen.insert(record.key) {
            return;
        }
        for (label, object) in inputs(record) {
            if let Some(source) = label.strip_prefix(SOURCE) {
                self.lineage.sources.insert(source.to_owned(), object);
            } else if let Some(maker) = self.maker(&object, label.split('.').next()) {
                self.follow(maker);
            }
        }
        self.lineage.steps.push(step(&record.step, record));
    }
}

/// What a realisation's key manifest says that it read. One that cannot be read tells nothing.
fn inputs(record: &Realisation) -> Vec<(String, Object)> {
    let manifest = Manifest::from_text(&record.manifest).unwrap_or_default();
    let inputs = manifest.inputs();
    inputs.filter_map(|(label, object)| Some((label.to_owned(), object?))).collect()
}

fn step(name: &str, record: &Realisation) -> LineageStep {
    LineageStep {
        step: name.to_owned(),
        builder: record.builder.clone(),
        action_key: record.key,
        verdict: record.verdict.as_ref().map(|verdict| LineageVerdict {
            accepted: verdict.accepted,
            reason: verdict.reason.clone(),
        }),
        isolation: record.isolation,
        outputs: record.outputs.iter().map(|output| (output.name.clone(), output.object)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use kiln_cache::{Cost, Determinism, Isolation, Output, Precedence};
    use std::sync::Arc;

    use kiln_engine::{
        diagnostic::SourceText,
        key::{ManifestItem, ManifestValue},
        recipe,
    };

    use super::*;
    use crate::builders::CATALOGUE;

    fn object(text: &str) -> Object {
        Object::file(Digest::of(text.as_bytes()))
    }

    fn record(
        step: &str,
        started_ms: i64,
        inputs: &[(&str, &str)],
        output: (&str, &str, Option<u32>),
    ) -> Realisation {
        let item = |(place, (label, content)): (usize, &(&str, &str))| ManifestItem {
            at: vec!["inputs".to_owned(), place.to_string()],
            value: ManifestValue::Object(object(content)),
            label: Some((*label).to_owned()),
        };
        let manifest = Manifest { items: inputs.iter().enumerate().map(item).collect() };
        Realisation {
            key: Digest::of(format!("{step} {inputs:?}").as_bytes()),
            attempt: 1,
            recipe: "r".to_owned(),
            step: step.to_owned(),
            builder: "command@1".to_owned(),
            outputs: vec![Output {
                name: output.0.to_owned(),
                object: object(output.1),
                bytes: 1,
                extension: String::new(),
                alias: output.2,
            }],
            verdict: None,
            isolation: Isolation::Full,
            determinism: Determinism::Bitwise,
            manifest: manifest.to_text(),
            log: None,
            refs: Vec::new(),
            cost: Cost { started_ms, ..Cost::default() },
            boot: String::new(),
            group: 0,
        }
    }

    fn names(lineage: &Lineage) -> Vec<&str> {
        lineage.steps.iter().map(|step| step.step.as_str()).collect()
    }

    #[test]
    fn a_release_is_followed_back_to_its_sources() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let old = record("train", 1, &[("sources.data", "old data")], ("model", "model", None));
        let records = [
            old.clone(),
            record("train", 2, &[("sources.data", "data")], ("model", "model", None)),
            record("gate", 3, &[("train.model", "model")], ("model", "model", Some(0))),
            record("other", 4, &[("sources.x", "x")], ("out", "unrelated", None)),
            record("release", 5, &[("gate.model", "model")], ("out", "release", None)),
        ];
        for record in records {
            store.record(record, Precedence::First).unwrap();
        }
        let lineage = traced(&store, "r", &object("release")).unwrap().unwrap();
        assert_eq!(names(&lineage), ["train", "gate", "release"]);
        // Both made the same model; the later one counts.
        assert_eq!(lineage.sources, BTreeMap::from([("data".to_owned(), object("data"))]));
        assert!(!lineage.keys().contains(&old.key));
        assert_eq!(traced(&store, "r", &object("nowhere")).unwrap(), None);
    }

    #[test]
    fn only_parameters_that_the_steps_name_are_told() {
        let text = "name = \"t\"\n[params]\nx = 1\ny = 2\nz = 3\n\
            [steps.a]\nrun = \"echo ${params.x} > ${out}\"\n\
            [steps.b]\nrun = \"echo ${params.y} > ${out}\"\n";
        let source = SourceText { name: "kiln.toml".into(), text: text.into() };
        let graph = recipe::evaluate(&Arc::new(source), &CATALOGUE, &[]).unwrap();
        let a = graph.step_ids().find(|&id| graph.step(id).name == "a").unwrap();
        let lineage =
            of_build(&graph, &BTreeMap::from([(a, record("a", 1, &[], ("out", "o", None)))]));
        assert_eq!(lineage.params, BTreeMap::from([("x".to_owned(), "1".to_owned())]));
    }
}
