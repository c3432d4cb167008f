//! Which step runs next: slots of processors and memory, longest remaining way first.
//!
//! Pure bookkeeping over dense step numbers. It is unaware of processes, keys and the store.

use std::{cmp::Reverse, collections::BTreeSet};

use crate::graph::{Graph, Resources, StepId};

/// What a machine has to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Processor slots (`--jobs`).
    pub cpus: u32,
    /// Bytes of memory.
    pub memory: u64,
}

/// Steps that wait for a slot, and the slots that are taken.
#[derive(Debug)]
pub struct Slots {
    capacity: Capacity,
    free: Capacity,
    running: usize,
    /// Longest remaining way first, then in the graph's order.
    queue: BTreeSet<(Reverse<u64>, StepId)>,
    priority: Vec<u64>,
    needs: Vec<Capacity>,
}

impl Slots {
    /// Slots for the steps of `graph`; `weight` is how long each step takes, in any unit.
    pub fn new(graph: &Graph, capacity: Capacity, weight: impl Fn(StepId) -> u64) -> Self {
        let capacity = Capacity { cpus: capacity.cpus.max(1), ..capacity };
        let needs = graph.steps.iter().map(|step| needs(&step.resources, capacity)).collect();
        Self {
            capacity,
            free: capacity,
            running: 0,
            queue: BTreeSet::new(),
            priority: remaining_way(graph, weight),
            needs,
        }
    }

    /// Puts a step in the queue.
    pub fn push(&mut self, step: StepId) {
        self.queue.insert((Reverse(self.priority[step.index()]), step));
    }

    /// Takes the first step in the queue that fits in what is free, and its slots.
    ///
    /// While nothing runs, the first one fits whatever it asks for, so that a step can never wait for ever.
    pub fn pop(&mut self) -> Option<StepId> {
        let entry = self.queue.iter().copied().find(|&(_, step)| self.fits(step))?;
        self.queue.remove(&entry);
        let need = self.needs[entry.1.index()];
        self.free.cpus -= need.cpus;
        self.free.memory = self.free.memory.saturating_sub(need.memory);
        self.running += 1;
        Some(entry.1)
    }

    /// Takes a step out of the queue.
    pub fn remove(&mut self, step: StepId) {
        self.queue.remove(&(Reverse(self.priority[step.index()]), step));
    }

    /// Gives the slots of a step back that has ended.
    pub fn release(&mut self, step: StepId) {
        let need = self.needs[step.index()];
        self.free.cpus += need.cpus;
        self.free.memory = (self.free.memory + need.memory).min(self.capacity.memory);
        self.running -= 1;
    }

    /// Processor slots that a step is given.
    pub fn cpus(&self, step: StepId) -> u32 {
        self.needs[step.index()].cpus
    }

    /// How many steps hold slots.
    pub fn running(&self) -> usize {
        self.running
    }

    /// Forgets all steps that wait.
    pub fn clear(&mut self) {
        self.queue.clear();
    }

    /// Whether no step waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    fn fits(&self, step: StepId) -> bool {
        let need = self.needs[step.index()];
        self.running == 0 || (need.cpus <= self.free.cpus && need.memory <= self.free.memory)
    }
}

fn needs(resources: &Resources, capacity: Capacity) -> Capacity {
    Capacity {
        cpus: resources.cpus.clamp(1, capacity.cpus),
        memory: resources.memory.unwrap_or(0).min(capacity.memory),
    }
}

