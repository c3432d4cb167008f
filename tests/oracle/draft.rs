//! A recipe of steps that run programs, and what people do to it.

use std::collections::BTreeMap;

use super::chance::Chance;

/// A recipe and the files beside it.
#[derive(Clone)]
pub struct Draft {
    /// `params.number`.
    pub param: usize,
    pub sources: Vec<Source>,
    /// A table's only column.
    pub rows: Vec<usize>,
    /// The largest value that the suite lets through.
    pub limit: usize,
    /// A step reads earlier ones only.
    pub steps: Vec<Step>,
    /// How the text is shuffled and commented.
    pub order: u64,
    named: usize,
}

/// Files beside the recipe.
#[derive(Clone)]
pub struct Source {
    pub shape: Shape,
    /// The texts of its one or two files.
    pub texts: [String; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    File,
    Folder,
    Glob,
}

/// Something that a step reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Source(usize),
    Rows,
    /// An output of a step by number, modulo how many it has.
    Step(usize, usize),
}

#[derive(Clone)]
pub struct Step {
    pub name: String,
    pub work: Work,
    pub number: usize,
    pub uses_param: bool,
}

#[derive(Clone)]
pub enum Work {
    /// One of [`super::spelled::SCRIPTS`].
    Shell { script: usize, inputs: Vec<Link> },
    /// Lets a table through if no row is above the limit.
    Gate { data: Link },
}

fn word(chance: &mut Chance) -> String {
    ["alpha\n", "beta\nalpha\n", "gamma\n", "moss\n", ""][chance.below(5)].to_owned()
}

impl Source {
    fn random(chance: &mut Chance) -> Self {
        let shape = [Shape::File, Shape::File, Shape::Folder, Shape::Glob][chance.below(4)];
        Self { shape, texts: [word(chance), word(chance)] }
    }

    /// Its files by path, for the source number `at`.
    pub fn files(&self, at: usize) -> BTreeMap<String, String> {
        let [first, second] = self.texts.clone();
        match self.shape {
            Shape::File => BTreeMap::from([(format!("data/w{at}.txt"), first)]),
            Shape::Folder => BTreeMap::from([
                (format!("data/w{at}.txt/a"), first),
                (format!("data/w{at}.txt/b/c"), second),
            ]),
            Shape::Glob => BTreeMap::from([
                (format!("many{at}/a.txt"), first),
                (format!("many{at}/b.txt"), second.clone()),
                (format!("many{at}/other.csv"), second),
            ]),
        }
    }
}

impl Draft {
    pub fn random(chance: &mut Chance, steps: usize) -> Self {
        let mut draft = Self {
            param: 1,
            sources: (0..1 + chance.below(2)).map(|_| Source::random(chance)).collect(),
            rows: vec![1, 2],
            limit: 4,
            steps: Vec::new(),
            order: 0,
            named: 0,
        };
        for _ in 0..steps.min(3 + chance.below(4)) {
            draft.add_step(chance);
        }
        draft
    }

    fn add_step(&mut self, chance: &mut Chance) {
        self.named += 1;
        let name = format!("s{}", self.named);
        let step = self.random_step(chance, self.steps.len(), name);
        self.steps.push(step);
    }

    fn random_link(&self, chance: &mut Chance, at: usize) -> Link {
        match chance.below(6) {
            0 | 1 => Link::Source(chance.below(self.sources.len())),
            _ if at > 0 => Link::Step(chance.below(at), chance.below(2)),
            _ => Link::Rows,
        }
    }

    fn random_step(&self, chance: &mut Chance, at: usize, name: String) -> Step {
        let gates = (0..at).filter(|&step| matches!(self.steps[step].work, Work::Gate { .. }));
        let gates: Vec<usize> = gates.collect();
        let work = if chance.once_in(6) {
            let before = chance.pick(&gates).filter(|_| chance.once_in(2));
            Work::Gate { data: before.map_or(Link::Rows, |&gate| Link::Step(gate, 0)) }
        } else {
            let count = 1 + chance.below(3);
            Work::Shell {
                script: chance.below(super::spelled::SCRIPTS.len()),
                inputs: (0..count).map(|_| self.random_link(chance, at)).collect(),
            }
        };
        Step { name, work, number: 1 + chance.below(3), uses_param: chance.once_in(2) }
    }

    /// Changes something, or nothing that matters; says what.
    pub fn edit(&mut self, chance: &mut Chance) -> String {
        let at = chance.below(self.steps.len());
        match chance.below(11) {
            0..=2 => {
                let source = chance.below(self.sources.len());
                let text = chance.below(2);
                self.sources[source].texts[text] = word(chance);
                format!("source {source} says {:?}", self.sources[source].texts)
            }
            3 => {
                let source = chance.below(self.sources.len());
                self.sources[source] = Source::random(chance);
                format!("source {source} is a {:?}", self.sources[source].shape)
            }
            4 => {
                self.param = 1 + chance.below(3);
                format!("the parameter is {}", self.param)
            }
            5 => {
                self.named += 1;
                let name = format!("renamed{}", self.named);
                let old = std::mem::replace(&mut self.steps[at].name, name);
                format!("step {old} is called {}", self.steps[at].name)
            }
            6 => {
                self.order = chance.next();
                "another order and other comments".into()
            }
            7 => {
                let name = self.steps[at].name.clone();
                let was_gate = matches!(self.steps[at].work, Work::Gate { .. });
                let step = self.random_step(chance, at, name.clone());
                // What follows a gate relies on its being one.
                if was_gate == matches!(step.work, Work::Gate { .. }) {
                    self.steps[at] = step;
                }
                format!("step {name} is another one")
            }
            8 => {
                self.rows = (0..1 + chance.below(3)).map(|_| chance.below(7)).collect();
                format!("the rows are {:?}", self.rows)
            }
            9 => {
                self.limit = 3 + chance.below(4);
                format!("the limit is {}", self.limit)
            }
            _ => {
                self.add_step(chance);
                "a step is new".into()
            }
        }
    }
}
