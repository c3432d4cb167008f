//! How long what remains of a build will take.
//!
//! It plays the remaining steps through, with the slots that there are and the times that are likely, and says what it
//! does not know. It is unaware of why a step remains.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    time::Duration,
};

use serde::Serialize;

use crate::{
    estimate::{Basis, Estimates},
    graph::{Graph, StepId},
    schedule::{Capacity, Slots},
};

/// By how much a step may be late before that is said: runs are never equally long.
const LATE: f64 = 1.2;

/// A step that remains to be done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Remaining {
    /// Which.
    pub step: StepId,
    /// How it stands.
    pub state: State,
}

/// How a step stands that remains to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It runs, for so long already.
    Running(Duration),
    /// It will run.
    Certain,
    /// Whether it runs depends on what others make.
    Possible,
}

/// How long what remains will take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Forecast {
    /// If nothing runs but what has to.
    pub least_seconds: f64,
    /// If all runs that may.
    pub most_seconds: f64,
    /// Steps of which nobody knows how long they take; they count as nothing in the times.
    pub unknown: usize,
    /// Steps that run for longer already than was likely.
    pub late: usize,
}

/// How long `remaining`, in the graph's order, will take with `capacity`.
pub fn forecast(
    graph: &Graph,
    capacity: Capacity,
    estimates: &mut Estimates<'_>,
    remaining: &[Remaining],
) -> Forecast {
    let mut forecast = Forecast::default();
    let mut tasks = Vec::with_capacity(remaining.len());
    for one in remaining {
        let estimate = estimates.of(one.step);
        let known = estimate.basis != Basis::Nothing;
        forecast.unknown += usize::from(!known);
        let time = if known { estimate.time } else { Duration::ZERO };
        let left = match one.state {
            State::Running(elapsed) => {
                let late = time.mul_f64(LATE) + Duration::from_secs(1);
                forecast.late += usize::from(known && elapsed > late);
                time.saturating_sub(elapsed)
            }
            State::Certain | State::Possible => time,
        };
        tasks.push((one, micros(left)));
    }
    let all: Vec<Task> = tasks.iter().map(|&(one, left)| Task::new(one, left)).collect();
    forecast.most_seconds = played_through(graph, capacity, &all);
    forecast.least_seconds = if remaining.iter().any(|one| one.state == State::Possible) {
        let certain: Vec<Task> = tasks
            .iter()
            .filter(|(one, _)| one.state != State::Possible)
            .map(|&(one, left)| Task::new(one, left))
            .collect();
        // With fewer steps a schedule can come out longer; what is certain never takes longer than all.
        played_through(graph, capacity, &certain).min(forecast.most_seconds)
    } else {
        forecast.most_seconds
    };
    forecast
}

struct Task {
    step: StepId,
    running: bool,
    left: u64,
}

