//! Which step runs next: slots of processors, memory and GPUs, longest remaining way first.
//!
//! Pure bookkeeping over dense step numbers. It is unaware of processes, keys and the store, and of how long anything
//! takes: whoever puts a step in the queue says how long the way is that begins with it ([`Ways`]).

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use crate::graph::{Graph, Resources, StepId};

/// What a machine has to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Capacity {
    /// Processor slots (`--jobs`).
    pub cpus: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// GPUs.
    pub gpus: u32,
}

/// Steps that wait for a slot, and the slots that are taken.
#[derive(Debug)]
pub struct Slots<'g> {
    graph: &'g Graph,
    capacity: Capacity,
    free: Capacity,
    running: usize,
    /// By what they need: longest remaining way first, then in the graph's order. Steps that need the same fit or do
    /// not fit together, so that only the first of each has to be looked at.
    queues: BTreeMap<Capacity, BTreeSet<Place>>,
    ways: HashMap<StepId, u64>,
    /// How often a step in the queue had to see another one take what it waits for.
    overtaken: HashMap<StepId, u32>,
}

/// A place in the queue: the first is the least.
type Place = (Reverse<u64>, StepId);

impl<'g> Slots<'g> {
    /// Slots for the steps of `graph`.
    pub fn new(graph: &'g Graph, capacity: Capacity) -> Self {
        let capacity = Capacity { cpus: capacity.cpus.max(1), ..capacity };
        Self {
            graph,
            capacity,
            free: capacity,
            running: 0,
            queues: BTreeMap::new(),
            ways: HashMap::new(),
            overtaken: HashMap::new(),
        }
    }

    /// Puts a step in the queue; `way` is how long it takes to the end of the build from its start, in any unit.
    pub fn push(&mut self, step: StepId, way: u64) {
        self.remove(step);
        self.ways.insert(step, way);
        self.queues.entry(self.needs(step)).or_default().insert((Reverse(way), step));
    }

    /// Takes the first step in the queue that fits in what is free, and its slots.
    ///
    /// While nothing runs, the first one fits whatever it asks for, so that a step can never wait for ever. Nor can it
    /// be overtaken for ever: once as many steps as there are processors have taken what the first in the queue waits
    /// for, no further one may.
    pub fn pop(&mut self) -> Option<StepId> {
        let (need, first) = self.first(|_| true)?;
        if self.fits(need) {
            return Some(self.take(need, first));
        }
        let patience = self.overtaken.get(&first.1).copied().unwrap_or(0) < self.capacity.cpus;
        let lacks = self.lacks(need);
        let (other, next) =
            self.first(|other| self.fits(other) && (patience || !uses(other, lacks)))?;
        if uses(other, lacks) {
            *self.overtaken.entry(first.1).or_default() += 1;
        }
        Some(self.take(other, next))
    }

    /// The first in the queue of those whose need passes.
    fn first(&self, passes: impl Fn(Capacity) -> bool) -> Option<(Capacity, Place)> {
        let queues = self.queues.iter().filter(|&(&need, _)| passes(need));
        queues
            .filter_map(|(&need, queue)| Some((need, *queue.first()?)))
            .min_by_key(|found| found.1)
    }

    fn take(&mut self, need: Capacity, place: Place) -> StepId {
        self.remove(place.1);
        self.occupy(need);
        place.1
    }

    fn occupy(&mut self, need: Capacity) {
        self.free.cpus = self.free.cpus.saturating_sub(need.cpus);
        self.free.memory = self.free.memory.saturating_sub(need.memory);
        self.free.gpus = self.free.gpus.saturating_sub(need.gpus);
        self.running += 1;
    }

    /// Counts a step as running that did not come from the queue.
    pub fn hold(&mut self, step: StepId) {
        self.occupy(self.needs(step));
    }

