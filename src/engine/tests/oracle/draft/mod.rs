//! A recipe as the oracle thinks of it. Unaware of how the engine reads one.

mod edits;
mod params;
mod random;
mod spelled;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

pub use self::params::{Params, RATES, Setting, list_text};

/// A recipe and the files beside it.
#[derive(Clone)]
pub struct Draft {
    pub params: Params,
    pub sources: Vec<SourceDraft>,
    /// A step refers to earlier ones only; the text is shuffled.
    pub steps: Vec<StepDraft>,
    /// What `production` runs: a file with this text.
    pub live: Option<&'static str>,
    /// What `staging` runs: a folder in which [`PART`] has this text.
    pub staged: Option<&'static str>,
    pub salt: u64,
    /// How the text is shuffled.
    order: u64,
    /// How many names were given.
    named: usize,
}

/// The file in the release of `staging` that a source names.
pub const PART: &str = "deep/part.csv";

/// A source on disk.
#[derive(Clone)]
pub struct SourceDraft {
    pub name: String,
    pub shape: Shape,
    /// Where it is, relative to the recipe; for globs and folders the folder.
    pub place: String,
    /// Its files by path below `place`; a lone file has the empty path.
    pub files: BTreeMap<String, FileDraft>,
    /// It is not there: whoever reads it cannot be built.
    pub gone: bool,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    Source(usize),
    /// A step, and the number of its output.
    Step(usize, usize),
    /// What `production` runs.
    Live,
    /// A file of what `staging` runs.
    Part,
}

/// A value that stands in the step, or that of a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given<T> {
    Own(T),
    /// Of the parameter, where there are several of this type: which.
    Param(usize),
}

/// A step.
#[derive(Clone)]
pub struct StepDraft {
    pub name: String,
    pub work: Work,
    pub number: Given<u64>,
    cpus: usize,
    /// How often it is tried again after a failure.
    pub retries: usize,
    /// Promises no determinism, and has none.
    pub wobbles: bool,
    comment: u64,
}

/// What a step does.
#[derive(Clone)]
pub enum Work {
    Mix {
        inputs: Vec<Link>,
        /// How many values each output can have.
        keep: Vec<u64>,
        fragile: bool,
        /// As a place in [`RATES`].
        rate: Option<Given<usize>>,
        weights: Option<Given<Vec<u64>>>,
    },
    Gate {
        data: Link,
        base: Option<Link>,
    },
    Command {
        /// Written as a list, not for the shell.
        list: bool,
        inputs: Vec<Link>,
        outputs: usize,
        /// Its outputs have file names of their own.
        named: bool,
        env: Option<Link>,
        /// Parameters in the environment.
        words: bool,
        /// The source whose files it brings along.
        files: Option<usize>,
    },
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
    /// A step that does this.
    pub fn new(name: &str, work: Work) -> Self {
        let number = Given::Own(0);
        Self { name: name.into(), work, number, cpus: 1, retries: 0, wobbles: false, comment: 0 }
    }

    /// Names and file names of its outputs, in the order of their names.
    pub fn outputs(&self) -> Vec<(String, String)> {
        let numbered = |count: usize, name: char, suffix: &str| {
            (0..count).map(|at| (format!("{name}{at}"), format!("{name}{at}{suffix}"))).collect()
        };
        match &self.work {
            Work::Mix { keep, .. } => numbered(keep.len(), 'p', ".csv"),
            Work::Gate { .. } => {
                vec![("data".into(), String::new()), ("report".into(), "report.json".into())]
            }
            Work::Command { outputs: 1, named: false, .. } => vec![("out".into(), "out".into())],
            Work::Command { outputs, named, .. } => {
                numbered(*outputs, 'o', if *named { ".txt.gz" } else { "" })
            }
        }
    }

    /// Number and meaning of the output that is one of its inputs.
    pub fn alias(&self) -> Option<(usize, Link)> {
        match &self.work {
            Work::Gate { data, .. } => Some((0, *data)),
            Work::Mix { .. } | Work::Command { .. } => None,
        }
    }

