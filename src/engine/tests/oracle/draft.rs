//! A recipe as the oracle thinks of it: random ones, random edits, and their TOML text.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
};

use crate::chance::Chance;

/// A recipe and the files beside it.
#[derive(Clone)]
pub struct Draft {
    /// Their values.
    pub params: Vec<u64>,
    pub sources: Vec<SourceDraft>,
    /// A step refers to earlier ones only; the text is shuffled.
    pub steps: Vec<StepDraft>,
    /// What the deployment points at.
    pub pointer: Option<String>,
    salt: u64,
    order: u64,
    named: usize,
}

/// A source on disk.
#[derive(Clone)]
pub struct SourceDraft {
    name: String,
    pub shape: Shape,
    /// Where it is, relative to the recipe; for globs and folders the folder.
    pub place: String,
    /// Its files by path below `place`; a lone file has the empty path.
    pub files: BTreeMap<String, FileDraft>,
}

/// A file: its bytes, whether executable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileDraft {
    pub text: String,
    pub executable: bool,
}

/// What sort of source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    File,
    Folder,
    Glob,
}

/// Something that a step reads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Link {
    Source(usize),
    /// Step, and number of its output modulo how many it has.
    Step(usize, usize),
}

/// A step.
#[derive(Clone)]
pub struct StepDraft {
    pub name: String,
    work: Work,
    number: u64,
    param: Option<usize>,
    cpus: usize,
    /// Promises no determinism, and has none.
    pub wobbles: bool,
    comment: u64,
}

#[derive(Clone)]
enum Work {
    Mix { inputs: Vec<Link>, keep: Vec<u64>, fragile: bool },
    Gate { data: Link, base: bool },
    Command { inputs: Vec<Link>, outputs: usize, env: Option<Link>, file: Option<usize> },
}

impl SourceDraft {
    /// Recipe-relative paths of its files.
    pub fn paths(&self) -> impl Iterator<Item = (String, &FileDraft)> {
        self.files.iter().map(|(name, file)| {
            (
                if name.is_empty() { self.place.clone() } else { format!("{}/{name}", self.place) },
                file,
            )
        })
    }
}

impl StepDraft {
    fn outputs(&self) -> Vec<String> {
        match &self.work {
            Work::Mix { keep, .. } => (0..keep.len()).map(|part| format!("p{part}")).collect(),
            Work::Gate { .. } => vec!["data".into(), "report".into()],
            Work::Command { outputs: 1, .. } => vec!["out".into()],
            Work::Command { outputs, .. } => (0..*outputs).map(|part| format!("o{part}")).collect(),
        }
    }

    fn links(&mut self) -> Vec<&mut Link> {
        match &mut self.work {
            Work::Mix { inputs, .. } => inputs.iter_mut().collect(),
            Work::Gate { data, .. } => vec![data],
            Work::Command { inputs, env, .. } => inputs.iter_mut().chain(env).collect(),
        }
    }
}

impl Draft {
    /// Any recipe. Some of its steps wobble if `wobbling`.
    pub fn random(chance: &mut Chance, wobbling: bool) -> Self {
        let mut draft = Self {
            params: (0..2).map(|_| chance.next() % 3).collect(),
            sources: Vec::new(),
            steps: Vec::new(),
            pointer: chance.once_in(2).then(|| "old".to_owned()),
            salt: 0,
            order: chance.next(),
            named: 0,
        };
        for number in 0..1 + chance.below(4) {
            let source = draft.random_source(chance, number);
            draft.sources.push(source);
        }
        for at in 0..3 + chance.below(13) {
            let mut step = draft.random_step(chance, at);
            step.wobbles = wobbling && chance.once_in(4);
            draft.steps.push(step);
        }
        draft
    }

    fn fresh_name(&mut self, prefix: &str) -> String {
        self.named += 1;
        format!("{prefix}{}", self.named)
    }

    fn random_source(&mut self, chance: &mut Chance, number: usize) -> SourceDraft {
        let shape = [Shape::File, Shape::File, Shape::Folder, Shape::Glob][chance.below(4)];
        let (place, names) = match shape {
            Shape::File => (
                format!("data/s{number}{}", ["", ".csv", ".csv.gz"][chance.below(3)]),
                vec![String::new()],
            ),
            Shape::Folder => (format!("folder{number}"), vec!["a".into(), "b/c.txt".into()]),
            Shape::Glob => {
                (format!("many{number}"), vec!["a.txt".into(), "b.txt".into(), "no.csv".into()])
            }
        };
        let file =
            |chance: &mut Chance| FileDraft { text: word(chance), executable: chance.once_in(4) };
        let files = names.into_iter().map(|name| (name, file(chance))).collect();
        SourceDraft { name: self.fresh_name("s"), shape, place, files }
    }

