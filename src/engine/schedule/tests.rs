//! Slots and the order of the queue, on small graphs and on random ones.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::{catalogue::Catalogue, diagnostic::SourceText, recipe};

/// A graph of steps, each with its readings and resources: `("b", "cat ${a}", "cpus = 2")`.
fn graph(steps: &[(&str, &str, &str)]) -> Graph {
    let mut text = String::from("name = \"t\"\n");
    for (name, reads, resources) in steps {
        text.push_str(&format!("[steps.{name}]\nrun = \"true {reads} > ${{out}}\"\n{resources}\n"));
    }
    let source = Arc::new(SourceText { name: "kiln.toml".into(), text });
    recipe::evaluate(&source, &Catalogue { builders: &[] }, &[]).unwrap()
}

fn slots(graph: &Graph, cpus: u32) -> Slots<'_> {
    Slots::new(graph, Capacity { cpus, memory: 100 << 20, gpus: 0 })
}

fn id(graph: &Graph, name: &str) -> StepId {
    graph.find(name).unwrap()
}

fn after(graph: &Graph) -> Vec<Vec<StepId>> {
    let mut after = vec![Vec::new(); graph.steps.len()];
    for id in graph.step_ids() {
        graph.step(id).upstream().into_iter().for_each(|before| after[before.index()].push(id));
    }
    after
}

/// The way of each step, with what each takes.
fn ways(graph: &Graph, weight: impl Fn(StepId) -> u64) -> Vec<u64> {
    let after = after(graph);
    let mut ways = Ways::new(graph.steps.len());
    graph.step_ids().map(|step| ways.of(step, |step| &after[step.index()], &weight)).collect()
}

fn push_all(slots: &mut Slots<'_>, graph: &Graph, weight: impl Fn(StepId) -> u64) {
    let ways = ways(graph, weight);
    graph.step_ids().for_each(|step| slots.push(step, ways[step.index()]));
}

/// Carries all steps of a graph out, each as long as `weight` says, and tells how long it took. `order` puts a step in
/// the queue.
fn carry_out(
    graph: &Graph,
    cpus: u32,
    weight: &dyn Fn(StepId) -> u64,
    way: &dyn Fn(StepId) -> u64,
) -> u64 {
    let after = after(graph);
    let mut waits: Vec<usize> = graph.steps.iter().map(|step| step.upstream().len()).collect();
    let mut slots = slots(graph, cpus);
    for step in graph.step_ids().filter(|step| waits[step.index()] == 0) {
        slots.push(step, way(step));
    }
    let (mut now, mut running) = (0, BTreeSet::new());
    loop {
        while let Some(step) = slots.pop() {
            running.insert((now + weight(step), step));
        }
        let Some((ends, step)) = running.pop_first() else { return now };
        now = ends;
        slots.release(step);
        for &next in &after[step.index()] {
            waits[next.index()] -= 1;
            if waits[next.index()] == 0 {
                slots.push(next, way(next));
            }
        }
    }
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
    let ways = ways(&graph, |_| 1);
    let mut slots = slots(&graph, 4);
    let (a, b) = (id(&graph, "a"), id(&graph, "b"));
    assert_eq!((ways[a.index()], ways[b.index()]), (2, 3));
    slots.push(a, ways[a.index()]);
    slots.push(b, ways[b.index()]);
    assert_eq!([slots.pop(), slots.pop(), slots.pop()], [Some(b), Some(a), None]);
}

#[test]
fn a_heavy_step_counts_for_more_than_many_light_ones() {
    let graph = graph(&[("a", "", ""), ("b", "", ""), ("c", "${b}", "")]);
    let a = id(&graph, "a");
    let mut slots = slots(&graph, 1);
    push_all(&mut slots, &graph, |step| if step == a { 10 } else { 1 });
    assert_eq!(slots.pop(), Some(a));
}

#[test]
fn steps_of_equal_ways_run_in_the_order_of_the_graph() {
    let graph = graph(&[("c", "", ""), ("a", "", ""), ("b", "", "")]);
    let order = || {
        let mut slots = slots(&graph, 1);
        graph.step_ids().rev().for_each(|step| slots.push(step, 7));
        std::iter::from_fn(|| {
            let step = slots.pop()?;
            slots.release(step);
            Some(step)
        })
        .collect::<Vec<_>>()
    };
    assert_eq!(order(), graph.step_ids().collect::<Vec<_>>());
    assert_eq!(order(), order());
}

