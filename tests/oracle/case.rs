//! A case: a random recipe, edits and damage, and builds. Can be made simpler while it fails.

use std::fmt::Write as _;

use super::{chance::Chance, draft::Draft, request::Request, world::World};

/// A case. What is left out of it does not move what is left in.
#[derive(Clone, Debug)]
pub struct Case {
    seed: u64,
    /// At most so many steps in the beginning.
    steps: usize,
    rounds: Vec<u64>,
}

impl Case {
    /// The full case of this number.
    pub fn new(seed: u64) -> Self {
        Self { seed, steps: 6, rounds: (0..3).collect() }
    }

    /// Cases with a little less in them.
    pub fn simpler(&self) -> Vec<Self> {
        let fewer = (0..self.rounds.len()).rev().map(|at| {
            let mut case = self.clone();
            case.rounds.remove(at);
            case
        });
        let smaller = (1..self.steps).map(|steps| Self { steps, ..self.clone() });
        fewer.chain(smaller).collect()
    }

    /// Does all of it; panics where kiln is wrong.
    pub fn play(&self, story: &mut String) {
        let mut chance = Chance::part(self.seed, 1);
        let mut world = World::new(Draft::random(&mut chance, self.steps));
        for &round in &self.rounds {
            let mut chance = Chance::part(self.seed, 100 + round);
            if round > 0 {
                for _ in 0..1 + chance.below(2) {
                    let _ = writeln!(story, "{}", world.draft.edit(&mut chance));
                }
                let _ = writeln!(story, "{}", world.damage(&mut chance));
            }
            let request = Request::random(&mut chance, &world.draft);
            let _ = writeln!(story, "build: {request:?}\n{}", world.draft.toml());
            world.write();
            let _ = writeln!(story, "{:?}", world.written);
            world.build(&request);
        }
        let _ = writeln!(story, "all is built again");
        world.write();
        let built = world.build(&Request::plain());
        if built.run.code() == 0 {
            assert_eq!(world.build(&Request::plain()).ran(), [] as [&str; 0]);
        }
    }
}
