//! The owner of a build's state: the only place where a step's phase changes.

use std::{
    any::Any,
    collections::{BTreeSet, HashMap},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use kiln_cache::{Digest, Isolation, Realisation, Session};

use super::{
    Options,
    node::{Demand, Node, Phase},
};
use crate::{
    attempt::{Carried, Input, News, Order, Outcome, Purpose, Workshop},
    difference::Findings,
    estimate::{Basis, Estimates},
    event::{Event, How},
    explain::{self, Reason},
    forecast::{Remaining, State, forecast},
    gpu::Lease,
    graph::{Determinism, Reference, StepId},
    key,
    resolve::{BuildError, Context, Resolution},
    schedule::{Slots, Ways},
    standing::{Results, Standing},
};

/// How often finished steps are flushed to the disk.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// How soon a step that waits for GPUs looks for them again.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// How often it is told how long the rest will take.
const FORECAST_EVERY: Duration = Duration::from_secs(1);

/// How many steps are looked up before those that have to run are begun. Of a recipe with fewer, the one with the longest
/// way ahead is begun first; of one with thousands, nobody waits until all are looked up.
const PORTION: usize = 1024;

enum Message {
    News(StepId, News),
    Done(StepId, Carried),
    /// It panicked with this.
    Broken(Box<dyn Any + Send>),
}

/// What came of asking for a step's GPUs.
pub(super) enum Lent {
    /// It has what it needs, which may be none.
    Ready(Option<Lease>),
    /// Others use them; or the step failed. It holds no slots.
    Nothing,
}

/// The owner of a build's state.
pub(super) struct Owner<'a, 'b> {
    pub(super) context: &'a Context<'a>,
    pub(super) options: &'a Options,
    pub(super) resolution: &'a Resolution,
    session: &'a Session<'a>,
    isolation: Isolation,
    pub(super) nodes: Vec<Node>,
    downstream: Vec<Vec<StepId>>,
    agenda: Vec<StepId>,
    pub(super) slots: Slots<'a>,
    /// Steps that have to run and wait for GPUs that other kilns use.
    pub(super) awaiting_gpus: Vec<StepId>,
    pub(super) told_to_wait: BTreeSet<StepId>,
    /// It was told that what could use a GPU runs without.
    pub(super) told_of_cpu: bool,
    ways: Ways,
    estimates: Estimates<'a>,
    /// What is recorded under the keys that steps had last.
    recorded: HashMap<Digest, Realisation>,
    /// Nothing new is begun, for this reason.
    stopping: Option<String>,
    pub(super) emit: &'b mut dyn FnMut(Event<'_>),
}

