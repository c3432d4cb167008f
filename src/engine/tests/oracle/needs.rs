//! What a build has to run, worked out before it does: how often, and at most how often, for each set of readings.

use std::collections::{BTreeMap, BTreeSet};

use kiln_cache::Object;

use crate::{
    draft::Link,
    expectation::{Expected, Fate},
    ledger::Ledger,
    request::Request,
};

/// How often something has to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    pub least: usize,
    pub most: usize,
}

/// What is known before a build.
pub struct Before<'a> {
    pub expected: &'a Expected<'a>,
    pub request: &'a Request,
    pub ledger: &'a Ledger,
    pub present: &'a BTreeSet<Object>,
}

impl Before<'_> {
    /// How often each set of readings has to run.
    pub fn needs(&self) -> BTreeMap<String, Need> {
        let nothing_made = BTreeSet::new();
        let upper = self.runs(&nothing_made);
        // What one step has lost, another that runs may make again before anybody looks.
        let mut made: BTreeMap<Object, BTreeSet<&str>> = BTreeMap::new();
        let checked = self.expected.fates.keys().copied().filter(|&at| self.is_checked(at));
        for at in upper.iter().copied().chain(checked) {
            let Some(readings) = self.expected.fates[&at].readings() else { continue };
            for object in self.expected.own(at).into_values() {
                made.entry(object).or_default().insert(readings);
            }
        }
        let lower = self.runs(&made.keys().copied().collect());
        let mut needs: BTreeMap<String, Need> = BTreeMap::new();
        for fate in self.expected.fates.values() {
            let Some(readings) = fate.readings() else { continue };
            if needs.contains_key(readings) {
                continue;
            }
            let readers: Vec<usize> = self.expected.readers(readings).collect();
            let count =
                |named: &dyn Fn(usize) -> bool| readers.iter().filter(|&&at| named(at)).count();
            let again = count(&|at| self.is_again(at));
            let check = count(&|at| self.is_checked(at));
            let need = match fate {
                Fate::Fails { .. } => {
                    let tries = readers.iter().map(|&at| 1 + self.expected.draft.steps[at].retries);
                    let tries = tries.sum();
                    Need { least: tries, most: tries }
                }
                _ => {
                    let first = |runs: &BTreeSet<usize>| {
                        usize::from(
                            readers.iter().any(|at| runs.contains(at) && !self.is_again(*at)),
                        )
                    };
                    Need {
                        least: check + if again > 0 { again } else { first(&lower) },
                        most: check + again + first(&upper),
                    }
                }
            };
            needs.insert(readings.to_owned(), need);
        }
        needs
    }

    /// Whether a step is asked to run once more.
    pub fn is_again(&self, at: usize) -> bool {
        self.request.again.contains(&self.expected.draft.steps[at].name)
    }

    fn is_checked(&self, at: usize) -> bool {
        let step = &self.expected.draft.steps[at];
        self.request.check.contains(&step.name) && !step.wobbles
    }

    /// Whether there is a result that may be served.
    pub fn is_usable(&self, at: usize) -> bool {
        let readings = self.expected.fates[&at].readings();
        let entry = readings.and_then(|readings| self.ledger.get(readings));
        entry.is_some_and(|entry| entry.isolation >= self.request.isolation)
    }

    /// The steps that run, apart from checks, if the objects `made` are there in time.
    fn runs(&self, made: &BTreeSet<Object>) -> BTreeSet<usize> {
        let draft = self.expected.draft;
        let fates = &self.expected.fates;
        let lost = |at: usize| {
            let own = self.expected.own(at);
            own.values().any(|object| !self.present.contains(object) && !made.contains(object))
        };
        let reached = |at: &usize| fates.get(at).is_some_and(|fate| fate.readings().is_some());
        let mut runs: BTreeSet<usize> = fates
            .iter()
            .filter(|(at, fate)| match fate {
                Fate::Made { .. } => self.is_again(**at) || !self.is_usable(**at),
                Fate::Fails { .. } => true,
                Fate::Unreachable => false,
            })
            .map(|(&at, _)| at)
            .collect();
        let checked = fates.keys().copied().filter(|&at| self.is_checked(at) && reached(&at));
        let checked: BTreeSet<usize> = checked.collect();
        let mut demanded: BTreeSet<usize> =
            self.request.wanted(draft).into_iter().filter(reached).collect();
        loop {
            let before = (runs.len(), demanded.len());
            for &at in runs.union(&checked) {
                for link in draft.steps[at].links() {
                    if let Link::Step(maker, _) = draft.origin(link) {
                        demanded.insert(maker);
                    }
                }
            }
            for at in demanded.clone() {
                if !matches!(fates[&at], Fate::Made { .. }) {
                    continue;
                }
                let alias = draft.steps[at].alias();
                if let Some((number, _)) = alias
                    && self.expected.content(Link::Step(at, number)).is_some()
                    && let Link::Step(maker, _) = draft.origin(Link::Step(at, number))
                {
                    demanded.insert(maker);
                }
                if lost(at) {
                    runs.insert(at);
                }
            }
            if (runs.len(), demanded.len()) == before {
                return runs;
            }
        }
    }
}