/// For each step its own weight and the heaviest chain of steps after it.
fn remaining_way(graph: &Graph, weight: impl Fn(StepId) -> u64) -> Vec<u64> {
    let mut after = vec![0u64; graph.steps.len()];
    for id in graph.step_ids().rev() {
        let way = after[id.index()].saturating_add(weight(id).max(1));
        after[id.index()] = way;
        for upstream in graph.step(id).upstream() {
            after[upstream.index()] = after[upstream.index()].max(way);
        }
    }
    after
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::{catalogue::Catalogue, diagnostic::SourceText, recipe};

    /// A graph of steps, each with its readings and resources: `("b", "cat ${a}", "cpus = 2")`.
    fn graph(steps: &[(&str, &str, &str)]) -> Graph {
        let mut text = String::from("name = \"t\"\n");
        for (name, reads, resources) in steps {
            text.push_str(&format!(
                "[steps.{name}]\nrun = \"true {reads} > ${{out}}\"\n{resources}\n"
            ));
        }
        let source = Arc::new(SourceText { name: "kiln.toml".into(), text });
        recipe::evaluate(&source, &Catalogue { builders: &[] }, &[]).unwrap()
    }

    fn slots(graph: &Graph, cpus: u32) -> Slots {
        Slots::new(graph, Capacity { cpus, memory: 100 << 20 }, |_| 1)
    }

    fn id(graph: &Graph, name: &str) -> StepId {
        graph.find(name).unwrap()
    }

    #[test]
    fn the_longest_remaining_way_goes_first() {
        let graph = graph(&[
            ("a", "", ""),
            ("b", "", ""),
            ("c", "${b}", ""),
            ("d", "${c}", ""),
            ("e", "${a}", ""),
        ]);
        let mut slots = slots(&graph, 4);
        let (a, b) = (id(&graph, "a"), id(&graph, "b"));
        slots.push(a);
        slots.push(b);
        assert_eq!([slots.pop(), slots.pop(), slots.pop()], [Some(b), Some(a), None]);
    }

    #[test]
    fn a_heavy_step_counts_for_more_than_many_light_ones() {
        let graph = graph(&[("a", "", ""), ("b", "", ""), ("c", "${b}", "")]);
        let a = id(&graph, "a");
        let weight = |step| if step == a { 10 } else { 1 };
        let mut slots = Slots::new(&graph, Capacity { cpus: 1, memory: 0 }, weight);
        graph.step_ids().for_each(|step| slots.push(step));
        assert_eq!(slots.pop(), Some(a));
    }

    #[test]
    fn a_step_waits_until_its_processors_are_free_and_a_smaller_one_overtakes_it() {
        let graph = graph(&[("a", "", "cpus = 2"), ("b", "", "cpus = 3"), ("c", "", "cpus = 2")]);
        let mut slots = slots(&graph, 4);
        graph.step_ids().for_each(|step| slots.push(step));
        let (a, b, c) = (id(&graph, "a"), id(&graph, "b"), id(&graph, "c"));
        assert_eq!([slots.pop(), slots.pop(), slots.pop()], [Some(a), Some(c), None]);
        slots.release(a);
        assert_eq!(slots.pop(), None, "two of three processors are free");
        slots.release(c);
        assert_eq!(slots.pop(), Some(b));
        assert_eq!((slots.running(), slots.is_empty()), (1, true));
    }

    #[test]
    fn steps_share_memory_too() {
        let graph = graph(&[
            ("a", "", "memory = \"60MiB\""),
            ("b", "", "memory = \"60MiB\""),
            ("c", "", "memory = \"40MiB\""),
        ]);
        let mut slots = slots(&graph, 8);
        graph.step_ids().for_each(|step| slots.push(step));
        assert_eq!(
            [slots.pop(), slots.pop(), slots.pop()],
            [Some(id(&graph, "a")), Some(id(&graph, "c")), None]
        );
    }

    #[test]
    fn what_asks_for_more_than_there_is_runs_with_what_there_is() {
        let graph = graph(&[("a", "", "cpus = 64\nmemory = \"1TiB\"")]);
        let mut slots = slots(&graph, 2);
        let a = id(&graph, "a");
        slots.push(a);
        assert_eq!((slots.pop(), slots.cpus(a)), (Some(a), 2));
    }

    #[test]
    fn what_is_taken_out_or_forgotten_does_not_run() {
        let graph = graph(&[("a", "", ""), ("b", "", "")]);
        let mut slots = slots(&graph, 2);
        graph.step_ids().for_each(|step| slots.push(step));
        slots.remove(id(&graph, "a"));
        assert_eq!(slots.pop(), Some(id(&graph, "b")));
        slots.push(id(&graph, "a"));
        slots.clear();
        assert_eq!(slots.pop(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_step_gets_its_turn_and_no_slot_is_given_twice(
            cpus in prop::collection::vec(1u32..6, 1..8), capacity in 1u32..5, ends in any::<u64>()
        ) {
            let names: Vec<String> = (0..cpus.len()).map(|step| format!("s{step}")).collect();
            let resources: Vec<String> = cpus.iter().map(|cpus| format!("cpus = {cpus}")).collect();
            let steps: Vec<(&str, &str, &str)> =
                names.iter().zip(&resources).map(|(name, cpus)| (name.as_str(), "", cpus.as_str())).collect();
            let graph = graph(&steps);
            let mut slots = slots(&graph, capacity);
            graph.step_ids().for_each(|step| slots.push(step));
            let (mut running, mut done) = (Vec::new(), 0);
            while done < cpus.len() {
                while let Some(step) = slots.pop() {
                    running.push(step);
                }
                let taken: u32 = running.iter().map(|&step| slots.cpus(step)).sum();
                prop_assert!(taken <= capacity && !running.is_empty());
                let ends = ends as usize % running.len();
                slots.release(running.swap_remove(ends));
                done += 1;
            }
            prop_assert!(slots.is_empty() && slots.running() == 0);
        }
    }
}