/// Many short steps stand in front of a chain in the graph's order. First come, first served begins the chain last.
#[test]
fn the_critical_path_first_is_faster_than_first_come_first_served() {
    let mut steps: Vec<(String, String)> =
        (0..8).map(|short| (format!("a{short}"), String::new())).collect();
    for link in 0..8 {
        let reads = if link == 0 { String::new() } else { format!("${{z{}}}", link - 1) };
        steps.push((format!("z{link}"), reads));
    }
    let steps: Vec<(&str, &str, &str)> =
        steps.iter().map(|(name, reads)| (name.as_str(), reads.as_str(), "")).collect();
    let graph = graph(&steps);
    let weight = |_| 10;
    let ways = ways(&graph, weight);
    let critical = carry_out(&graph, 2, &weight, &|step| ways[step.index()]);
    let in_order = carry_out(&graph, 2, &weight, &|_| 0);
    assert_eq!((critical, in_order), (80, 120));
}

#[test]
fn a_step_waits_until_its_processors_are_free_and_a_smaller_one_overtakes_it() {
    let graph = graph(&[("a", "", "cpus = 2"), ("b", "", "cpus = 3"), ("c", "", "cpus = 2")]);
    let mut slots = slots(&graph, 4);
    push_all(&mut slots, &graph, |_| 1);
    let (a, b, c) = (id(&graph, "a"), id(&graph, "b"), id(&graph, "c"));
    assert_eq!([slots.pop(), slots.pop(), slots.pop()], [Some(a), Some(c), None]);
    slots.release(a);
    assert_eq!(slots.pop(), None, "two of three processors are free");
    slots.release(c);
    assert_eq!(slots.pop(), Some(b));
    assert_eq!((slots.running(), slots.is_empty()), (1, true));
}

#[test]
fn a_large_step_is_overtaken_only_so_often() {
    let names: Vec<String> = (0..50).map(|number| format!("s{number:02}")).collect();
    let mut steps: Vec<(&str, &str, &str)> =
        names.iter().map(|name| (name.as_str(), "", "")).collect();
    steps.push(("large", "", "cpus = 4"));
    let graph = graph(&steps);
    let large = id(&graph, "large");
    let mut slots = slots(&graph, 4);
    let mut running: std::collections::VecDeque<StepId> = std::collections::VecDeque::new();
    let mut small = graph.step_ids().filter(|&step| step != large);
    for step in small.by_ref().take(5) {
        slots.push(step, 1);
    }
    running.extend(slots.pop());
    slots.push(large, 100);
    // One ends, another one takes its place: without a limit the large one would never find four that are free.
    for started in 0..20 {
        while let Some(step) = slots.pop() {
            running.push_back(step);
            if step == large {
                assert!(started <= 8, "it was overtaken {started} times");
                assert_eq!(running.len(), 1, "it needs all there is");
                return;
            }
        }
        slots.release(running.pop_front().unwrap());
        slots.push(small.next().unwrap(), 1);
    }
    panic!("the large step never ran");
}

#[test]
fn what_does_not_take_what_a_step_waits_for_goes_on_beside_it() {
    let mut graph = graph(&[("a", "", ""), ("b", "", ""), ("c", "", "")]);
    let (a, b) = (id(&graph, "a"), id(&graph, "b"));
    for step in [a, b] {
        graph.steps[step.index()].resources.gpus = 1;
    }
    let mut slots = Slots::new(&graph, Capacity { cpus: 2, memory: 0, gpus: 1 });
    slots.push(a, 9);
    slots.push(b, 8);
    assert_eq!((slots.pop(), slots.pop()), (Some(a), None), "the only GPU is taken");
    // However often: it is a GPU that `b` waits for, and those need none.
    for _ in 0..20 {
        slots.push(id(&graph, "c"), 1);
        let next = slots.pop();
        assert_eq!(next, Some(id(&graph, "c")));
        slots.release(next.unwrap());
    }
    slots.release(a);
    assert_eq!(slots.pop(), Some(b));
}

#[test]
fn steps_share_memory_too() {
    let graph = graph(&[
        ("a", "", "memory = \"60MiB\""),
        ("b", "", "memory = \"60MiB\""),
        ("c", "", "memory = \"40MiB\""),
    ]);
    let mut slots = slots(&graph, 8);
    push_all(&mut slots, &graph, |_| 1);
    assert_eq!(
        [slots.pop(), slots.pop(), slots.pop()],
        [Some(id(&graph, "a")), Some(id(&graph, "c")), None]
    );
}

#[test]
fn what_asks_for_more_than_there_is_runs_alone_with_what_there_is() {
    for asks in ["cpus = 64", "memory = \"1TiB\"", "cpus = 64\nmemory = \"1TiB\""] {
        let graph = graph(&[("a", "", ""), ("b", "", asks), ("c", "", "")]);
        let (a, b, c) = (id(&graph, "a"), id(&graph, "b"), id(&graph, "c"));
        let mut slots = slots(&graph, 2);
        slots.push(a, 3);
        slots.push(b, 2);
        assert_eq!((slots.pop(), slots.pop()), (Some(a), None), "{asks}");
        slots.push(c, 1);
        slots.release(a);
        assert_eq!((slots.pop(), slots.cpus(b)), (Some(b), 2), "{asks}");
        assert_eq!(slots.pop(), None, "{asks}: it runs alone");
        slots.release(b);
        assert_eq!(slots.pop(), Some(c));
    }
}

