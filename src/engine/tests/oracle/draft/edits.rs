//! What people do to a recipe between two builds; much of it changes nothing that matters.

use super::{
    Draft, FileDraft, Given, Link, RATES, Setting, Shape, Work,
    params::random_list,
    random::{random_file, word},
};
use crate::chance::Chance;

impl Draft {
    /// Changes something, or nothing that matters; says what.
    pub fn edit(&mut self, chance: &mut Chance) -> String {
        match chance.below(24) {
            0..=3 => self.edit_text(chance),
            4 => self.edit_files(chance),
            5 => self.edit_shape(chance),
            6 | 7 => {
                let setting = Setting::random(chance);
                self.params.set(&setting);
                format!("a parameter: {setting:?}")
            }
            8 => {
                let at = chance.below(self.steps.len());
                let fresh = self.fresh_name("renamed");
                let old = std::mem::replace(&mut self.steps[at].name, fresh);
                format!("step {old} is called {}", self.steps[at].name)
            }
            9 => {
                let at = chance.below(self.sources.len());
                let fresh = self.fresh_name("source");
                let old = std::mem::replace(&mut self.sources[at].name, fresh);
                format!("source {old} is called {}", self.sources[at].name)
            }
            10 => {
                let at = chance.below(self.steps.len());
                self.order = chance.next();
                self.steps[at].comment += 1;
                self.steps[at].cpus = 1 + chance.below(3);
                self.steps[at].retries = chance.below(3);
                "order, comments, resources".into()
            }
            11 if self.steps.len() < 12 => {
                let step = self.random_step(chance, self.steps.len());
                let name = step.name.clone();
                self.steps.push(step);
                format!("step {name} is new")
            }
            12 if self.steps.len() > 2 => self.remove_step(chance),
            13 | 14 => self.edit_link(chance),
            15 => {
                let at = chance.below(self.steps.len());
                self.steps[at].number = Given::Own(chance.next() % 3);
                format!("step {} has another number", self.steps[at].name)
            }
            16 | 17 => self.edit_arguments(chance),
            18 => {
                self.live = [None, Some("old"), Some("new")][chance.below(3)];
                self.staged = [None, Some("old"), Some("new")][chance.below(3)];
                format!("production runs {:?}, staging {:?}", self.live, self.staged)
            }
            19 => {
                let at = chance.below(self.steps.len());
                let successor = self.random_successor(chance, at);
                let step = &mut self.steps[at];
                (step.work, step.number) = (successor.work, successor.number);
                format!("step {} is another one", step.name)
            }
            20 => {
                let at = chance.below(self.sources.len());
                self.sources[at].gone ^= true;
                format!("source {} is gone, or back", self.sources[at].name)
            }
            21 => {
                self.salt = chance.next() % 2;
                format!("salt {}", self.salt)
            }
            _ => "nothing".into(),
        }
    }

    fn edit_text(&mut self, chance: &mut Chance) -> String {
        let at = chance.below(self.sources.len());
        let source = &mut self.sources[at];
        let names: Vec<String> = source.files.keys().cloned().collect();
        let name = chance.pick(&names).expect("sources have files");
        let text = word(chance);
        let said = format!("`{name}` of source {} says {text}", source.name);
        source.files.get_mut(name).expect("it was listed").text = text;
        said
    }

    fn edit_files(&mut self, chance: &mut Chance) -> String {
        let at = chance.below(self.sources.len());
        let source = &mut self.sources[at];
        if source.shape == Shape::File || source.files.contains_key("z.txt") {
            if source.files.remove("z.txt").is_none() {
                source.files.values_mut().for_each(|file| file.executable ^= true);
            }
            format!("source {} has another mode, or a file less", source.name)
        } else {
            source
                .files
                .insert("z.txt".into(), FileDraft { text: word(chance), executable: false });
            format!("source {} has a file more", source.name)
        }
    }

    /// A file becomes a folder of the same name, or a folder a file.
    fn edit_shape(&mut self, chance: &mut Chance) -> String {
        let at = chance.below(self.sources.len());
        let shape = match self.sources[at].shape {
            Shape::File => Shape::Folder,
            Shape::Folder => Shape::File,
            Shape::Glob => {
                // A file may go from what is matched to what is not.
                let source = &mut self.sources[at];
                let moved = source.files.remove("b.txt").or_else(|| source.files.remove("b.csv"));
                let name = if chance.once_in(2) { "b.txt" } else { "b.csv" };
                source.files.insert(name.into(), moved.unwrap_or_else(|| random_file(chance)));
                return format!("source {} has {name}", source.name);
            }
        };
        let files = Self::random_files(chance, shape);
        let source = &mut self.sources[at];
        (source.shape, source.files) = (shape, files);
        format!("source {} is a {shape:?}", source.name)
    }

    fn remove_step(&mut self, chance: &mut Chance) -> String {
        let at = chance.below(self.steps.len());
        let gone = self.steps.remove(at);
        for reader in at..self.steps.len() {
            let relinked = self.random_link(chance, at);
            for link in self.steps[reader].movable() {
                match link {
                    Link::Step(step, _) if *step == at => *link = relinked,
                    Link::Step(step, _) if *step > at => *step -= 1,
                    _ => {}
                }
            }
        }
        format!("step {} is gone", gone.name)
    }

    fn edit_link(&mut self, chance: &mut Chance) -> String {
        let at = chance.below(self.steps.len());
        let target = self.random_link(chance, at);
        let mut links = self.steps[at].movable();
        if !links.is_empty() {
            let link = chance.below(links.len());
            *links[link] = target;
        }
        format!("step {} reads something else", self.steps[at].name)
    }

    fn edit_arguments(&mut self, chance: &mut Chance) -> String {
        let at = chance.below(self.steps.len());
        let target = self.random_link(chance, at);
        let step = &mut self.steps[at];
        match &mut step.work {
            Work::Mix { inputs, keep, rate, weights, .. } => match chance.below(5) {
                0 => *rate = chance.once_in(2).then(|| Given::Own(chance.below(RATES.len()))),
                1 => *weights = chance.once_in(2).then(|| Given::Own(random_list(chance))),
                2 => keep.push(chance.next() % 4),
                3 => inputs.push(target),
                _ => inputs.reverse(),
            },
            Work::Gate { base, .. } => {
                *base = [None, Some(Link::Live), Some(Link::Part)][chance.below(3)];
            }
            Work::Command { list, inputs, env, words, named, .. } => match chance.below(5) {
                0 => *list ^= true,
                1 => *words ^= true,
                2 => *named ^= true,
                3 => *env = chance.once_in(2).then_some(target),
                _ => inputs.push(target),
            },
        }
        format!("step {} has other arguments", step.name)
    }
}
