//! How long a step is likely to take, as far as earlier runs tell.
//!
//! Records say how long a run took, and a project's history says which records are a step's own. Nothing is looked up
//! before somebody asks, so that a build that runs nothing pays nothing.

use std::{collections::HashMap, time::Duration};

use kiln_cache::{Digest, Store};

use crate::{
    graph::{Graph, StepId},
    project::History,
};

/// How many steps of a builder are looked at for a step of which nothing is known.
const SAMPLE: usize = 32;

/// A guess at how long a step takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// How long.
    pub time: Duration,
    /// What the guess stands on.
    pub basis: Basis,
}

/// What an [`Estimate`] stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// An earlier run of the step in this project.
    Itself,
    /// Runs of other steps of this project with the same builder.
    Builder,
    /// Nothing: it is the time of a step of which nobody knows anything.
    Nothing,
}

/// Looks estimates up, each once.
#[derive(Debug)]
pub struct Estimates<'a> {
    graph: &'a Graph,
    store: &'a Store,
    history: &'a History,
    steps: HashMap<StepId, Estimate>,
    builders: HashMap<String, Option<Duration>>,
}

impl<'a> Estimates<'a> {
    /// Estimates for the steps of `graph`, a project whose builds are `history`.
    pub fn new(graph: &'a Graph, store: &'a Store, history: &'a History) -> Self {
        Self { graph, store, history, steps: HashMap::new(), builders: HashMap::new() }
    }

    /// How long `step` is likely to take.
    pub fn of(&mut self, step: StepId) -> Estimate {
        if let Some(&known) = self.steps.get(&step) {
            return known;
        }
        let found = match self.own(step) {
            Some(time) => Estimate { time, basis: Basis::Itself },
            None => match self.of_builder(step) {
                Some(time) => Estimate { time, basis: Basis::Builder },
                None => Estimate { time: Duration::from_secs(1), basis: Basis::Nothing },
            },
        };
        self.steps.insert(step, found);
        found
    }

    /// How long the latest run took of which there still is a record.
    fn own(&self, step: StepId) -> Option<Duration> {
        let keys = self.history.steps.get(&self.graph.step(step).name)?;
        keys.iter().find_map(|key| self.recorded(key))
    }

    /// The median of what the builder's other steps took.
    fn of_builder(&mut self, step: StepId) -> Option<Duration> {
        let graph = self.graph;
        let builder = &graph.step(step).builder;
        if let Some(&known) = self.builders.get(&builder.name) {
            return known;
        }
        let others = graph.step_ids().filter(|&id| {
            let other = graph.step(id);
            other.builder.name == builder.name && self.history.steps.contains_key(&other.name)
        });
        let mut times: Vec<Duration> = others.take(SAMPLE).filter_map(|id| self.own(id)).collect();
        times.sort_unstable();
        let median = times.get(times.len() / 2).copied();
        self.builders.insert(builder.name.clone(), median);
        median
    }

    fn recorded(&self, key: &Digest) -> Option<Duration> {
        // A record that cannot be read is told where it is needed; for a guess the next one does as well.
        let record = self.store.realisation(key).ok()??;
        Duration::try_from_secs_f64(record.cost.seconds.max(0.0)).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kiln_cache::{Cost, Determinism, Isolation, Precedence, Realisation};

    use super::*;
    use crate::{catalogue::Catalogue, diagnostic::SourceText, recipe};

    struct Fixture {
        _folder: tempfile::TempDir,
        store: Store,
        history: History,
        graph: Graph,
    }

    impl Fixture {
        fn new(steps: &[&str]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(&folder.path().join("store")).unwrap();
            let steps = steps.iter().map(|name| format!("[steps.{name}]\nrun = \"true\"\n"));
            let text = format!("name = \"t\"\n{}", steps.collect::<String>());
            let source = Arc::new(SourceText { name: "kiln.toml".into(), text });
            let graph = recipe::evaluate(&source, &Catalogue { builders: &[] }, &[]).unwrap();
            let history = History::load(&store, "t", folder.path()).unwrap();
            Self { _folder: folder, store, history, graph }
        }

        /// A run of `step` under a key of this number; without a time its record is gone.
        fn ran(&mut self, step: &str, key: u64, seconds: Option<f64>) {
            let key = Digest::of(&key.to_le_bytes());
            self.history.note(step, key);
            let Some(seconds) = seconds else { return };
            let record = Realisation {
                key,
                attempt: 0,
                recipe: "t".into(),
                step: step.into(),
                builder: "command@1".into(),
                outputs: Vec::new(),
                verdict: None,
                isolation: Isolation::Full,
                determinism: Determinism::Bitwise,
                manifest: "[]".into(),
                log: None,
                refs: Vec::new(),
                cost: Cost { seconds, ..Cost::default() },
                boot: String::new(),
                group: 0,
            };
            self.store.record(record, Precedence::First).unwrap();
        }

        fn of(&self, step: &str) -> (f64, Basis) {
            let mut estimates = Estimates::new(&self.graph, &self.store, &self.history);
            let found = estimates.of(self.graph.find(step).unwrap());
            (found.time.as_secs_f64(), found.basis)
        }
    }

    #[test]
    fn a_step_takes_as_long_as_the_last_time_that_is_on_record() {
        let mut fixture = Fixture::new(&["a"]);
        fixture.ran("a", 1, Some(3.0));
        fixture.ran("a", 2, Some(5.0));
        assert_eq!(fixture.of("a"), (5.0, Basis::Itself));
        fixture.ran("a", 3, None);
        assert_eq!(fixture.of("a"), (5.0, Basis::Itself), "the last record is gone");
    }

    #[test]
    fn a_step_that_never_ran_takes_as_long_as_others_of_its_builder_or_a_second() {
        let mut fixture = Fixture::new(&["a", "b", "c", "d"]);
        assert_eq!(fixture.of("d"), (1.0, Basis::Nothing));
        fixture.ran("a", 1, Some(100.0));
        fixture.ran("b", 2, Some(2.0));
        fixture.ran("c", 3, Some(3.0));
        assert_eq!(
            fixture.of("d"),
            (3.0, Basis::Builder),
            "one that is out of the ordinary says little"
        );
        assert_eq!(fixture.of("a"), (100.0, Basis::Itself));
    }

    #[test]
    fn a_record_that_says_nonsense_is_no_estimate() {
        let mut fixture = Fixture::new(&["a"]);
        fixture.ran("a", 1, Some(f64::INFINITY));
        assert_eq!(fixture.of("a").1, Basis::Nothing);
        fixture.ran("a", 2, Some(-1.0));
        assert_eq!(fixture.of("a"), (0.0, Basis::Itself));
    }
}
