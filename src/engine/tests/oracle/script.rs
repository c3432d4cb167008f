//! A case: which recipe, and what is done in which order. Can be made simpler while it still fails.

use kiln_cache::Object;

use std::collections::BTreeMap;

use crate::{
    chance::Chance,
    draft::Draft,
    request::Request,
    world::{Outcome, World},
};

/// Rounds of a full case.
const ROUNDS: u64 = 4;

/// Most steps of a full case.
const STEPS: usize = 9;

/// A case. What is left out of it does not move what is left in.
#[derive(Clone, Debug)]
pub struct Script {
    seed: u64,
    /// At most so many steps.
    steps: usize,
    rounds: Vec<Round>,
}

/// Edits, perhaps damage, and a build.
#[derive(Clone, Debug)]
struct Round {
    number: u64,
    edits: Vec<u64>,
    damage: bool,
    /// Everything is asked for, and nothing special.
    plain: bool,
}

/// What was done, to be shown if it was not answered well.
#[derive(Default)]
pub struct Story {
    pub lines: Vec<String>,
    pub draft: Option<Draft>,
}

impl Script {
    /// The full case of this number.
    pub fn new(seed: u64) -> Self {
        let mut chance = Chance::part(seed, 1);
        let rounds = (0..ROUNDS).map(|number| Round {
            number,
            edits: if number == 0 { Vec::new() } else { (0..1 + chance.next() % 3).collect() },
            damage: number > 0,
            plain: false,
        });
        Self { seed, steps: STEPS, rounds: rounds.collect() }
    }

    /// Cases with a little less in them, the ones with much less first.
    pub fn simpler(&self) -> Vec<Self> {
        let mut simpler = Vec::new();
        let mut with = |change: &dyn Fn(&mut Self)| {
            let mut script = self.clone();
            change(&mut script);
            simpler.push(script);
        };
        for at in (0..self.rounds.len()).rev() {
            with(&|script| drop(script.rounds.remove(at)));
        }
        for steps in (1..self.steps).rev().step_by(2) {
            with(&|script| script.steps = steps);
        }
        for (at, round) in self.rounds.iter().enumerate() {
            if round.damage {
                with(&|script| script.rounds[at].damage = false);
            }
            if !round.plain {
                with(&|script| script.rounds[at].plain = true);
            }
            for edit in 0..round.edits.len() {
                with(&|script| {
                    script.rounds[at].edits.remove(edit);
                });
            }
        }
        simpler
    }

    /// Does all of it; panics where kiln is wrong.
    pub fn play(&self, story: &mut Story) {
        let mut chance = Chance::part(self.seed, 2);
        let wobbling = chance.once_in(6);
        let in_place = chance.once_in(4);
        let draft = Draft::random(&mut chance, self.steps, wobbling);
        story.draft = Some(draft.clone());
        let mut world = World::new(in_place, draft.clone());
        if chance.once_in(4) {
            // The same recipe at another place, from where each goes its own way.
            world.settle_in(draft);
        }
        for round in &self.rounds {
            let site = self.round(round, &mut world, story);
            story.draft = Some(world.sites[site].draft.clone());
        }
        story.lines.push("everything is built, twice".into());
        for site in 0..world.sites.len() {
            world.sites[site].write(false);
            story.draft = Some(world.sites[site].draft.clone());
            let built = world.build(site, &Request::plain());
            let again = world.build(site, &Request::plain());
            if let (Some(built), Some(again)) = (&built, &again)
                && built.whole
            {
                assert!(again.ran.is_empty(), "the second of two builds ran {:?}", again.ran);
            }
            if !wobbling && chance.once_in(8) {
                story.lines.push("everything is built in a new store".into());
                let mut clean = World::new(false, world.sites[site].draft.clone());
                clean.sites[0].write(false);
                let clean = clean.build(0, &Request::plain());
                assert_eq!(outputs(&built), outputs(&clean), "a clean build gives something else");
            }
        }
    }

    fn round(&self, round: &Round, world: &mut World, story: &mut Story) -> usize {
        let mut chance = Chance::part(self.seed, 100 + round.number);
        let site = chance.below(world.sites.len());
        let stealthy = chance.once_in(4);
        for &edit in &round.edits {
            let mut chance = Chance::part(self.seed, 1000 + 10 * round.number + edit);
            let line = world.sites[site].draft.edit(&mut chance);
            story.lines.push(format!("recipe {site}: {line}"));
        }
        world.sites[site].write(stealthy);
        if round.damage {
            let mut chance = Chance::part(self.seed, 200 + round.number);
            story.lines.push(world.damage(&mut chance, site));
        }
        let draft = &world.sites[site].draft;
        let mut request =
            if round.plain { Request::plain() } else { Request::random(&mut chance, draft) };
        if draft.wobbles() {
            // A check of a step while what it reads wobbles compares nothing in the end.
            request.check.clear();
        }
        story.lines.push(format!("recipe {site} is built: {request:?}"));
        story.draft = Some(draft.clone());
        world.build(site, &request);
        site
    }
}

/// Outputs by step and name.
fn outputs(outcome: &Option<Outcome>) -> BTreeMap<(String, String), Object> {
    let reports = outcome.iter().flat_map(|outcome| outcome.reports.values());
    let outputs = reports.flat_map(|report| {
        let outputs = report.outputs.iter();
        outputs.map(|(name, output)| ((report.step.clone(), name.clone()), output.object()))
    });
    outputs.collect()
}
