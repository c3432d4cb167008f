//! Builds held against what they must come to.

mod plans;
mod reasons;
mod results;
mod runs;

use std::collections::BTreeMap;

use kiln_engine::{
    event::{How, OutputReport, StepReport},
    graph::Graph,
    plan::Plan,
    realise::Built,
};

use crate::{
    expectation::{Expected, Fate},
    fake::Ran,
    ledger::Entry,
    memory::Memory,
    needs::Before,
    request::Request,
    told::told,
};

/// One build beside what it must have come to.
pub struct Judged<'a> {
    pub before: &'a Before<'a>,
    pub graph: &'a Graph,
    pub reports: &'a BTreeMap<String, StepReport>,
    /// In order.
    pub ran: &'a [Ran],
    pub memory: &'a Memory,
    /// Whether large sources are read where they lie.
    pub in_place: bool,
}

impl Judged<'_> {
    /// Panics unless everything is as it must be.
    pub fn all(&self, planned: &Plan, built: &Built) {
        self.results();
        self.bytes(built);
        self.nothing_twice();
        if self.is_certain() {
            self.needs();
            self.plan(planned);
            self.reasons();
        }
    }

    fn expected(&self) -> &Expected<'_> {
        self.before.expected
    }

    fn request(&self) -> &Request {
        self.before.request
    }

    fn name(&self, at: usize) -> &str {
        &self.expected().draft.steps[at].name
    }

    fn report(&self, at: usize) -> &StepReport {
        &self.reports[self.name(at)]
    }

    /// The runs of a step, successful or not.
    fn runs_of(&self, at: usize) -> impl Iterator<Item = &Ran> {
        let name = self.name(at);
        self.ran.iter().filter(move |ran| ran.step == name)
    }

    /// Whether what must run follows from the draft alone.
    fn is_certain(&self) -> bool {
        !self.expected().draft.wobbles() && self.request().flaky.is_empty()
    }

    /// Whether a failure may have kept steps from being begun.
    fn is_stopped(&self) -> bool {
        let failed = self.reports.values().any(|report| report.how == How::Failed);
        failed && (!self.request().keep_going || !self.request().flaky.is_empty())
    }

    /// What is on record afterwards and was not before, or is the same as before.
    pub fn recorded(&self) -> Vec<(String, Entry)> {
        let mut recorded = Vec::new();
        for (&at, fate) in &self.expected().fates {
            let report = self.report(at);
            let (Fate::Made { readings, .. }, Some(key), Some(isolation)) =
                (fate, report.action_key, report.isolation)
            else {
                continue;
            };
            let made = self.ran.iter().rev().find(|ran| {
                let only_checked = self.request().check.contains(&ran.step)
                    && self.reports[&ran.step].how == How::Reused;
                ran.readings == *readings && ran.made.is_some() && !only_checked
            });
            let entry = match made {
                Some(ran) => {
                    let maker = self.expected().draft.find(&ran.step).expect("it is a step");
                    Entry {
                        key,
                        isolation: self.request().isolation,
                        own: ran.made.clone().unwrap_or_default(),
                        outputs: report.outputs.values().map(OutputReport::object).collect(),
                        told: told(self.expected(), maker),
                    }
                }
                None => {
                    let known = self.before.ledger.get(readings);
                    let known = known.unwrap_or_else(|| {
                        panic!("`{}` has a result that nothing made: {report:?}", report.step)
                    });
                    assert_eq!(known.isolation, isolation, "isolation of `{}`", report.step);
                    if report.how == How::Reused {
                        assert_eq!(known.own, self.expected().own(at), "`{}`", report.step);
                    }
                    known.clone()
                }
            };
            recorded.push((readings.clone(), entry));
        }
        recorded
    }
}