    /// A link from step number `at`.
    fn random_link(&self, chance: &mut Chance, at: usize) -> Link {
        if at > 0 && !chance.once_in(3) {
            // Near ones are likelier, so that graphs are deep.
            let back = 1 + chance.below(at).min(chance.below(at));
            Link::Step(at - back, chance.below(3))
        } else {
            Link::Source(chance.below(self.sources.len()))
        }
    }

    fn random_step(&mut self, chance: &mut Chance, at: usize) -> StepDraft {
        let links = |draft: &Self, chance: &mut Chance| {
            let count = chance.below(4);
            (0..count).map(|_| draft.random_link(chance, at)).collect::<Vec<_>>()
        };
        let work = match chance.below(4) {
            0 => Work::Gate { data: self.random_link(chance, at), base: chance.once_in(2) },
            1 => Work::Command {
                inputs: links(self, chance),
                outputs: 1 + chance.below(3),
                env: chance.once_in(2).then(|| self.random_link(chance, at)),
                file: chance.once_in(3).then(|| chance.below(self.sources.len())),
            },
            _ => Work::Mix {
                inputs: links(self, chance),
                keep: (0..1 + chance.below(3)).map(|_| chance.next() % 4).collect(),
                fragile: chance.once_in(8),
            },
        };
        StepDraft {
            name: self.fresh_name("t"),
            work,
            number: chance.next() % 3,
            param: chance.once_in(2).then(|| chance.below(self.params.len())),
            cpus: 1 + chance.below(3),
            wobbles: false,
            comment: 0,
        }
    }

    /// Changes something, or nothing that matters; says what.
    pub fn edit(&mut self, chance: &mut Chance) -> String {
        let at = chance.below(self.steps.len());
        match chance.below(15) {
            0..=2 => {
                let source = chance.below(self.sources.len());
                let source = &mut self.sources[source];
                let name = chance.pick(&source.files.keys().cloned().collect::<Vec<_>>()).cloned();
                let file =
                    name.and_then(|name| source.files.get_mut(&name)).expect("sources have files");
                file.text = word(chance);
                format!("source {} says {}", source.name, file.text)
            }
            3 => {
                let source = chance.below(self.sources.len());
                let source = &mut self.sources[source];
                if source.shape == Shape::File || source.files.contains_key("z.txt") {
                    if source.files.remove("z.txt").is_none() {
                        source.files.values_mut().for_each(|file| file.executable ^= true);
                    }
                    format!("source {} has another mode, or a file less", source.name)
                } else {
                    source.files.insert(
                        "z.txt".into(),
                        FileDraft { text: word(chance), executable: false },
                    );
                    format!("source {} has a file more", source.name)
                }
            }
            4 => {
                let param = chance.below(self.params.len());
                self.params[param] = chance.next() % 3;
                format!("parameter {param} is {}", self.params[param])
            }
            5 => {
                let fresh = self.fresh_name("renamed");
                let old = std::mem::replace(&mut self.steps[at].name, fresh);
                format!("step {old} is called {}", self.steps[at].name)
            }
            6 => {
                let fresh = self.fresh_name("source");
                let source = chance.below(self.sources.len());
                let old = std::mem::replace(&mut self.sources[source].name, fresh);
                format!("source {old} is called {}", self.sources[source].name)
            }
            7 => {
                self.order = chance.next();
                self.steps[at].comment += 1;
                self.steps[at].cpus = 1 + chance.below(3);
                "order, comments, resources".into()
            }
            8 => {
                let step = self.random_step(chance, self.steps.len());
                let name = step.name.clone();
                self.steps.push(step);
                format!("step {name} is new")
            }
            9 if self.steps.len() > 2 => {
                let gone = self.steps.remove(at);
                for reader in at..self.steps.len() {
                    let relinked = self.random_link(chance, at);
                    for link in self.steps[reader].links() {
                        match link {
                            Link::Step(step, _) if *step == at => *link = relinked,
                            Link::Step(step, _) if *step > at => *step -= 1,
                            _ => {}
                        }
                    }
                }
                format!("step {} is gone", gone.name)
            }
            10 | 11 => {
                let target = self.random_link(chance, at);
                let mut links = self.steps[at].links();
                if !links.is_empty() {
                    let link = chance.below(links.len());
                    *links[link] = target;
                }
                format!("step {} reads something else", self.steps[at].name)
            }
            12 => {
                self.steps[at].number = chance.next() % 3;
                format!("step {} has another number", self.steps[at].name)
            }
            13 => {
                self.pointer =
                    [None, Some("old".to_owned()), Some("new".to_owned())][chance.below(3)].clone();
                format!("the deployment points at {:?}", self.pointer)
            }
            _ => {
                if chance.once_in(3) {
                    self.salt = chance.next() % 2;
                }
                format!("salt {}", self.salt)
            }
        }
    }

