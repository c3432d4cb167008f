//! What the steps of a draft make, worked out without kiln and without a shell.

use std::collections::{BTreeMap, BTreeSet};

use super::draft::{Draft, Link, Shape, Work};

/// What stands at a place: files by path; a lone file has the empty path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Content {
    pub files: BTreeMap<String, String>,
    pub executable: bool,
}

/// What must become of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It has these outputs, from what it reads. A gate's report is not foretold.
    Made {
        reads: String,
        outputs: BTreeMap<&'static str, Content>,
        accepted: Option<bool>,
    },
    Fails {
        reads: String,
    },
    Unreachable,
}

impl Fate {
    /// What it reads, if it can be reached.
    pub fn reads(&self) -> Option<&str> {
        match self {
            Self::Made { reads, .. } | Self::Fails { reads } => Some(reads),
            Self::Unreachable => None,
        }
    }
}

impl Content {
    fn file(text: impl Into<String>) -> Self {
        Self { files: BTreeMap::from([(String::new(), text.into())]), executable: false }
    }

    fn all(&self) -> String {
        self.files.values().map(String::as_str).collect()
    }
}

impl Draft {
    /// What must become of each step, by name.
    pub fn fates(&self) -> BTreeMap<String, Fate> {
        let mut fates: Vec<Fate> = Vec::new();
        for at in 0..self.steps.len() {
            let fate = self.fate(at, &fates);
            fates.push(fate);
        }
        self.steps.iter().map(|step| step.name.clone()).zip(fates).collect()
    }

    /// The steps that these need, themselves included.
    pub fn closure(&self, wanted: &[String]) -> BTreeSet<String> {
        let mut all: BTreeSet<usize> = (0..self.steps.len())
            .filter(|&at| wanted.is_empty() || wanted.contains(&self.steps[at].name))
            .collect();
        for at in (0..self.steps.len()).rev().filter(|_| !wanted.is_empty()) {
            if all.contains(&at) {
                all.extend(self.links(at).into_iter().filter_map(|link| match link {
                    Link::Step(step, _) => Some(step),
                    _ => None,
                }));
            }
        }
        all.into_iter().map(|at| self.steps[at].name.clone()).collect()
    }

    fn links(&self, at: usize) -> Vec<Link> {
        match &self.steps[at].work {
            Work::Gate { data } => vec![*data],
            Work::Shell { inputs, .. } => inputs.clone(),
        }
    }

    fn content(&self, link: Link, fates: &[Fate]) -> Option<Content> {
        match link {
            Link::Rows => Some(Content::file(self.table())),
            Link::Source(at) => {
                let source = &self.sources[at];
                let files = source.files(at);
                let prefix = format!("data/w{at}.txt");
                Some(Content {
                    files: match source.shape {
                        Shape::Glob => {
                            files.into_iter().filter(|(name, _)| name.ends_with(".txt")).collect()
                        }
                        Shape::File | Shape::Folder => files
                            .into_iter()
                            .map(|(name, text)| {
                                let name = name.strip_prefix(&prefix).expect("it is there");
                                (name.trim_start_matches('/').to_owned(), text)
                            })
                            .collect(),
                    },
                    executable: false,
                })
            }
            Link::Step(at, number) => match &fates[at] {
                Fate::Made { outputs, .. } => outputs.get(self.output(at, number)).cloned(),
                Fate::Fails { .. } | Fate::Unreachable => None,
            },
        }
    }

    fn fate(&self, at: usize, fates: &[Fate]) -> Fate {
        let step = &self.steps[at];
        let links = self.links(at);
        let contents: Vec<Content> =
            links.iter().filter_map(|&link| self.content(link, fates)).collect();
        if contents.len() < links.len() {
            return Fate::Unreachable;
        }
        let Work::Shell { script, inputs } = &step.work else {
            let accepted = self.rows.iter().all(|&row| row <= self.limit);
            let data = contents.into_iter().next().expect("a gate reads something");
            let outputs = accepted.then(|| ("data", data.clone())).into_iter().collect();
            let reads = format!("validate {data:?} {}", self.suite());
            return Fate::Made { reads, outputs, accepted: Some(accepted) };
        };
        let number = if step.uses_param { self.param } else { step.number };
        let mut places: Vec<Link> = Vec::new();
        let mut reads = self.script(*script, &[], &number.to_string());
        for (&link, content) in inputs.iter().zip(&contents) {
            let link = self.told_apart(link);
            let place = places.iter().position(|&other| other == link).unwrap_or_else(|| {
                places.push(link);
                places.len() - 1
            });
            reads += &format!(" <{place} {} {content:?}>", self.extension(link));
        }
        let all: String = contents.iter().map(Content::all).collect();
        match made(*script, &all, number) {
            Some(outputs) => Fate::Made { reads, outputs, accepted: None },
            None => Fate::Fails { reads },
        }
    }

    /// Of two links that mean one output, one.
    fn told_apart(&self, link: Link) -> Link {
        match link {
            Link::Step(at, number) => {
                let outputs = self.steps[at].outputs();
                let name = self.output(at, number);
                Link::Step(at, outputs.iter().position(|&output| output == name).unwrap_or(0))
            }
            link => link,
        }
    }

    fn extension(&self, link: Link) -> &'static str {
        match link {
            Link::Rows => "csv",
            Link::Source(at) => match self.sources[at].shape {
                Shape::File | Shape::Folder => "txt",
                Shape::Glob => "",
            },
            Link::Step(at, _) => match &self.steps[at].work {
                Work::Gate { data } => self.extension(*data),
                Work::Shell { .. } => "",
            },
        }
    }
}

/// What a script makes of the bytes of all its inputs; `None` if it fails.
fn made(script: usize, all: &str, number: usize) -> Option<BTreeMap<&'static str, Content>> {
    let lines: Vec<&str> = all.lines().collect();
    let unfinished = !all.is_empty() && !all.ends_with('\n');
    let out = match script {
        0 => {
            let sorted: BTreeSet<&str> = lines.into_iter().collect();
            Content::file(
                sorted.into_iter().take(number).map(|line| format!("{line}\n")).collect::<String>(),
            )
        }
        1 => Content::file(format!("{}\n", all.len())),
        2 if all.is_empty() => Content::file(format!("{number}\n")),
        2 => Content::file(
            all.chars()
                .map(|c| if ('a'..='m').contains(&c) { c.to_ascii_uppercase() } else { c })
                .collect::<String>(),
        ),
        3 => Content {
            files: BTreeMap::from([
                ("first".to_owned(), all[..number.min(all.len())].to_owned()),
                ("second".to_owned(), format!("{number}\n")),
            ]),
            executable: false,
        },
        4 => {
            let count = lines.iter().filter(|line| line.contains('a')).count();
            if count == 0 {
                return None;
            }
            Content { executable: true, ..Content::file(format!("{count}\n")) }
        }
        _ => {
            let first = match lines.first() {
                Some(line) if lines.len() > 1 || !unfinished => format!("{line}\n"),
                Some(line) => (*line).to_owned(),
                None => String::new(),
            };
            let count = lines.len() - usize::from(unfinished);
            let second = format!("{count}\n{number}\n");
            let outputs = [("a", Content::file(first)), ("b", Content::file(second))];
            return Some(BTreeMap::from(outputs));
        }
    };
    Some(BTreeMap::from([("out", out)]))
}
