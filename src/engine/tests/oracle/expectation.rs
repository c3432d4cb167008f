//! What a build must come to, worked out from the graph alone: no store, no keys, no order of execution.

use std::collections::BTreeMap;

use kiln_cache::{Digest, Object};
use kiln_engine::{
    event::StepReport,
    graph::{Determinism, Graph, Origin, Reference, Step, StepId},
    place,
};

use crate::{
    draft::{Draft, FileDraft, Shape, SourceDraft},
    function::{Made, made, readings, tree},
};

/// What must become of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It has this result, from these readings.
    Made { readings: String, outputs: BTreeMap<String, Object>, accepted: Option<bool> },
    /// It cannot do what it must.
    Fails,
    /// Something that it needs does not exist.
    Unreachable,
}

/// What must become of the steps `closure`, given what was reported of steps that wobble.
pub fn expected(
    draft: &Draft,
    graph: &Graph,
    closure: &[StepId],
    reports: &BTreeMap<String, StepReport>,
) -> BTreeMap<StepId, Fate> {
    let mut fates: BTreeMap<StepId, Fate> = BTreeMap::new();
    for &id in closure {
        let fate = fate(draft, graph, graph.step(id), &fates, reports);
        fates.insert(id, fate);
    }
    fates
}

fn fate(
    draft: &Draft,
    graph: &Graph,
    step: &Step,
    fates: &BTreeMap<StepId, Fate>,
    reports: &BTreeMap<String, StepReport>,
) -> Fate {
    let content = |reference| content(draft, graph, fates, reference);
    let missing =
        |input: &Reference| matches!(input, Reference::Output(..)) && content(*input).is_none();
    if step.inputs.iter().any(missing) {
        return Fate::Unreachable;
    }
    let mut files = BTreeMap::new();
    for (pattern, _) in &step.files {
        let source =
            draft.sources.iter().find(|source| source.place == *pattern).expect("a source's place");
        files.extend(source.paths().map(|(path, file)| (path, object(file))));
    }
    let mut places: Vec<Reference> = Vec::new();
    let readings = readings(step, &files, &mut |reference| {
        let at = places.iter().position(|&other| other == reference).unwrap_or_else(|| {
            places.push(reference);
            places.len() - 1
        });
        let object = content(reference);
        let extension = object.map_or_else(String::new, |_| extension(draft, graph, reference));
        (place::file_name(at as u32, &extension), object)
    });
    let Made::Outputs(contents, verdict) = made(step, &readings, 0) else { return Fate::Fails };
    let mut outputs: BTreeMap<String, Object> =
        contents.iter().map(|(name, content)| (name.clone(), content.object())).collect();
    if step.determinism == Determinism::None
        && let Some(report) = reports.get(&step.name)
    {
        outputs =
            report.outputs.iter().map(|(name, output)| (name.clone(), output.object())).collect();
    }
    let accepted = verdict.map(|verdict| verdict.accepted);
    for output in &step.outputs {
        if let Some(object) = output.alias.filter(|_| accepted == Some(true)).and_then(&content) {
            outputs.insert(output.name.clone(), object);
        }
    }
    Fate::Made { readings, outputs, accepted }
}

/// What a reference stands for, if it stands for anything.
fn content(
    draft: &Draft,
    graph: &Graph,
    fates: &BTreeMap<StepId, Fate>,
    reference: Reference,
) -> Option<Object> {
    match reference {
        Reference::Output(id, number) => match &fates[&id] {
            Fate::Made { outputs, .. } => {
                outputs.get(&graph.step(id).outputs[number as usize].name).copied()
            }
            Fate::Fails | Fate::Unreachable => None,
        },
        Reference::Source(id) => match &graph.source(id).origin {
            Origin::Deployment { .. } => {
                draft.pointer.as_ref().map(|text| Object::file(Digest::of(text.as_bytes())))
            }
            origin => Some(source_content(source(draft, origin))),
        },
    }
}

fn source<'a>(draft: &'a Draft, origin: &Origin) -> &'a SourceDraft {
    let (Origin::Path(text) | Origin::Glob(text)) = origin else { panic!("a local source") };
    let place = text.trim_end_matches("/*.txt");
    draft.sources.iter().find(|source| source.place == place).expect("a source's place")
}

fn source_content(source: &SourceDraft) -> Object {
    let files = |wanted: fn(&str) -> bool, prefix: &str| {
        let files: Vec<(String, &FileDraft)> = source
            .files
            .iter()
            .filter(|(name, _)| wanted(name))
            .map(|(name, file)| (format!("{prefix}{name}"), file))
            .collect();
        tree(
            files.iter().map(|(name, file)| (name.as_str(), file.text.as_bytes(), file.executable)),
        )
    };
    match source.shape {
        Shape::File => object(&source.files[""]),
        Shape::Folder => files(|_| true, ""),
        Shape::Glob => files(|name| name.ends_with(".txt"), &format!("{}/", source.place)),
    }
}

fn object(file: &FileDraft) -> Object {
    let digest = Digest::of(file.text.as_bytes());
    if file.executable { Object::program(digest) } else { Object::file(digest) }
}

/// The extension under which a step sees a reference that stands for something.
fn extension(draft: &Draft, graph: &Graph, reference: Reference) -> String {
    match graph.origin(reference) {
        Reference::Source(id) => match &graph.source(id).origin {
            Origin::Path(path) => match source(draft, &Origin::Path(path.clone())).shape {
                Shape::File => path.rsplit_once('/').map_or_else(String::new, |(_, name)| {
                    name.split_once('.')
                        .map_or_else(String::new, |(_, extension)| extension.to_owned())
                }),
                Shape::Folder | Shape::Glob => String::new(),
            },
            Origin::Glob(_) | Origin::Deployment { .. } => String::new(),
        },
        Reference::Output(id, number) => {
            let file = &graph.step(id).outputs[number as usize].file;
            file.split_once('.').map_or_else(String::new, |(_, extension)| extension.to_owned())
        }
    }
}
