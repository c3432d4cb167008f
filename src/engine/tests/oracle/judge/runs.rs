//! What ran and what did not.

use std::collections::{BTreeMap, BTreeSet};

use super::Judged;
use crate::{expectation::Fate, fake::Ran};

impl Judged<'_> {
    /// Nothing ran whose inputs had been built before, unless its result was lost or a second run was asked for.
    pub(super) fn nothing_twice(&self) {
        let request = self.request();
        let ledger = self.before.ledger;
        let mut built: BTreeSet<&str> = BTreeSet::new();
        for ran in self.ran {
            let asked = request.again.contains(&ran.step) || request.check.contains(&ran.step);
            let known = ledger.get(&ran.readings);
            let settled = known.is_some_and(|entry| {
                entry.isolation >= request.isolation
                    && entry.own.values().all(|object| self.before.present.contains(object))
            });
            let settled = settled || built.contains(ran.readings.as_str());
            assert!(
                asked || !settled,
                "`{}` ran, and had been built before from {}",
                ran.step,
                ran.readings
            );
            if ran.made.is_some() {
                built.insert(&ran.readings);
            }
        }
    }

    /// Exactly that ran which had to, as often as it had to.
    pub(super) fn needs(&self) {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let fails = |ran: &Ran| {
            let mut readers = self.expected().readers(&ran.readings);
            readers.any(|at| matches!(self.expected().fates[&at], Fate::Fails { .. }))
        };
        // What fails once and is tried again counts once.
        for ran in self.ran.iter().filter(|ran| ran.made.is_some() || fails(ran)) {
            *counts.entry(&ran.readings).or_default() += 1;
        }
        let needs = self.before.needs();
        for (readings, need) in &needs {
            let count = counts.remove(readings.as_str()).unwrap_or(0);
            let least = if self.is_stopped() { 0 } else { need.least };
            assert!(
                (least..=need.most).contains(&count),
                "ran {count} times, and has to {need:?}: {:?}, which reads {readings}",
                self.expected().readers(readings).map(|at| self.name(at)).collect::<Vec<_>>()
            );
        }
        assert!(counts.is_empty(), "nobody asked for what ran: {counts:?}");
        let unreachable = self.expected().fates.iter();
        for (&at, _) in unreachable.filter(|(_, fate)| **fate == Fate::Unreachable) {
            assert!(self.runs_of(at).next().is_none(), "`{}` cannot run", self.name(at));
        }
    }
}
