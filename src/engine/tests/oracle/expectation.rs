//! What a build must come to, worked out from the draft alone: no store, no keys, no order of execution.

use std::collections::{BTreeMap, BTreeSet};

use kiln_cache::Object;
use kiln_engine::event::StepReport;

use crate::{
    draft::{Draft, FileDraft, Link, PART, Shape, SourceDraft},
    drafted::released,
    function::{Made, made, object, tree},
    reading::place_name,
};

/// What must become of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It has this result, from these readings.
    Made { readings: String, outputs: BTreeMap<String, Object>, accepted: Option<bool> },
    /// It cannot do what it must.
    Fails { readings: String },
    /// Something that it needs does not exist.
    Unreachable,
}

impl Fate {
    /// What it reads, if all of that exists.
    pub fn readings(&self) -> Option<&str> {
        match self {
            Self::Made { readings, .. } | Self::Fails { readings } => Some(readings),
            Self::Unreachable => None,
        }
    }
}

/// A draft, and what must become of some of its steps.
pub struct Expected<'a> {
    pub draft: &'a Draft,
    pub fates: BTreeMap<usize, Fate>,
}

impl<'a> Expected<'a> {
    /// What must become of the steps `closure`, given what was reported of steps that wobble.
    pub fn new(
        draft: &'a Draft,
        closure: &BTreeSet<usize>,
        reports: &BTreeMap<String, StepReport>,
    ) -> Self {
        let mut expected = Self { draft, fates: BTreeMap::new() };
        for &at in closure {
            let fate = expected.fate(at, reports);
            expected.fates.insert(at, fate);
        }
        expected
    }

    fn fate(&self, at: usize, reports: &BTreeMap<String, StepReport>) -> Fate {
        let step = &self.draft.steps[at];
        let missing = |link: &Link| matches!(link, Link::Step(..)) && self.content(*link).is_none();
        if step.links().iter().any(missing) {
            return Fate::Unreachable;
        }
        let reading = self.draft.reading(at);
        let places = reading.places();
        let readings = reading.text(&mut |link| {
            let place = places.iter().position(|&other| other == link).expect("it was placed");
            let object = self.content(link);
            let extension = object.map_or("", |_| self.extension(link));
            (place_name(place, extension), object)
        });
        let Made::Outputs(contents, verdict) = made(&reading, &readings, 0) else {
            return Fate::Fails { readings };
        };
        let mut outputs: BTreeMap<String, Object> =
            contents.iter().map(|(name, content)| (name.clone(), content.object())).collect();
        if step.wobbles
            && let Some(report) = reports.get(&step.name)
        {
            let reported = report.outputs.iter();
            outputs = reported.map(|(name, output)| (name.clone(), output.object())).collect();
        }
        let accepted = verdict.map(|verdict| verdict.accepted);
        if let (Some((number, link)), Some(true)) = (step.alias(), accepted)
            && let Some(object) = self.content(link)
        {
            outputs.insert(step.outputs()[number].0.clone(), object);
        }
        Fate::Made { readings, outputs, accepted }
    }

    /// What a link stands for, if it stands for anything.
    pub fn content(&self, link: Link) -> Option<Object> {
        match self.draft.settled(link) {
            Link::Step(at, number) => match self.fates.get(&at)? {
                Fate::Made { outputs, .. } => {
                    outputs.get(&self.draft.steps[at].outputs()[number].0).copied()
                }
                Fate::Fails { .. } | Fate::Unreachable => None,
            },
            Link::Live => self.draft.live.map(released),
            Link::Part => self.draft.staged.map(released),
            Link::Source(at) => Some(source_content(&self.draft.sources[at])),
        }
    }

    /// The extension under which a step sees a link that stands for something.
    pub fn extension(&self, link: Link) -> &str {
        fn of(name: &str) -> &'static str {
            [".csv.gz", ".csv", ".json", ".txt.gz", ".d"]
                .into_iter()
                .find(|suffix| name.ends_with(suffix))
                .map_or("", |suffix| &suffix[1..])
        }
        match self.draft.origin(link) {
            Link::Source(at) => match self.draft.sources[at].shape {
                Shape::File | Shape::Folder => of(&self.draft.sources[at].place),
                Shape::Glob => "",
            },
            Link::Live => "",
            Link::Part => of(PART),
            Link::Step(at, number) => of(&self.draft.steps[at].outputs()[number].1),
        }
    }

    /// The objects with bytes of their own that a step makes, by output.
    pub fn own(&self, at: usize) -> BTreeMap<String, Object> {
        let Some(Fate::Made { outputs, .. }) = self.fates.get(&at) else { return BTreeMap::new() };
        let step = &self.draft.steps[at];
        let alias = step.alias().map(|(number, _)| step.outputs()[number].0.clone());
        let own = outputs.iter().filter(|(name, _)| Some(*name) != alias.as_ref());
        own.map(|(name, object)| (name.clone(), *object)).collect()
    }

    /// The steps with these readings.
    pub fn readers<'b>(&'b self, readings: &'b str) -> impl Iterator<Item = usize> + 'b {
        let fates = self.fates.iter();
        fates.filter(move |(_, fate)| fate.readings() == Some(readings)).map(|(&at, _)| at)
    }
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