impl Task {
    fn new(one: &Remaining, left: u64) -> Self {
        Self { step: one.step, running: matches!(one.state, State::Running(_)), left }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Seconds until the last of `tasks` is done.
fn played_through(graph: &Graph, capacity: Capacity, tasks: &[Task]) -> f64 {
    let places: HashMap<StepId, usize> =
        tasks.iter().enumerate().map(|(place, task)| (task.step, place)).collect();
    let mut after: Vec<Vec<usize>> = vec![Vec::new(); tasks.len()];
    let mut waits = vec![0usize; tasks.len()];
    for (place, task) in tasks.iter().enumerate().filter(|(_, task)| !task.running) {
        for before in graph.step(task.step).upstream() {
            if let Some(&before) = places.get(&before) {
                after[before].push(place);
                waits[place] += 1;
            }
        }
    }
    let mut ways = vec![0u64; tasks.len()];
    for place in (0..tasks.len()).rev() {
        let longest = after[place].iter().map(|&next| ways[next]).max().unwrap_or(0);
        ways[place] = tasks[place].left.saturating_add(longest);
    }
    let mut slots = Slots::new(graph, capacity);
    let mut running = BinaryHeap::new();
    for (place, task) in tasks.iter().enumerate() {
        if task.running {
            slots.hold(task.step);
            running.push(Reverse((task.left, place)));
        } else if waits[place] == 0 {
            slots.push(task.step, ways[place]);
        }
    }
    let mut now = 0;
    loop {
        while let Some(step) = slots.pop() {
            let place = places[&step];
            running.push(Reverse((tasks[place].left.saturating_add(now), place)));
        }
        let Some(Reverse((ends, place))) = running.pop() else { break };
        now = ends;
        slots.release(tasks[place].step);
        for &next in &after[place] {
            waits[next] -= 1;
            if waits[next] == 0 {
                slots.push(tasks[next].step, ways[next]);
            }
        }
    }
    now as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kiln_cache::{Cost, Determinism, Digest, Isolation, Precedence, Realisation, Store};

    use super::*;
    use crate::{catalogue::Catalogue, diagnostic::SourceText, project::History, recipe};

    /// Steps with what they read and how long they took, if they ever ran; and what is asked of a forecast.
    fn told(steps: &[(&str, &str, Option<f64>)], cpus: u32, states: &[(&str, State)]) -> Forecast {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let mut history = History::load(&store, "t", folder.path()).unwrap();
        let mut text = String::from("name = \"t\"\n");
        for (name, reads, seconds) in steps {
            text.push_str(&format!("[steps.{name}]\nrun = \"true {reads}\"\n"));
            // Steps of which nothing is known would otherwise borrow from the others.
            let Some(seconds) = *seconds else { continue };
            let key = Digest::of(name.as_bytes());
            history.note(name, key);
            let record = Realisation {
                key,
                attempt: 0,
                recipe: "t".into(),
                step: (*name).into(),
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
            store.record(record, Precedence::First).unwrap();
        }
        let source = Arc::new(SourceText { name: "kiln.toml".into(), text });
        let graph = recipe::evaluate(&source, &Catalogue { builders: &[] }, &[]).unwrap();
        let mut remaining: Vec<Remaining> = states
            .iter()
            .map(|&(name, state)| Remaining { step: graph.find(name).unwrap(), state })
            .collect();
        remaining.sort_by_key(|one| one.step);
        let capacity = Capacity { cpus, memory: u64::MAX, gpus: 0 };
        let mut estimates = Estimates::new(&graph, &store, &history);
        forecast(&graph, capacity, &mut estimates, &remaining)
    }

    const CERTAIN: State = State::Certain;

    #[test]
    fn steps_that_fit_beside_each_other_take_as_long_as_the_longest() {
        let steps = [("a", "", Some(4.0)), ("b", "", Some(3.0)), ("c", "${a}", Some(2.0))];
        let states = [("a", CERTAIN), ("b", CERTAIN), ("c", CERTAIN)];
        assert_eq!(told(&steps, 2, &states).most_seconds, 6.0);
        assert_eq!(told(&steps, 1, &states).most_seconds, 9.0);
        assert_eq!(told(&steps, 1, &[]), Forecast::default());
    }

    #[test]
    fn what_may_not_run_is_the_difference_between_least_and_most() {
        let steps = [("a", "", Some(4.0)), ("b", "${a}", Some(3.0))];
        let found = told(&steps, 1, &[("a", CERTAIN), ("b", State::Possible)]);
        assert_eq!((found.least_seconds, found.most_seconds), (4.0, 7.0));
    }

    #[test]
    fn what_runs_already_counts_with_what_is_left_of_it_and_is_late_at_some_time() {
        let steps = [("a", "", Some(10.0)), ("b", "${a}", Some(3.0))];
        let after = |seconds| {
            let running = State::Running(Duration::from_secs(seconds));
            let found = told(&steps, 1, &[("a", running), ("b", CERTAIN)]);
            (found.most_seconds, found.late)
        };
        assert_eq!(after(4), (9.0, 0));
        assert_eq!(after(12), (3.0, 0));
        assert_eq!(after(14), (3.0, 1));
    }

    #[test]
    fn steps_that_nobody_knows_are_counted_and_weigh_nothing() {
        let found = told(&[("a", "", None), ("b", "", None)], 1, &[("a", CERTAIN), ("b", CERTAIN)]);
        assert_eq!((found.unknown, found.most_seconds), (2, 0.0));
    }
}
