//! A build held against what it must come to.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use super::{
    model::{Content, Fate},
    request::Request,
    world::{Entry, World},
};
use crate::harness::{Build, Project};

impl World {
    /// Outputs, verdicts, failures, reasons and the exit code.
    pub fn judge_results(&self, request: &Request, build: &Build, fates: &BTreeMap<String, Fate>) {
        let failed = !build.steps("failed").is_empty();
        let stopped = failed && !request.keep_going;
        let mut rejected = false;
        for (name, fate) in fates {
            let step = build.step(name);
            let how = step["how"].as_str().unwrap();
            match (fate, how) {
                (Fate::Made { outputs, accepted, .. }, "ran" | "reused") => {
                    let word = accepted.map(|yes| if yes { "accepted" } else { "rejected" });
                    assert_eq!(step["verdict"].as_str(), word, "verdict of {name}");
                    rejected |= *accepted == Some(false);
                    assert_outputs(name, step, outputs, accepted.is_some());
                }
                (Fate::Fails { .. }, "failed") | (Fate::Unreachable, "skipped") => {}
                (_, "skipped") if stopped => {}
                (fate, how) => panic!("{name} is {how} and should be {fate:?}: {:?}", build.run),
            }
            let silent = step["why"].as_array().unwrap().is_empty();
            assert!(!silent || !matches!(how, "ran" | "failed"), "nothing says why {name} ran");
            assert!(silent || how != "reused" || request.check, "why {name} ran: {step}");
            assert!(step["differences"].is_null(), "{name} is not what it says: {step}");
        }
        let code = if failed {
            1
        } else if rejected {
            3
        } else {
            0
        };
        assert_eq!(build.run.code(), code, "{:?}", build.run);
    }

    /// Whether what reads this need not run.
    fn is_usable(&self, request: &Request, reads: &str) -> Option<&Entry> {
        self.ledger.get(reads).filter(|entry| entry.isolation >= request.isolation())
    }

    /// Exactly that ran which had to, once.
    pub fn judge_runs(&self, request: &Request, build: &Build, fates: &BTreeMap<String, Fate>) {
        let stopped = !request.keep_going && !build.steps("failed").is_empty();
        let mut ran: BTreeMap<&str, usize> = BTreeMap::new();
        for name in build.ran() {
            let reads = fates[&name].reads().expect("it could be reached");
            let again = request.again.as_ref() == Some(&name);
            let known = self.is_usable(request, reads);
            let settled = known.is_some_and(|entry| !entry.lost && !entry.doubtful);
            assert!(again || !settled, "{name} ran again, and reads {reads}");
            *ran.entry(reads).or_default() += usize::from(!again);
        }
        for (name, fate) in fates {
            let Fate::Made { reads, .. } = fate else { continue };
            let times = ran.get(reads.as_str()).copied().unwrap_or(0);
            assert!(times <= 1, "{name} and its twins ran {times} times");
            let again = request.again.as_ref().and_then(|name| fates[name].reads());
            let missing = self.is_usable(request, reads).is_none() && again != Some(reads);
            assert!(
                times == 1 || !missing || stopped,
                "nothing ran for {name}, which reads {reads}"
            );
        }
    }

    /// What was foretold happened.
    pub fn judge_status(
        &self,
        request: &Request,
        build: &Build,
        fates: &BTreeMap<String, Fate>,
        foretold: &serde_json::Value,
    ) {
        let failed = !build.steps("failed").is_empty();
        let ran: BTreeSet<&str> =
            build.ran().iter().filter_map(|name| fates[name].reads()).collect();
        for planned in foretold["steps"].as_array().unwrap() {
            let name = planned["step"].as_str().unwrap();
            let how = build.step(name)["how"].as_str().unwrap();
            let reads = fates[name].reads();
            let lost =
                reads.and_then(|reads| self.ledger.get(reads)).is_some_and(|entry| entry.lost);
            let again = request.again.as_deref() == Some(name);
            let sound = match planned["state"].as_str().unwrap() {
                // What is linked has to be there, and so does what is done once more: status knows of neither.
                "up_to_date" => how == "reused" || lost || again,
                "would_run" => {
                    how == "failed"
                        || lost
                        || reads.is_some_and(|reads| ran.contains(reads))
                        || (failed && !request.keep_going)
                }
                "may_run" => true,
                "withheld" => how == "skipped",
                other => panic!("{other} is no state"),
            };
            assert!(sound, "{name} is {how}, and status said {planned}: {:?}", build.run);
        }
    }
}

fn assert_outputs(
    name: &str,
    step: &serde_json::Value,
    expected: &BTreeMap<&'static str, Content>,
    gate: bool,
) {
    let outputs = step["outputs"].as_object().unwrap();
    let mut names: BTreeSet<&str> = expected.keys().copied().collect();
    names.extend(gate.then_some("report"));
    assert_eq!(outputs.keys().map(String::as_str).collect::<BTreeSet<_>>(), names, "{name}");
    for (output, content) in expected {
        if let Some(path) = outputs[*output]["path"].as_str() {
            assert_eq!(&content_of(Path::new(path)), content, "what {name} made as {output}");
        }
    }
}

/// The links under `result/` of a step lead to what it made.
pub fn judge_links(project: &Project, name: &str, fate: &Fate) {
    let Fate::Made { outputs, accepted, .. } = fate else { return };
    let place = project.dir().join("result").join(name);
    for (output, content) in outputs {
        let lone = outputs.len() == 1 && accepted.is_none();
        let path = if lone { place.clone() } else { place.join(output) };
        assert_eq!(&content_of(&path), content, "what is linked as {output} of {name}");
    }
}

/// What lies at a path.
fn content_of(path: &Path) -> Content {
    let mut files = BTreeMap::new();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            files.insert(name, fs::read_to_string(entry.path()).unwrap());
        }
        return Content { files, executable: false };
    }
    files.insert(String::new(), fs::read_to_string(path).unwrap());
    let executable = fs::metadata(path).unwrap().permissions().mode() & 0o100 != 0;
    Content { files, executable }
}