    /// Takes a step out of the queue.
    pub fn remove(&mut self, step: StepId) {
        let Some(way) = self.ways.remove(&step) else { return };
        self.overtaken.remove(&step);
        let need = self.needs(step);
        if let Some(queue) = self.queues.get_mut(&need) {
            queue.remove(&(Reverse(way), step));
            if queue.is_empty() {
                self.queues.remove(&need);
            }
        }
    }

    /// Gives the slots of a step back that has ended.
    pub fn release(&mut self, step: StepId) {
        let need = self.needs(step);
        self.free.cpus = (self.free.cpus + need.cpus).min(self.capacity.cpus);
        self.free.memory = (self.free.memory + need.memory).min(self.capacity.memory);
        self.free.gpus = (self.free.gpus + need.gpus).min(self.capacity.gpus);
        self.running -= 1;
    }

    /// Processor slots that a step is given.
    pub fn cpus(&self, step: StepId) -> u32 {
        self.needs(step).cpus
    }

    /// How many steps hold slots.
    pub fn running(&self) -> usize {
        self.running
    }

    /// Forgets all steps that wait.
    pub fn clear(&mut self) {
        self.queues.clear();
        self.ways.clear();
        self.overtaken.clear();
    }

    /// Whether no step waits.
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    fn needs(&self, step: StepId) -> Capacity {
        needs(&self.graph.step(step).resources, self.capacity)
    }

    fn fits(&self, need: Capacity) -> bool {
        self.running == 0 || !self.lacks(need).any()
    }

    fn lacks(&self, need: Capacity) -> Lacks {
        Lacks {
            cpus: need.cpus > self.free.cpus,
            memory: need.memory > self.free.memory,
            gpus: need.gpus > self.free.gpus,
        }
    }
}

/// What there is too little of for a step.
#[derive(Clone, Copy)]
struct Lacks {
    cpus: bool,
    memory: bool,
    gpus: bool,
}

impl Lacks {
    fn any(self) -> bool {
        self.cpus || self.memory || self.gpus
    }
}

/// Whether a step with this need takes something that another one lacks.
fn uses(need: Capacity, lacks: Lacks) -> bool {
    (lacks.cpus && need.cpus > 0)
        || (lacks.memory && need.memory > 0)
        || (lacks.gpus && need.gpus > 0)
}

/// What a step is counted with. One that asks for more than there is gets all of it, and so runs alone.
fn needs(resources: &Resources, capacity: Capacity) -> Capacity {
    let memory = resources.memory.unwrap_or(0);
    if resources.cpus > capacity.cpus || memory > capacity.memory {
        return capacity;
    }
    Capacity { cpus: resources.cpus.max(1), memory, gpus: resources.gpus.min(capacity.gpus) }
}

/// How long the longest chain of steps is that begins with a step, found out only for the steps that are asked for and
/// those after them.
#[derive(Debug)]
pub struct Ways {
    known: Vec<Option<u64>>,
}

impl Ways {
    /// For a graph of so many steps.
    pub fn new(steps: usize) -> Self {
        Self { known: vec![None; steps] }
    }

    /// The way from the start of `step` to the end of the last step after it; `after` tells which follow on a step and
    /// `weight` how long one takes.
    pub fn of<'d>(
        &mut self,
        step: StepId,
        after: impl Fn(StepId) -> &'d [StepId],
        mut weight: impl FnMut(StepId) -> u64,
    ) -> u64 {
        let mut pending = vec![step];
        while let Some(&next) = pending.last() {
            if self.known[next.index()].is_some() {
                pending.pop();
                continue;
            }
            let unknown = after(next).iter().filter(|after| self.known[after.index()].is_none());
            let before = pending.len();
            pending.extend(unknown);
            if pending.len() == before {
                let longest =
                    after(next).iter().filter_map(|after| self.known[after.index()]).max();
                let way = weight(next).max(1).saturating_add(longest.unwrap_or(0));
                self.known[next.index()] = Some(way);
                pending.pop();
            }
        }
        self.known[step.index()].unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
