//! What came of each step: outputs, verdicts, failures, and bytes where they were asked for.

use std::{collections::BTreeMap, fs};

use kiln_cache::{Digest, Kind, Object};
use kiln_engine::{
    event::{How, VerdictWord},
    graph::Reference,
    realise::Built,
};

use super::Judged;
use crate::{
    draft::{Link, Shape},
    expectation::Fate,
};

impl Judged<'_> {
    /// Each step came out as it had to.
    pub(super) fn results(&self) {
        let request = self.request();
        let stopped = self.is_stopped();
        for (&at, fate) in &self.expected().fates {
            let name = self.name(at);
            let report = self.report(at);
            match (fate, report.how) {
                (Fate::Made { outputs, accepted, .. }, How::Reused | How::Ran) => {
                    let found: BTreeMap<String, Object> = report
                        .outputs
                        .iter()
                        .map(|(name, output)| (name.clone(), output.object()))
                        .collect();
                    assert_eq!(&found, outputs, "outputs of `{name}`");
                    let verdict = report.verdict.map(|verdict| verdict == VerdictWord::Accepted);
                    assert_eq!(verdict, *accepted, "verdict of `{name}`");
                    let steady = report.differences.is_empty() || request.flaky.contains(name);
                    assert!(steady, "`{name}` under --check: {:?}", report.differences);
                    let isolation = report.isolation.expect("it has a result");
                    assert!(
                        isolation >= request.isolation,
                        "`{name}` was made under {isolation:?}"
                    );
                }
                (Fate::Made { .. }, How::Failed) => {
                    assert!(request.flaky.contains(name), "`{name}` failed: {report:?}");
                }
                (Fate::Fails { .. }, How::Failed) | (Fate::Unreachable, How::Skipped) => {}
                (_, How::Skipped) if stopped => {}
                (fate, how) => panic!("`{name}` is {how:?}, and should be {fate:?}: {report:?}"),
            }
            let succeeded = self
                .runs_of(at)
                .any(|ran| ran.made.is_some() && Some(ran.readings.as_str()) == fate.readings());
            assert!(report.how != How::Ran || succeeded, "`{name}` is said to have run");
            let checked = request.check.contains(&report.step);
            assert!(
                !succeeded || report.how != How::Reused || checked,
                "`{name}` is said to be reused"
            );
            let executed = self.runs_of(at).next().is_some();
            assert!(!executed || !report.why.is_empty(), "nothing says why `{name}` ran");
            // What was to run and was not begun may tell why, and so may what wobbled while it ran.
            assert!(
                executed || report.how == How::Skipped || report.why.is_empty(),
                "why `{name}` ran, which it did not: {report:?}"
            );
        }
    }

    /// What was asked for is there, byte for byte.
    pub(super) fn bytes(&self, built: &Built) {
        let draft = self.expected().draft;
        for at in self.request().wanted(draft) {
            let report = self.report(at);
            if !matches!(report.how, How::Reused | How::Ran) {
                continue;
            }
            let id = self.graph.find(self.name(at)).expect("a step of the recipe");
            for (number, (output, _)) in draft.steps[at].outputs().iter().enumerate() {
                let Some(shown) = report.outputs.get(output) else { continue };
                let Some(path) = built.paths.get(&Reference::Output(id, number as u32)) else {
                    let gone = match draft.origin(Link::Step(at, number)) {
                        Link::Step(maker, _) => {
                            matches!(self.report(maker).how, How::Failed | How::Skipped)
                        }
                        // A large glob has no place of its own.
                        Link::Source(source) => {
                            self.in_place && draft.sources[source].shape == Shape::Glob
                        }
                        Link::Live | Link::Part => false,
                    };
                    assert!(gone, "`{output}` of `{}` is not there: {shown:?}", report.step);
                    continue;
                };
                match shown.kind {
                    Kind::File => {
                        assert_eq!(Digest::of(&fs::read(path).unwrap()), shown.digest);
                    }
                    Kind::Tree => assert!(path.is_dir(), "{path:?}"),
                }
            }
        }
    }
}
