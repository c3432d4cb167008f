//! What the oracle found once and chance seldom finds again.

use std::collections::BTreeSet;

use crate::{
    damage::remove,
    draft::{Draft, Given, Link, StepDraft, Work},
    request::Request,
    world::World,
};

fn mix(inputs: Vec<Link>) -> Work {
    Work::Mix { inputs, keep: vec![3], fragile: false, rate: None, weights: None }
}

#[test]
fn a_step_does_not_begin_while_what_it_reads_is_made_again_and_fails() {
    let maker = Work::Command {
        list: false,
        inputs: vec![Link::Source(0)],
        outputs: 3,
        named: false,
        env: None,
        words: false,
        files: None,
    };
    let steps =
        vec![StepDraft::new("maker", maker), StepDraft::new("reader", mix(vec![Link::Step(0, 0)]))];
    let mut world = World::new(false, Draft::of(steps));
    world.sites[0].write(false);
    let built = world.build(0, &Request::plain()).unwrap();
    // The reader does not read this one, so that it could begin without.
    let lost = built.reports["maker"].outputs["o2"].object();
    remove(&world.store().path(&lost));
    world.sites[0].draft.steps[1].number = Given::Own(1);
    let flaky = BTreeSet::from(["maker".to_owned()]);
    world.build(0, &Request { flaky, ..Request::plain() });
    world.build(0, &Request::plain());
}

#[test]
fn a_step_does_not_begin_that_knows_what_it_reads_through_a_gate_which_is_run_again_and_fails() {
    let gate = Work::Gate { data: Link::Source(0), base: None };
    let steps =
        vec![StepDraft::new("gate", gate), StepDraft::new("reader", mix(vec![Link::Step(0, 0)]))];
    let mut world = World::new(false, Draft::of(steps));
    world.sites[0].write(false);
    let both = ["gate", "reader"].map(str::to_owned).to_vec();
    let built = world.build(0, &Request { targets: both.clone(), ..Request::plain() }).unwrap();
    // What the reader reads is a source, which is there.
    let lost = built.reports["gate"].outputs["report"].object();
    remove(&world.store().path(&lost));
    let flaky = BTreeSet::from(["gate".to_owned()]);
    let again = vec!["reader".to_owned()];
    world.build(0, &Request { targets: both.clone(), again, flaky, ..Request::plain() });
    world.build(0, &Request { targets: both, ..Request::plain() });
}

#[test]
fn a_worker_that_panics_ends_the_build() {
    let steps = vec![StepDraft::new("one", mix(vec![Link::Source(0)]))];
    let mut world = World::new(false, Draft::of(steps));
    world.sites[0].write(false);
    world.fake.broken = true;
    let build = std::panic::AssertUnwindSafe(|| world.build(0, &Request::plain()));
    assert!(std::panic::catch_unwind(build).is_err(), "a build went well that could not");
}
