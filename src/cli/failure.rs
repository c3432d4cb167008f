//! What goes wrong with a command, how it is said, and with which exit code it ends.

use std::{io::ErrorKind, path::Path, process::ExitCode};

pub use kiln_engine::diagnostic::chain;
use kiln_engine::{diagnostic::Diagnostic, obstacle};
use serde::Serialize;

use super::{diagnostics, style};

/// How a command ended. The numbers are documented and stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: what was asked for is done.
    Done,
    /// 1: a step failed, a check found a difference, or a deployment was refused.
    Failed,
    /// 2: wrong usage or recipe.
    Usage,
    /// 3: a gate rejected, and nothing failed.
    Rejected,
    /// 130: interrupted.
    Interrupted,
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Rejected => 3,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// More problems than this are of one kind, and nobody reads them.
const SHOWN: usize = 50;

/// Why a command could not do what was asked.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    problems: Vec<Diagnostic>,
    /// What the system said, if it was the system.
    kind: Option<ErrorKind>,
}

impl Failure {
    /// Wrong usage: what, and how to go on.
    pub fn usage(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, problems: vec![Diagnostic::new(message).help(help)], kind: None }
    }

    /// Adds a fact to the last problem.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        if let Some(problem) = self.problems.pop() {
            self.problems.push(problem.note(note));
        }
        self
    }

    /// What is wrong.
    #[cfg(test)]
    pub fn problems(&self) -> &[Diagnostic] {
        &self.problems
    }

    /// Problems in the recipe or in what it names.
    pub fn recipe(problems: Vec<Diagnostic>) -> Self {
        Self { exit: Exit::Usage, problems, kind: None }
    }

    /// Something refused or went wrong on the way.
    pub fn failed(problem: Diagnostic) -> Self {
        Self { exit: Exit::Failed, problems: vec![problem], kind: None }
    }

    /// It was stopped before there was anything to report.
    pub fn interrupted() -> Self {
        let problem = Diagnostic::new("interrupted before the first step");
        let help = "nothing was run or recorded; the next build begins where this one did";
        Self { exit: Exit::Interrupted, problems: vec![problem.help(help)], kind: None }
    }

    /// The environment is in the way: the error and its causes.
    pub fn environment(error: &(dyn std::error::Error + 'static), help: impl Into<String>) -> Self {
        let kind = obstacle::kind(error);
        Self { kind, ..Self::failed(Diagnostic::new(chain(error)).help(help)) }
    }

    /// With advice on what the disk of the store in `home` said, if that is what failed.
    pub fn advised(mut self, home: &Path) -> Self {
        let Some(advice) = self.kind.and_then(|kind| obstacle::advice_on(home, kind)) else {
            return self;
        };
        // Something else may be full, or be kept from this user.
        let place = std::path::absolute(home).unwrap_or_else(|_| home.to_owned());
        let place = place.display().to_string();
        for problem in &mut self.problems {
            if problem.message.contains(&place) {
                problem.help = vec![advice.clone()];
            }
        }
        self
    }

    /// What went wrong, in one line.
    pub fn told(&self) -> String {
        self.problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>().join("; ")
    }

    /// Says it, on stderr, or as a JSON document on stdout.
    pub fn report(&self, json: bool) -> Exit {
        if json {
            let document = ErrorDocument {
                exit: self.exit.code(),
                errors: self.problems.iter().map(ErrorEntry::from).collect(),
            };
            print_json(&document);
        } else {
            for (number, problem) in self.problems.iter().take(SHOWN).enumerate() {
                let gap = if number > 0 { "\n" } else { "" };
                anstream::eprintln!("{gap}{}", diagnostics::render(problem));
            }
            if self.problems.len() > 1 {
                let count = style::counted(self.problems.len(), "problem");
                let rest = match self.problems.len() > SHOWN {
                    true => format!("; the first {SHOWN} are shown, --json prints all"),
                    false => String::new(),
                };
                let found = format!("{count} found{rest}");
                anstream::eprintln!("\n{}", style::paint(style::BAD, found));
            }
        }
        self.exit
    }
}

/// What `--json` prints where a command fails before it has anything else to print.
#[derive(Serialize)]
struct ErrorDocument {
    exit: u8,
    errors: Vec<ErrorEntry>,
}

#[derive(Serialize)]
struct ErrorEntry {
    message: String,
    file: Option<String>,
    line: Option<usize>,
    column: Option<usize>,
    label: String,
    notes: Vec<String>,
    help: Vec<String>,
}

impl From<&Diagnostic> for ErrorEntry {
    fn from(problem: &Diagnostic) -> Self {
        let place = problem.at.as_ref().map(|at| at.source.line_column(at.span.start));
        Self {
            message: problem.message.clone(),
            file: problem.at.as_ref().map(|at| at.source.name.clone()),
            line: place.map(|(line, _)| line),
            column: place.map(|(_, column)| column),
            label: problem.label.clone(),
            notes: problem.notes.clone(),
            help: problem.help.clone(),
        }
    }
}

/// Prints a document as JSON on stdout.
pub fn print_json(document: &impl Serialize) {
    let text = serde_json::to_string_pretty(document).expect("documents have text keys only");
    anstream::println!("{text}");
}
