//! A project, what happens to it, and what its store must have on record.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use super::{chance::Chance, draft::Draft, judge::judge_links, model::Fate, request::Request};
use crate::harness::{Build, Project};

/// A result on record.
pub struct Entry {
    pub key: String,
    pub isolation: u8,
    /// Outputs with bytes of their own.
    pub digests: BTreeSet<String>,
    /// Some output may not be there.
    pub lost: bool,
    /// The collector may have taken it.
    pub doubtful: bool,
}

/// A project, and what its store must have on record, by what was read.
pub struct World {
    project: Project,
    pub draft: Draft,
    pub written: BTreeMap<String, String>,
    pub ledger: BTreeMap<String, Entry>,
    /// The last build, if it was one of this case.
    last: Option<Build>,
}

impl World {
    /// A recipe and an empty store.
    pub fn new(draft: Draft) -> Self {
        Self {
            project: Project::empty(),
            draft,
            written: BTreeMap::new(),
            ledger: BTreeMap::new(),
            last: None,
        }
    }

    /// Brings the files to what the draft says, and touches no other.
    pub fn write(&mut self) {
        let mut wanted = BTreeMap::from([
            ("kiln.toml".to_owned(), self.draft.toml()),
            ("rows.csv".to_owned(), self.draft.table()),
            ("suite.toml".to_owned(), self.draft.suite()),
        ]);
        let sources = self.draft.sources.iter().enumerate();
        wanted.extend(sources.flat_map(|(at, source)| source.files(at)));
        for gone in self.written.keys().filter(|path| !wanted.contains_key(*path)) {
            let path = self.project.dir().join(gone);
            fs::remove_file(&path).unwrap();
            for folder in path.ancestors().skip(1).take(2) {
                // Of a folder that has something in it, nothing happens.
                drop(fs::remove_dir(folder));
            }
        }
        for (path, text) in &wanted {
            if self.written.get(path) != Some(text) {
                self.project.write(path, text);
            }
        }
        self.written = wanted;
    }

    /// Something happens to the store, or nothing; says what.
    pub fn damage(&mut self, chance: &mut Chance) -> String {
        let Some(last) = &self.last else { return "no damage".into() };
        let home = self.project.store().to_owned();
        let steps = last.document["steps"].as_array().unwrap();
        let step = &steps[chance.below(steps.len())];
        match chance.below(10) {
            0..=2 => {
                let outputs = step["outputs"].as_object().unwrap().values();
                let mut stored = outputs.filter(|output| {
                    output["path"].as_str().is_some_and(|path| Path::new(path).starts_with(&home))
                });
                let Some(output) = stored.next_back() else { return "nothing to lose".into() };
                let path = output["path"].as_str().unwrap();
                if Path::new(path).exists() {
                    self.project.lose(path);
                }
                let digest = output["digest"].as_str().unwrap();
                for entry in self.ledger.values_mut().filter(|entry| entry.digests.contains(digest))
                {
                    entry.lost = true;
                }
                format!("{path} is lost")
            }
            3 => {
                let Some(key) = step["action_key"].as_str() else { return "no record".into() };
                drop(fs::remove_file(home.join("realisations").join(&key[..2]).join(key)));
                self.ledger.retain(|_, entry| entry.key != key);
                format!("the record of {key} is lost")
            }
            4 => {
                drop(fs::remove_dir_all(home.join("index")));
                "the index is lost".into()
            }
            5 => {
                self.project.kiln(&["gc"]).exits(0);
                let kept: BTreeSet<&str> =
                    steps.iter().filter_map(|step| step["action_key"].as_str()).collect();
                for entry in self.ledger.values_mut() {
                    entry.doubtful |= !kept.contains(entry.key.as_str());
                }
                "the collector runs".into()
            }
            6 => {
                let path = self.project.dir().join("rows.csv");
                fs::write(&path, fs::read(&path).unwrap()).unwrap();
                "the table is written again as it is".into()
            }
            _ => "no damage".into(),
        }
    }

    pub fn build(&mut self, request: &Request) -> &Build {
        let mut draft = self.draft.clone();
        draft.param = request.number.unwrap_or(draft.param);
        let common = request.common();
        let common: Vec<&str> = common.iter().map(String::as_str).collect();
        let foretold = request.status.then(|| {
            self.project.kiln(&[&["status", "--json"], &common[..]].concat()).exits(0).json()
        });
        let flow = request.flow();
        let mut flow: Vec<&str> = flow.iter().map(String::as_str).collect();
        let told = request.text && self.build_in_text(request, &draft, &flow);
        flow.extend(request.check.then_some("--check"));
        flow.extend(request.again.iter().flat_map(|step| ["--again", step]));
        let build = self.project.build(&flow);
        let mut asked = request.targets.clone();
        if !asked.is_empty() {
            asked.extend(request.again.clone());
        }
        let mut fates = draft.fates();
        let closure = draft.closure(&asked);
        fates.retain(|name, _| closure.contains(name));
        let steps = build.document["steps"].as_array().unwrap();
        let reported: BTreeSet<String> =
            steps.iter().map(|step| step["step"].as_str().unwrap().to_owned()).collect();
        assert_eq!(reported, closure, "{:?}", build.run);
        self.judge_results(request, &build, &fates);
        if told {
            let mut ran = build.ran();
            ran.retain(|name| request.again.as_ref() != Some(name));
            assert_eq!(ran, [] as [&str; 0], "ran though it had just been built");
        } else {
            self.judge_runs(request, &build, &fates);
        }
        if let Some(foretold) = foretold.filter(|_| !told) {
            self.judge_status(request, &build, &fates, &foretold);
        }
        self.note(&build, &fates);
        self.last.insert(build)
    }

    /// Builds, told in text, if that goes well; whether it does. What is linked is what has to be.
    fn build_in_text(&self, request: &Request, draft: &Draft, flow: &[&str]) -> bool {
        let mut fates = draft.fates();
        let closure = draft.closure(&request.targets);
        fates.retain(|name, _| closure.contains(name));
        let good = |fate: &Fate| matches!(fate, Fate::Made { accepted: None | Some(true), .. });
        if !fates.values().all(good) {
            return false;
        }
        // The second time, nothing is done any more but to look.
        for _ in 0..2 {
            self.project.kiln(&[&["build"], flow].concat()).exits(0);
            for (name, fate) in &fates {
                let asked = match request.link {
                    "all" => true,
                    "asked" => request.targets.contains(name),
                    _ => false,
                };
                if asked {
                    judge_links(&self.project, name, fate);
                }
            }
        }
        true
    }

    /// Takes in what is on record now.
    fn note(&mut self, build: &Build, fates: &BTreeMap<String, Fate>) {
        // What ran counts over what was served, perhaps just before.
        for how in ["reused", "ran"] {
            for name in build.steps(how) {
                let Some(reads) = fates[&name].reads() else { continue };
                let step = build.step(&name);
                let gate = !step["verdict"].is_null();
                let outputs = step["outputs"].as_object().unwrap().iter();
                let own: Vec<_> = outputs.filter(|(name, _)| !gate || *name != "data").collect();
                let entry = Entry {
                    key: step["action_key"].as_str().unwrap().to_owned(),
                    isolation: u8::from(step["isolation"] != "off"),
                    digests: own.iter().map(|(_, output)| text(&output["digest"])).collect(),
                    lost: own.iter().any(|(_, output)| output["path"].is_null()),
                    doubtful: false,
                };
                self.ledger.insert(reads.to_owned(), entry);
            }
        }
    }
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().unwrap().to_owned()
}