    /// What it reads, as often as it does.
    pub fn links(&self) -> Vec<Link> {
        match &self.work {
            Work::Mix { inputs, .. } => inputs.clone(),
            Work::Gate { data, base } => base.iter().chain([data]).copied().collect(),
            Work::Command { inputs, env, .. } => inputs.iter().chain(env).copied().collect(),
        }
    }

    /// Those of its links that an edit may move.
    fn movable(&mut self) -> Vec<&mut Link> {
        match &mut self.work {
            Work::Mix { inputs, .. } => inputs.iter_mut().collect(),
            Work::Gate { data, .. } => vec![data],
            Work::Command { inputs, env, .. } => inputs.iter_mut().chain(env).collect(),
        }
    }
}

impl Draft {
    /// A recipe with one source, a file, and these steps.
    pub fn of(steps: Vec<StepDraft>) -> Self {
        let file = FileDraft { text: "one".into(), executable: false };
        let source = SourceDraft {
            name: "s".into(),
            shape: Shape::File,
            place: "s.csv".into(),
            files: BTreeMap::from([(String::new(), file)]),
            gone: false,
        };
        let params = Params { numbers: [0; 2], rate: 0, list: vec![1], word: "red", unused: 0 };
        let sources = vec![source];
        Self { params, sources, steps, live: None, staged: None, salt: 0, order: 0, named: 0 }
    }

    /// The link, with the output's number among those that there are.
    pub fn settled(&self, link: Link) -> Link {
        match link {
            Link::Step(at, number) => Link::Step(at, number % self.steps[at].outputs().len()),
            link => link,
        }
    }

    /// What a link is in the end, behind aliases.
    pub fn origin(&self, mut link: Link) -> Link {
        loop {
            link = self.settled(link);
            let Link::Step(at, number) = link else { return link };
            match self.steps[at].alias() {
                Some((alias, target)) if alias == number => link = target,
                _ => return link,
            }
        }
    }

    /// How the recipe writes a link, without `${` and `}`.
    pub fn spelled(&self, link: Link) -> String {
        match self.settled(link) {
            Link::Source(at) => format!("sources.{}", self.sources[at].name),
            Link::Live => "sources.live".into(),
            Link::Part => "sources.part".into(),
            Link::Step(at, number) => match self.steps[at].outputs()[number].0.as_str() {
                "out" => self.steps[at].name.clone(),
                output => format!("{}.{output}", self.steps[at].name),
            },
        }
    }

    /// The steps that `at` reads from.
    pub fn upstream(&self, at: usize) -> BTreeSet<usize> {
        let steps = self.steps[at].links().into_iter().filter_map(|link| match link {
            Link::Step(step, _) => Some(step),
            _ => None,
        });
        steps.collect()
    }

    /// The steps that these need, themselves included.
    pub fn closure(&self, wanted: &BTreeSet<usize>) -> BTreeSet<usize> {
        let mut all = wanted.clone();
        for at in (0..self.steps.len()).rev() {
            if all.contains(&at) {
                all.extend(self.upstream(at));
            }
        }
        all
    }

    /// The steps that nothing depends on.
    pub fn ends(&self) -> BTreeSet<usize> {
        let read: BTreeSet<usize> =
            (0..self.steps.len()).flat_map(|at| self.upstream(at)).collect();
        (0..self.steps.len()).filter(|at| !read.contains(at)).collect()
    }

    /// The step with this name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.steps.iter().position(|step| step.name == name)
    }

    /// Whether some step wobbles.
    pub fn wobbles(&self) -> bool {
        self.steps.iter().any(|step| step.wobbles)
    }

    fn fresh_name(&mut self, prefix: &str) -> String {
        self.named += 1;
        format!("{prefix}{}", self.named)
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.toml())?;
        for source in &self.sources {
            for (path, file) in source.paths() {
                let gone = if source.gone { ", gone" } else { "" };
                writeln!(f, "# {path}: {:?}, executable: {}{gone}", file.text, file.executable)?;
            }
        }
        write!(f, "# production runs {:?}, staging {:?}", self.live, self.staged)
    }
}