#[test]
fn what_is_taken_out_or_forgotten_does_not_run() {
    let graph = graph(&[("a", "", ""), ("b", "", "")]);
    let mut slots = slots(&graph, 2);
    push_all(&mut slots, &graph, |_| 1);
    slots.remove(id(&graph, "a"));
    assert_eq!(slots.pop(), Some(id(&graph, "b")));
    slots.push(id(&graph, "a"), 1);
    slots.clear();
    assert_eq!(slots.pop(), None);
}

#[test]
fn a_way_is_looked_up_only_for_what_comes_after() {
    let graph = graph(&[("a", "", ""), ("b", "${a}", ""), ("c", "", ""), ("d", "${c}", "")]);
    let after = after(&graph);
    let mut asked = Vec::new();
    let mut ways = Ways::new(graph.steps.len());
    let way = ways.of(
        id(&graph, "c"),
        |step| &after[step.index()],
        |step| {
            asked.push(graph.step(step).name.clone());
            5
        },
    );
    assert_eq!((way, asked), (10, vec!["d".to_owned(), "c".to_owned()]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_step_gets_its_turn_and_no_slot_is_given_twice(
        asks in prop::collection::vec((1u32..6, 0u64..5, 0u32..3), 1..8),
        capacity in (1u32..5, 1u64..4, 1u32..3),
        ways in prop::collection::vec(0u64..4, 8),
        ends in any::<u64>(),
    ) {
        let names: Vec<String> = (0..asks.len()).map(|step| format!("s{step}")).collect();
        let resources: Vec<String> = asks
            .iter()
            .map(|(cpus, memory, _)| match memory {
                0 => format!("cpus = {cpus}"),
                memory => format!("cpus = {cpus}\nmemory = \"{memory}MiB\""),
            })
            .collect();
        let steps: Vec<(&str, &str, &str)> =
            names.iter().zip(&resources).map(|(name, own)| (name.as_str(), "", own.as_str())).collect();
        let mut graph = graph(&steps);
        let capacity = Capacity { cpus: capacity.0, memory: capacity.1 << 20, gpus: capacity.2 };
        for (step, (_, _, gpus)) in graph.steps.iter_mut().zip(&asks) {
            step.resources.gpus = *gpus;
        }
        let mut slots = Slots::new(&graph, capacity);
        graph.step_ids().for_each(|step| slots.push(step, ways[step.index()]));
        let (mut running, mut done) = (Vec::new(), 0);
        while done < asks.len() {
            while let Some(step) = slots.pop() {
                running.push(step);
            }
            let taken = running.iter().map(|&step| needs(&graph.step(step).resources, capacity));
            let (cpus, memory, gpus) = taken.fold((0, 0, 0), |sum, need| {
                (sum.0 + need.cpus, sum.1 + need.memory, sum.2 + need.gpus)
            });
            prop_assert!(cpus <= capacity.cpus && memory <= capacity.memory && gpus <= capacity.gpus);
            prop_assert!(!running.is_empty());
            let oversized = running.iter().any(|step| {
                let (cpus, memory, _) = asks[step.index()];
                cpus > capacity.cpus || memory << 20 > capacity.memory
            });
            prop_assert!(!oversized || running.len() == 1, "it runs alone");
            let ends = ends as usize % running.len();
            slots.release(running.swap_remove(ends));
            done += 1;
        }
        prop_assert!(slots.is_empty() && slots.running() == 0);
        prop_assert_eq!(slots.free, capacity);
    }

    #[test]
    fn a_way_is_the_heaviest_chain(
        reads in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..3), 1..12),
        weights in prop::collection::vec(1u64..50, 12),
    ) {
        let names: Vec<String> = (0..reads.len()).map(|step| format!("s{step:02}")).collect();
        let texts: Vec<String> = reads
            .iter()
            .enumerate()
            .map(|(step, reads)| {
                let reads = reads.iter().filter(|_| step > 0);
                reads.map(|read| format!("${{s{:02}}} ", read.index(step))).collect()
            })
            .collect();
        let steps: Vec<(&str, &str, &str)> =
            names.iter().zip(&texts).map(|(name, reads)| (name.as_str(), reads.as_str(), "")).collect();
        let graph = graph(&steps);
        let weight = |step: StepId| weights[step.index()];
        let found = ways(&graph, weight);
        // By definition, from the last step to the first.
        let mut wanted = vec![0; graph.steps.len()];
        for step in graph.step_ids().rev() {
            let after = graph.step_ids().filter(|&next| graph.step(next).upstream().contains(&step));
            wanted[step.index()] = weight(step) + after.map(|next| wanted[next.index()]).max().unwrap_or(0);
        }
        prop_assert_eq!(found, wanted);
    }
}