impl<'a, 'b> Owner<'a, 'b> {
    pub(super) fn new(
        context: &'a Context<'a>,
        options: &'a Options,
        resolution: &'a Resolution,
        session: &'a Session<'a>,
        recorded: HashMap<Digest, Realisation>,
        emit: &'b mut dyn FnMut(Event<'_>),
    ) -> Self {
        let graph = context.graph;
        Self {
            context,
            options,
            resolution,
            session,
            isolation: context.executor.isolation(),
            nodes: graph.steps.iter().map(|_| Node::new()).collect(),
            downstream: vec![Vec::new(); graph.steps.len()],
            agenda: Vec::new(),
            slots: Slots::new(graph, options.capacity),
            awaiting_gpus: Vec::new(),
            told_to_wait: BTreeSet::new(),
            told_of_cpu: false,
            ways: Ways::new(graph.steps.len()),
            estimates: Estimates::new(graph, context.store, context.history),
            recorded,
            stopping: None,
            emit,
        }
    }

    /// Builds; `steps` is the closure of what was asked for.
    pub(super) fn run(&mut self, steps: &[StepId]) -> Result<(), BuildError> {
        for &id in steps {
            for upstream in self.context.graph.step(id).upstream() {
                self.downstream[upstream.index()].push(id);
            }
        }
        for &target in self.options.targets.iter().rev() {
            self.demand(target, Demand::Present);
        }
        for &step in self.options.again.iter().chain(&self.options.check) {
            self.demand(step, Demand::Known);
        }
        let context = self.context;
        let workshop =
            Workshop::new(context.store, context.executor, context.numbers, context.cancel);
        let flushing = AtomicBool::new(false);
        let mut flushed = Instant::now();
        let mut told = Instant::now();
        let mut is_first = true;
        std::thread::scope(|scope| {
            let (sender, receiver) = mpsc::channel();
            loop {
                for _ in 0..PORTION {
                    let Some(step) = self.agenda.pop() else { break };
                    if let Err(error) = self.advance(step) {
                        // The workers' results would have nobody to take them in.
                        self.context.cancel.trip();
                        return Err(error);
                    }
                }
                let is_settled = self.agenda.is_empty();
                if is_settled && std::mem::take(&mut is_first) {
                    self.recorded = HashMap::new();
                    if !self.slots.is_empty() {
                        self.warn_of_gpus(steps);
                    }
                }
                if self.context.cancel.is_tripped() {
                    self.stop("the build was interrupted");
                }
                self.ask_again();
                while let Some(step) = self.slots.pop() {
                    let Lent::Ready(gpus) = self.lend(step) else { continue };
                    let order = self.start(step, gpus);
                    let (sender, workshop) = (sender.clone(), &workshop);
                    scope.spawn(move || {
                        let tell = |news| drop(sender.send(Message::News(step, news)));
                        let work = AssertUnwindSafe(|| workshop.carry_out(&order, &tell));
                        let message = match catch_unwind(work) {
                            Ok(carried) => Message::Done(step, carried),
                            // A worker that is gone without a word would be waited for without end.
                            Err(panic) => Message::Broken(panic),
                        };
                        // The owner listens until the last worker is done.
                        drop(sender.send(message));
                    });
                }
                if self.slots.running() == 0 && self.awaiting_gpus.is_empty() {
                    if self.agenda.is_empty() {
                        return Ok(());
                    }
                    continue;
                }
                if told.elapsed() >= FORECAST_EVERY {
                    told = Instant::now();
                    self.tell_forecast(steps);
                }
                let patience = match (is_settled, self.awaiting_gpus.is_empty()) {
                    (false, _) => Duration::ZERO,
                    (true, true) => FORECAST_EVERY,
                    (true, false) => ASK_AGAIN_AFTER,
                };
                match receiver.recv_timeout(patience) {
                    Ok(Message::News(step, news)) => self.pass_on(step, &news),
                    Ok(Message::Done(step, carried)) => {
                        self.slots.release(step);
                        self.nodes[step.index()].attempts = carried.attempts;
                        self.done(step, carried.outcome);
                    }
                    Ok(Message::Broken(panic)) => {
                        self.context.cancel.trip();
                        resume_unwind(panic);
                    }
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                    Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
                }
                if flushed.elapsed() > FLUSH_EVERY && !flushing.swap(true, Ordering::AcqRel) {
                    flushed = Instant::now();
                    let (store, flushing) = (self.context.store, &flushing);
                    scope.spawn(move || {
                        // A flush that fails is tried again at the end, and reported there.
                        drop(store.flush());
                        flushing.store(false, Ordering::Release);
                    });
                }
            }
        })
    }

    /// Tells what a worker says of its step.
    fn pass_on(&mut self, step: StepId, news: &News) {
        let name = &self.context.graph.step(step).name;
        (self.emit)(match news {
            News::Waiting => Event::Waiting { step, name },
            News::Printing(log) => Event::Printing { step, log },
            News::Retrying { attempt, of, reason } => {
                Event::Retrying { step, name, attempt: *attempt, of: *of, reason }
            }
        });
    }

    /// Begins nothing more.
    fn stop(&mut self, reason: &str) {
        if self.stopping.is_some() {
            return;
        }
        self.stopping = Some(reason.to_owned());
        self.slots.clear();
        self.awaiting_gpus.clear();
        let mut unchecked = Vec::new();
        for (step, node) in self.context.graph.step_ids().zip(&mut self.nodes) {
            match node.phase {
                Phase::Queued(Purpose::Check(_)) | Phase::Gathering(Purpose::Check(_)) => {
                    unchecked.push(step);
                }
                Phase::Queued(_) => node.phase = Phase::Stopped,
                _ => {}
            }
        }
        for step in unchecked {
            self.leave_unchecked(step, self.stop_reason());
        }
    }

    /// Gathering, Queued or Running for a check → Known: it has its result, whatever came between.
    fn leave_unchecked(&mut self, step: StepId, reason: String) {
        let node = &mut self.nodes[step.index()];
        node.phase = Phase::Known;
        node.unchecked = Some(reason);
        node.keep_why_of_runs();
        self.announce(step);
        self.notify(step);
    }

    /// Raises what is asked of a step.
    fn demand(&mut self, step: StepId, demand: Demand) {
        let node = &mut self.nodes[step.index()];
        if node.demand >= demand {
            return;
        }
        node.demand = demand;
        if matches!(node.phase, Phase::Idle) {
            node.phase = Phase::Resolving;
            for upstream in self.context.graph.step(step).upstream() {
                self.demand(upstream, Demand::Known);
            }
        }
        self.agenda.push(step);
    }

    /// Moves a step on as far as it can go now.
    fn advance(&mut self, step: StepId) -> Result<(), BuildError> {
        match &self.nodes[step.index()].phase {
            Phase::Resolving => self.look_up(step),
            Phase::Known => {
                self.provide(step);
                Ok(())
            }
            Phase::Gathering(_) => {
                self.gather(step);
                Ok(())
            }
            Phase::Idle
            | Phase::Queued(_)
            | Phase::Running(_)
            | Phase::Failed
            | Phase::Skipped(_)
            | Phase::Stopped => Ok(()),
        }
    }

    /// Resolving → Known, Gathering or Skipped, once everything upstream is known.
    fn look_up(&mut self, step: StepId) -> Result<(), BuildError> {
        let graph = self.context.graph;
        let mut ready = true;
        for upstream in graph.step(step).upstream() {
            match &self.nodes[upstream.index()].phase {
                Phase::Failed => {
                    return self.skip(step, format!("`{}` failed", graph.step(upstream).name));
                }
                Phase::Skipped(_) => {
                    return self.skip(step, format!("`{}` was skipped", graph.step(upstream).name));
                }
                Phase::Stopped => return self.skip(step, self.stop_reason()),
                _ => ready &= self.nodes[upstream.index()].result.is_some(),
            }
        }
        if !ready {
            return Ok(());
        }
        if let Some(reason) = self.standing().withheld(step) {
            return self.skip(step, reason);
        }
        let (key, places) = key::action_key(&self.standing().subject(step));
        self.session.hold_key(&key)?;
        // By the second time, it may be another.
        let recorded = match self.recorded.remove(&key) {
            Some(recorded) => Some(recorded),
            None => self.context.store.realisation(&key)?,
        };
        let node = &mut self.nodes[step.index()];
        node.key = Some(key);
        node.places = places;
        // Once under each key: a step that was done and is looked at anew since what it reads was made anew, the same, has
        // done what was asked. Twins that read one another's results would have each other run without end.
        if self.options.again.contains(&step) && node.made != Some(key) {
            node.why = Reason::Again.lines();
            node.phase = Phase::Gathering(Purpose::Again);
            self.gather(step);
            return Ok(());
        }
        match recorded {
            Some(recorded) if recorded.isolation >= self.isolation => {
                node.result = Some(recorded);
                // It may have run just before, for what it reads came out as it was; or have been about to run.
                node.how = if node.made == Some(key) { How::Ran } else { How::Reused };
                node.keep_why_of_runs();
                node.phase = Phase::Known;
                self.provide(step);
                self.notify(step);
            }
            Some(recorded) => {
                node.why = Reason::WeakerIsolation { recorded: recorded.isolation }.lines();
                node.phase = Phase::Gathering(Purpose::Missing);
                self.gather(step);
            }
            None => {
                node.phase = Phase::Gathering(Purpose::Missing);
                self.nodes[step.index()].why = self.explain(step, key);
                self.gather(step);
            }
        }
        Ok(())
    }

    /// Known: if its outputs are asked for and lost, it has to run again; if a check is due, too.
    fn provide(&mut self, step: StepId) {
        let lost =
            if self.nodes[step.index()].demand == Demand::Present { self.lost(step) } else { None };
        let node = &mut self.nodes[step.index()];
        let Some(result) = &node.result else { return };
        if let Some(lost) = lost {
            node.why = explain::output_lost(self.context.store, Some(result), lost).lines();
            node.phase = Phase::Gathering(Purpose::Lost(Box::new(result.clone())));
            self.gather(step);
        } else if self.options.check.contains(&step) && !node.checked {
            node.checked = true;
            if self.context.graph.step(step).determinism == Determinism::None {
                let text = format!(
                    "`{}` says determinism = \"none\": --check does not hold it to anything",
                    self.context.graph.step(step).name
                );
                (self.emit)(Event::Note(&text));
                return self.announce(step);
            }
            // A step that ran for a reason of its own ran for that.
            if node.how != How::Ran {
                node.why = Reason::Check.lines();
            }
            node.phase = Phase::Gathering(Purpose::Check(Box::new(result.clone())));
            self.gather(step);
        } else {
            self.announce(step);
        }
    }

    /// The first output of a step whose bytes are not there. What an alias stands for is asked of its maker.
    fn lost(&mut self, step: StepId) -> Option<String> {
        for maker in self.standing().makers_behind(step) {
            self.demand(maker, Demand::Present);
        }
        self.standing().lost(step).map(str::to_owned)
    }

    /// What a reference is in the end, behind aliases.
    fn origin(&self, reference: Reference) -> Reference {
        self.context.graph.origin(reference)
    }

    /// What is known now.
    pub(super) fn standing(&self) -> Standing<'_> {
        Standing { context: self.context, resolution: self.resolution, results: &self.nodes }
    }

    /// Gathering → Queued, once the bytes of all inputs are there.
    fn gather(&mut self, step: StepId) {
        if self.is_beyond_gpus(step) {
            return;
        }
        let inputs = self.context.graph.step(step).inputs.clone();
        let unasked = |input: &Reference| match self.origin(*input) {
            Reference::Output(maker, _) => self.nodes[maker.index()].demand < Demand::Present,
            Reference::Source(_) => false,
        };
        let mut ready = !inputs.iter().any(unasked);
        if !ready {
            // Whoever is only now asked for bytes may find that others of its outputs are lost, and run again. It is
            // looked at first.
            self.agenda.push(step);
        }
        let maker = |input: Reference| match input {
            Reference::Output(maker, _) => Some(maker),
            Reference::Source(_) => None,
        };
        // What is read cannot be had; or, behind an alias, it is not known any more what that is.
        let dead = inputs.iter().find_map(|&input| {
            let node = |maker: StepId| &self.nodes[maker.index()];
            let lost = maker(self.origin(input)).filter(|&maker| node(maker).is_dead());
            let unknown = maker(input).filter(|&m| node(m).is_dead() && node(m).result.is_none());
            lost.or(unknown)
        });
        if let Some(maker) = dead {
            let name = &self.context.graph.step(maker).name;
            let reason = format!("`{name}` was needed again and did not succeed");
            return match self.nodes[step.index()].phase {
                Phase::Gathering(Purpose::Check(_)) => self.leave_unchecked(step, reason),
                _ => self.settle(step, Phase::Skipped(reason)),
            };
        }
        for input in inputs {
            if let Reference::Output(maker, _) = self.origin(input) {
                self.demand(maker, Demand::Present);
                let busy = !matches!(self.nodes[maker.index()].phase, Phase::Known);
                ready &= !busy && self.standing().is_present(input);
            }
        }
        if !ready {
            return;
        }
        let node = &mut self.nodes[step.index()];
        if let Phase::Gathering(purpose) = std::mem::replace(&mut node.phase, Phase::Idle) {
            if self.stopping.is_some() {
                return match purpose {
                    Purpose::Check(_) => self.leave_unchecked(step, self.stop_reason()),
                    _ => self.settle(step, Phase::Stopped),
                };
            }
            node.phase = Phase::Queued(purpose);
            self.queue(step);
        }
    }

    pub(super) fn queue(&mut self, step: StepId) {
        let (ways, estimates) = (&mut self.ways, &mut self.estimates);
        let downstream = &self.downstream;
        let way = ways.of(
            step,
            |step| &downstream[step.index()],
            |step| u64::try_from(estimates.of(step).time.as_micros()).unwrap_or(u64::MAX),
        );
        self.slots.push(step, way);
    }

    /// Tells how long the rest of the build will take.
    fn tell_forecast(&mut self, steps: &[StepId]) {
        let remaining = steps.iter().filter_map(|&step| {
            let node = &self.nodes[step.index()];
            let state = match &node.phase {
                Phase::Running(_) => {
                    State::Running(node.started.map_or(Duration::ZERO, |at| at.elapsed()))
                }
                Phase::Gathering(_) | Phase::Queued(_) => State::Certain,
                Phase::Resolving => State::Possible,
                _ => return None,
            };
            Some(Remaining { step, state })
        });
        let remaining: Vec<Remaining> = remaining.collect();
        let (graph, capacity) = (self.context.graph, self.options.capacity);
        let forecast = forecast(graph, capacity, &mut self.estimates, &remaining);
        (self.emit)(Event::Forecast(&forecast));
    }

    /// Queued → Running.
    fn start(&mut self, step: StepId, gpus: Option<Lease>) -> Order<'a> {
        let context = self.context;
        let definition = context.graph.step(step);
        let ground = &self.resolution.grounds[&step];
        let manifest = key::manifest(&self.standing().subject(step)).to_text();
        let inputs =
            self.nodes[step.index()].places.iter().map(|(_, input)| self.order_input(input));
        let inputs = inputs.collect();
        let cpus = self.slots.cpus(step);
        let node = &mut self.nodes[step.index()];
        let purpose = match std::mem::replace(&mut node.phase, Phase::Idle) {
            Phase::Queued(purpose) => purpose,
            other => unreachable!("only queued steps hold slots, and this one is {other:?}"),
        };
        node.phase = Phase::Running(purpose.clone());
        node.announced = false;
        node.stale = false;
        node.started = Some(Instant::now());
        let key = node.key.expect("a step is queued only after its key was computed");
        let estimate = self.estimates.of(step);
        let estimate = (estimate.basis == Basis::Itself).then_some(estimate.time);
        let why = &self.nodes[step.index()].why;
        (self.emit)(Event::Started { step, name: &definition.name, why, estimate });
        let passed = ground.passed.iter();
        let files = ground.files.iter();
        Order {
            recipe: &context.graph.name,
            step: definition,
            key,
            inputs,
            files: files
                .map(|(name, (path, object))| (name.clone(), path.clone(), *object))
                .collect(),
            passed: passed
                .filter_map(|(name, value)| Some((name.clone(), value.clone()?)))
                .collect(),
            tools: ground.toolbox.tools.clone(),
            surroundings: context.surroundings,
            cpus,
            gpus,
            manifest,
            purpose,
            isolation: self.isolation,
        }
    }

    fn order_input(&self, reference: Reference) -> Input<'a> {
        let (object, extension, bytes) = match reference {
            Reference::Source(id) => {
                let source = &self.resolution.sources[&id];
                (source.object, source.extension.clone(), source.bytes)
            }
            Reference::Output(step, number) => {
                // An input that was taken for an absent one would be recorded under the key of one that is there.
                let standing = self.standing();
                let output = standing.output(step, number);
                let output = output.expect("a step is queued only while what it reads is known");
                (Some(output.object), output.extension.clone(), output.bytes)
            }
        };
        let source = match self.origin(reference) {
            Reference::Source(id) => self.resolution.sources.get(&id),
            Reference::Output(..) => None,
        };
        Input { reference, extension, object, bytes, source }
    }

    /// Running → Known, Failed or Stopped.
    pub(super) fn done(&mut self, step: StepId, outcome: Outcome) {
        let node = &mut self.nodes[step.index()];
        node.ran_for_check |= match outcome {
            Outcome::Checked(_) => true,
            Outcome::Failed(_) => matches!(node.phase, Phase::Running(Purpose::Check(_))),
            _ => false,
        };
        match outcome {
            Outcome::Made(result) => self.accept(step, *result, How::Ran),
            Outcome::Found(result) => self.accept(step, *result, How::Reused),
            Outcome::Checked(_) | Outcome::Failed(_) if node.stale => {
                node.stale = false;
                node.checked = false;
                node.result = None;
                node.key = None;
                node.phase = Phase::Resolving;
                self.agenda.push(step);
            }
            Outcome::Checked(findings) => {
                node.findings = findings;
                node.phase = Phase::Known;
                // While it was checked, somebody may have asked for bytes that are lost.
                self.provide(step);
                self.notify(step);
            }
            Outcome::Failed(failed)
                if matches!(
                    node.phase,
                    Phase::Running(Purpose::Check(_))
                        | Phase::Queued(Purpose::Check(_))
                        | Phase::Gathering(Purpose::Check(_))
                ) =>
            {
                let failed = format!("the second run failed: {}", failed.reason);
                node.findings = Findings { differences: vec![failed], deviation: None };
                node.phase = Phase::Known;
                // While it was checked, somebody may have asked for bytes that are lost.
                self.provide(step);
                self.notify(step);
            }
            Outcome::Failed(failed) => {
                node.failure = Some(failed);
                node.result = None;
                self.settle(step, Phase::Failed);
                self.hold_back(step);
                if !self.options.keep_going {
                    let name = &self.context.graph.step(step).name;
                    self.stop(&format!("`{name}` failed"));
                }
            }
            Outcome::Interrupted
                if matches!(node.phase, Phase::Running(Purpose::Check(_))) && !node.stale =>
            {
                self.stop("the build was interrupted");
                self.leave_unchecked(step, "it was interrupted while it ran".into());
            }
            Outcome::Interrupted => {
                node.result = None;
                self.stop("the build was interrupted");
                self.settle(step, Phase::Skipped("it was interrupted while it ran".into()));
            }
        }
    }

    /// Takes steps out of the queue that read what `step` has no more.
    fn hold_back(&mut self, step: StepId) {
        for reader in self.context.graph.step_ids() {
            // Behind an alias it may be something else that is read: but that is known through `step` alone.
            let reads = |input: &Reference| {
                [*input, self.origin(*input)]
                    .iter()
                    .any(|input| matches!(input, Reference::Output(maker, _) if *maker == step))
            };
            let node = &self.nodes[reader.index()];
            if matches!(node.phase, Phase::Queued(_))
                && self.context.graph.step(reader).inputs.iter().any(reads)
            {
                self.slots.remove(reader);
                let node = &mut self.nodes[reader.index()];
                if let Phase::Queued(purpose) = std::mem::replace(&mut node.phase, Phase::Idle) {
                    node.phase = Phase::Gathering(purpose);
                }
                self.agenda.push(reader);
            }
        }
    }

    /// Takes a result in, and looks again at everything that was computed from another one.
    fn accept(&mut self, step: StepId, result: Realisation, how: How) {
        let node = &mut self.nodes[step.index()];
        if how == How::Ran {
            node.made = Some(result.key);
            self.recorded.remove(&result.key);
        }
        if node.stale {
            node.stale = false;
            node.result = None;
            node.key = None;
            node.phase = Phase::Resolving;
            self.agenda.push(step);
            return;
        }
        let replaced = matches!(node.phase, Phase::Running(Purpose::Again | Purpose::Lost(_)));
        let differs = node.result.as_ref().is_some_and(|before| before.outputs != result.outputs);
        let for_twins = (replaced && how == How::Ran).then(|| result.clone());
        node.result = Some(result);
        node.how = how;
        node.keep_why_of_runs();
        node.phase = Phase::Known;
        if differs {
            self.reconsider_after(step);
        }
        self.provide(step);
        self.notify(step);
        if let Some(result) = for_twins {
            self.replace_in_twins(step, &result);
        }
    }

    /// Gives the result that has taken another's place under its key to the other steps that have that key.
    fn replace_in_twins(&mut self, step: StepId, result: &Realisation) {
        for twin in self.context.graph.step_ids() {
            let node = &mut self.nodes[twin.index()];
            if twin == step || node.key != Some(result.key) || !matches!(node.phase, Phase::Known) {
                continue;
            }
            let before = node.result.replace(result.clone());
            if before.is_some_and(|before| before.outputs != result.outputs) {
                node.announced = false;
                self.reconsider_after(twin);
            }
            self.provide(twin);
            self.notify(twin);
        }
    }

    /// Sends everything below `step` back to where its inputs were not known.
    fn reconsider_after(&mut self, step: StepId) {
        let mut pending = self.downstream[step.index()].clone();
        while let Some(next) = pending.pop() {
            let node = &mut self.nodes[next.index()];
            match node.phase {
                Phase::Known | Phase::Gathering(_) | Phase::Skipped(_) => {}
                Phase::Queued(_) => self.slots.remove(next),
                Phase::Running(_) => {
                    // What it was before is not known any more either, so that nobody goes on from that.
                    node.stale = true;
                    node.result = None;
                    pending.extend(&self.downstream[next.index()]);
                    continue;
                }
                _ => continue,
            }
            let node = &mut self.nodes[next.index()];
            node.phase = Phase::Resolving;
            node.result = None;
            node.key = None;
            node.checked = false;
            node.unchecked = None;
            node.announced = false;
            node.findings = Findings::default();
            self.agenda.push(next);
            pending.extend(&self.downstream[next.index()]);
        }
    }

    fn skip(&mut self, step: StepId, reason: String) -> Result<(), BuildError> {
        self.settle(step, Phase::Skipped(reason));
        Ok(())
    }

    /// Ends a step without a result.
    fn settle(&mut self, step: StepId, phase: Phase) {
        let node = &mut self.nodes[step.index()];
        node.how = if matches!(phase, Phase::Failed) { How::Failed } else { How::Skipped };
        node.phase = phase;
        self.announce(step);
        self.notify(step);
    }

    /// Has everything that waits for `step` looked at again.
    fn notify(&mut self, step: StepId) {
        let graph = self.context.graph;
        let mut makers = vec![step];
        while let Some(maker) = makers.pop() {
            for &reader in &self.downstream[maker.index()] {
                if matches!(
                    self.nodes[reader.index()].phase,
                    Phase::Resolving | Phase::Gathering(_)
                ) {
                    self.agenda.push(reader);
                }
                // What an alias stands for is awaited by the alias's readers, which are not its direct neighbours.
                if graph.step(reader).outputs.iter().any(|output| output.alias.is_some()) {
                    makers.push(reader);
                }
            }
        }
    }

    /// Tells what came of a step, once for each time that it comes to an end.
    fn announce(&mut self, step: StepId) {
        if std::mem::replace(&mut self.nodes[step.index()].announced, true) {
            return;
        }
        let report = self.step_report(step);
        (self.emit)(Event::Finished { step, report: &report });
    }

    pub(super) fn stop_reason(&self) -> String {
        match &self.stopping {
            Some(reason) => format!("not started: {reason}"),
            None => "not reached".to_owned(),
        }
    }

    fn explain(&self, step: StepId, key: Digest) -> Vec<String> {
        let name = &self.context.graph.step(step).name;
        let standing = self.standing();
        let subject = standing.subject(step);
        explain::reason(self.context, name, key, &|| key::manifest(&subject)).lines()
    }
}

impl Results for Vec<Node> {
    fn result(&self, step: StepId) -> Option<&Realisation> {
        self[step.index()].result.as_ref()
    }
}
