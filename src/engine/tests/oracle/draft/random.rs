//! Any recipe.

use std::collections::BTreeMap;

use super::{
    Draft, FileDraft, Given, Link, Params, RATES, Shape, SourceDraft, StepDraft, Work,
    params::random_list,
};
use crate::chance::Chance;

/// One of few words, two of them equally long.
pub(super) fn word(chance: &mut Chance) -> String {
    ["one", "two", "three"][chance.below(3)].to_owned()
}

pub(super) fn random_file(chance: &mut Chance) -> FileDraft {
    FileDraft { text: word(chance), executable: chance.once_in(4) }
}

impl Draft {
    /// Any recipe with at most so many steps. Some of them wobble if `wobbling`.
    pub fn random(chance: &mut Chance, steps: usize, wobbling: bool) -> Self {
        let mut draft = Self {
            params: Params::random(chance),
            sources: Vec::new(),
            steps: Vec::new(),
            live: chance.once_in(2).then_some("old"),
            staged: chance.once_in(2).then_some("old"),
            salt: 0,
            order: chance.next(),
            named: 0,
        };
        for number in 0..1 + chance.below(3) {
            let source = draft.random_source(chance, number);
            draft.sources.push(source);
        }
        for at in 0..steps.min(2 + chance.below(8)) {
            let mut step = draft.random_step(chance, at);
            step.wobbles = wobbling && chance.once_in(4);
            draft.steps.push(step);
        }
        draft
    }

    pub(super) fn random_source(&mut self, chance: &mut Chance, number: usize) -> SourceDraft {
        let shape = [Shape::File, Shape::File, Shape::Folder, Shape::Glob][chance.below(4)];
        let place = match shape {
            Shape::File => format!("data/s{number}{}", ["", ".csv", ".csv.gz"][chance.below(3)]),
            Shape::Folder => format!("folder{number}{}", ["", ".d"][chance.below(2)]),
            Shape::Glob => format!("many{number}"),
        };
        let files = Self::random_files(chance, shape);
        SourceDraft { name: self.fresh_name("s"), shape, place, files, gone: false }
    }

    pub(super) fn random_files(chance: &mut Chance, shape: Shape) -> BTreeMap<String, FileDraft> {
        let names: &[&str] = match shape {
            Shape::File => &[""],
            Shape::Folder => &["a", "b/c.txt"],
            Shape::Glob => &["a.txt", "b.txt", "no.csv"],
        };
        names.iter().map(|&name| (name.to_owned(), random_file(chance))).collect()
    }

    /// A link from step number `at`.
    pub(super) fn random_link(&self, chance: &mut Chance, at: usize) -> Link {
        if at > 0 && !chance.once_in(3) {
            // Near ones are likelier, so that graphs are deep.
            let back = 1 + chance.below(at).min(chance.below(at));
            Link::Step(at - back, chance.below(3))
        } else {
            Link::Source(chance.below(self.sources.len()))
        }
    }

    fn random_work(&self, chance: &mut Chance, at: usize) -> Work {
        let links = |chance: &mut Chance| {
            let count = chance.below(4);
            (0..count).map(|_| self.random_link(chance, at)).collect::<Vec<_>>()
        };
        match chance.below(8) {
            0 | 1 => Work::Gate {
                data: self.random_link(chance, at),
                base: [None, None, Some(Link::Live), Some(Link::Part)][chance.below(4)],
            },
            2 | 3 => Work::Command {
                list: chance.once_in(3),
                inputs: links(chance),
                outputs: 1 + chance.below(3),
                named: chance.once_in(3),
                env: chance.once_in(2).then(|| self.random_link(chance, at)),
                words: chance.once_in(3),
                files: chance.once_in(3).then(|| chance.below(self.sources.len())),
            },
            _ => Work::Mix {
                inputs: links(chance),
                keep: (0..1 + chance.below(3)).map(|_| chance.next() % 4).collect(),
                fragile: chance.once_in(8),
                rate: match chance.below(3) {
                    0 => Some(Given::Own(chance.below(RATES.len()))),
                    1 => Some(Given::Param(0)),
                    _ => None,
                },
                weights: match chance.below(3) {
                    0 => Some(Given::Own(random_list(chance))),
                    1 => Some(Given::Param(0)),
                    _ => None,
                },
            },
        }
    }

    pub(super) fn random_step(&mut self, chance: &mut Chance, at: usize) -> StepDraft {
        let name = self.fresh_name("t");
        StepDraft { name, ..self.random_successor(chance, at) }
    }

    /// A step without a name of its own.
    pub(super) fn random_successor(&self, chance: &mut Chance, at: usize) -> StepDraft {
        StepDraft {
            name: String::new(),
            work: self.random_work(chance, at),
            number: if chance.once_in(2) {
                Given::Param(chance.below(2))
            } else {
                Given::Own(chance.next() % 3)
            },
            cpus: 1 + chance.below(3),
            retries: chance.below(6).saturating_sub(3),
            wobbles: false,
            comment: 0,
        }
    }
}
