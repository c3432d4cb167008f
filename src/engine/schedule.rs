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