    fn spelled(&self, link: Link) -> String {
        match link {
            Link::Source(at) => format!("${{sources.{}}}", self.sources[at].name),
            Link::Step(at, number) => {
                let outputs = self.steps[at].outputs();
                match outputs[number % outputs.len()].as_str() {
                    "out" => format!("${{{}}}", self.steps[at].name),
                    output => format!("${{{}.{output}}}", self.steps[at].name),
                }
            }
        }
    }

    /// The recipe's text.
    pub fn toml(&self) -> String {
        let mut chance = Chance::new(self.order);
        let mut shuffled = |mut lines: Vec<String>| {
            lines.sort_by_cached_key(|_| chance.next());
            lines
        };
        let params = self.params.iter().enumerate().map(|(at, value)| format!("k{at} = {value}"));
        let mut sources: Vec<String> = self
            .sources
            .iter()
            .map(|source| match source.shape {
                Shape::File | Shape::Folder => format!("{} = \"{}\"", source.name, source.place),
                Shape::Glob => format!("{} = {{ glob = \"{}/*.txt\" }}", source.name, source.place),
            })
            .collect();
        sources.push("live = { deployment = \"production\", absent = \"accept\" }".into());
        let release = self.spelled(Link::Step(0, 0));
        let mut tables = vec![
            format!("[params]\n{}", shuffled(params.collect()).join("\n")),
            format!("[sources]\n{}", shuffled(sources).join("\n")),
            format!("[deploy.production]\nrelease = \"{release}\""),
        ];
        for step in &self.steps {
            let lines = shuffled(self.step_lines(step));
            tables.push(format!("[steps.{}]\n{}", step.name, lines.join("\n")));
        }
        let mut text = String::from("name = \"oracle\"\n");
        if self.salt > 0 {
            let _ = writeln!(text, "salt = \"{}\"", self.salt);
        }
        text + &shuffled(tables).join("\n\n") + "\n"
    }

    fn step_lines(&self, step: &StepDraft) -> Vec<String> {
        let number = match step.param {
            Some(param) => format!("${{params.k{param}}}"),
            None => step.number.to_string(),
        };
        let mut lines = vec![format!("cpus = {} # comment {}", step.cpus, step.comment)];
        if step.wobbles {
            lines.push("determinism = \"none\"".into());
        }
        let quoted = |links: &[Link]| {
            let links: Vec<String> =
                links.iter().map(|&link| format!("\"{}\"", self.spelled(link))).collect();
            format!("[{}]", links.join(", "))
        };
        let argument = if step.param.is_some() { format!("\"{number}\"") } else { number.clone() };
        match &step.work {
            Work::Mix { inputs, keep, fragile } => {
                let parts: Vec<String> = keep
                    .iter()
                    .enumerate()
                    .map(|(part, keep)| format!("p{part} = {keep}"))
                    .collect();
                lines.push("builder = \"mix\"".into());
                lines.push(format!("inputs = {}", quoted(inputs)));
                lines.push(format!("number = {argument}"));
                lines.push(format!("parts = {{ {} }}", parts.join(", ")));
                lines.push(format!("how = \"comment {}\"", step.comment));
                if *fragile {
                    lines.push("fragile = true".into());
                }
            }
            Work::Gate { data, base } => {
                lines.push("builder = \"gate\"".into());
                lines.push(format!("data = \"{}\"", self.spelled(*data)));
                lines.push(format!("limit = {argument}"));
                if *base {
                    lines.push("base = \"${sources.live}\"".into());
                }
            }
            Work::Command { inputs, outputs, env, file } => {
                let mut run = format!("work {number}");
                inputs.iter().for_each(|&link| run += &format!(" {}", self.spelled(link)));
                if *outputs == 1 {
                    run += " > ${out}";
                } else {
                    let names: Vec<String> = (0..*outputs).map(|part| format!("o{part}")).collect();
                    names.iter().for_each(|name| run += &format!(" ${{out.{name}}}"));
                    lines.push(format!("outputs = {names:?}"));
                }
                lines.push(format!("run = \"{run}\""));
                if let Some(link) = env {
                    lines.push(format!("env = {{ WHERE = \"at {}\" }}", self.spelled(*link)));
                }
                if let Some(file) = file {
                    lines.push(format!("files = [\"{}\"]", self.sources[*file].place));
                }
            }
        }
        lines
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.toml())?;
        for (path, file) in self.sources.iter().flat_map(SourceDraft::paths) {
            writeln!(f, "# {path}: {:?}, executable: {}", file.text, file.executable)?;
        }
        write!(f, "# the deployment points at {:?}", self.pointer)
    }
}

/// One of few words.
fn word(chance: &mut Chance) -> String {
    ["one", "two", "three"][chance.below(3)].to_owned()
}
