//! Why steps ran: what was said against what had changed.

use std::collections::BTreeSet;

use super::Judged;
use crate::told::{differing, told};
use kiln_cache::Isolation;
use kiln_engine::event::How;

impl Judged<'_> {
    /// The reasons that were given are the ones that there were, root causes first.
    pub(super) fn reasons(&self) {
        for &at in self.expected().fates.keys() {
            if self.runs_of(at).next().is_some() {
                self.reason(at);
            }
        }
    }

    fn reason(&self, at: usize) {
        let name = self.name(at);
        let why = &self.report(at).why;
        let readings = self.expected().fates[&at].readings().expect("it ran");
        let said = |line: &str| {
            let only = why.len() == 1 && why[0].starts_with(line);
            assert!(only, "why `{name}` ran, which is that {line}: {why:?}");
        };
        if self.before.is_again(at) {
            return said("asked for with --again");
        }
        if self.report(at).how == How::Reused {
            return said("asked for with --check");
        }
        if self.before.is_usable(at) {
            return said("its output `");
        }
        if let Some(entry) = self.before.ledger.get(readings) {
            let word = match entry.isolation {
                Isolation::Off => "off",
                Isolation::Partial => "partial",
                Isolation::Full => "full",
            };
            let line = format!("the recorded result was made with weaker isolation ({word})");
            return said(&line);
        }
        let struck = self.before.ledger.was_struck(readings);
        if self.memory.is_latest(name, readings) || (struck && why[0].starts_with("its result ")) {
            return said("its result ");
        }
        let Some(previous) = self.memory.previous(name, readings) else {
            return said("never built");
        };
        if self.ran.iter().any(|ran| ran.readings == *previous) {
            // It was made anew, in the words of another step.
            return;
        }
        let Some(entry) = self.before.ledger.get(previous) else {
            return said("something changed since its last build, whose record ");
        };
        let [causes, consequences] = differing(&entry.told, &told(self.expected(), at));
        let lines = |lines: &[String]| -> BTreeSet<String> {
            let subjects = lines.iter().map(|line| {
                let (subject, _) = line.split_once(": ").expect("a subject and what became of it");
                subject.to_owned()
            });
            subjects.collect()
        };
        let (first, rest) = why.split_at(causes.len().min(why.len()));
        assert_eq!(lines(first), causes, "root causes of `{name}`: {why:?}");
        assert_eq!(lines(rest), consequences, "what made `{name}` run in the end: {why:?}");
    }
}
