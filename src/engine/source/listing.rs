//! What lies below a folder, by path, and why a path or a pattern names no content.
//!
//! Unaware of content and of the store.

use std::{
    io,
    path::{Path, PathBuf},
};

use globset::{GlobBuilder, GlobMatcher};
use kiln_cache::Refusal;
use walkdir::WalkDir;

use crate::{diagnostic::Diagnostic, graph::Source};

/// Why a path or pattern of a recipe names no content.
#[derive(Debug)]
pub struct Problem {
    /// What is wrong.
    pub message: String,
    /// Why.
    pub label: String,
    /// How to go on.
    pub help: String,
}

impl Problem {
    pub(super) fn unreadable(path: &str, error: &io::Error) -> Self {
        Self {
            message: format!("`{path}` cannot be read"),
            label: error.to_string(),
            help: "check its permissions".into(),
        }
    }

    fn name(path: &str) -> Self {
        Self {
            message: format!("`{path}` has a name that is not UTF-8"),
            label: "such a name cannot be written down in the same way on every machine".into(),
            help: "rename it".into(),
        }
    }

    /// What is wrong with something in a folder, by its path from there.
    pub(super) fn refused(path: &str, refusal: &Refusal) -> Self {
        let leaves = |label: &str| Self {
            message: format!("the link `{path}` leaves its folder"),
            label: label.into(),
            help: "replace it by what it points at".into(),
        };
        match refusal {
            Refusal::Name => Self::name(path),
            Refusal::Target => leaves("its target is not UTF-8"),
            Refusal::Escapes(_) | Refusal::Link => {
                leaves("only relative links that stay inside the folder are content")
            }
            Refusal::Special(_) => Self {
                message: format!("`{path}` is neither a file nor a folder"),
                label: "a device, a pipe or a socket has no content to hash".into(),
                help: "remove it, or name the files that are meant".into(),
            },
            Refusal::Depth => Self {
                message: format!("`{path}` lies too deep"),
                label: "a folder is content down to 128 folders in it".into(),
                help: "name the folder further down that is meant".into(),
            },
            Refusal::Entries => Self {
                message: format!("`{path}` holds too much"),
                label: "a folder is content up to 16,777,216 files, folders and links".into(),
                help: "name the folders further down that are meant".into(),
            },
            // What is mostly holes is refused of outputs alone: it was there before kiln came.
            Refusal::Holes(_) => Self {
                message: format!("`{path}` cannot be content"),
                label: refusal.to_string(),
                help: refusal.help().into(),
            },
            Refusal::Path => Self {
                message: format!("the path of `{path}` is too long"),
                label: "in a folder that is content, a path has at most 3072 bytes".into(),
                help: "name the folder further down that is meant, or shorten names".into(),
            },
        }
    }

    pub(super) fn nothing_matches(pattern: &str) -> Self {
        Self {
            message: format!("no file matches `{pattern}`"),
            label: "nothing matches this pattern".into(),
            help: "`*` stays within a folder, `**` does not; hidden files match only a pattern that names the dot"
                .into(),
        }
    }

    pub(super) fn at(self, source: &Source) -> Diagnostic {
        Diagnostic::new(format!("source `{}`: {}", source.name, self.message))
            .at(source.at.clone(), self.label)
            .help(self.help)
    }
}

/// Whether a recipe means a pattern by this text.
pub fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) files: Vec<(String, PathBuf)>,
    pub(super) links: Vec<String>,
}

impl Listing {
    pub(super) fn prefixed(mut self, prefix: &str) -> Self {
        if !prefix.is_empty() {
            self.files.iter_mut().for_each(|(name, _)| *name = format!("{prefix}/{name}"));
            self.links.iter_mut().for_each(|name| *name = format!("{prefix}/{name}"));
        }
        self
    }
}

/// The regular files and the links below `folder`, sorted, by their path from it; only what `enter` admits is looked
/// into.
///
/// Where links lead is not judged here: a pattern may have nothing to do with them.
pub(super) fn search(folder: &Path, enter: &dyn Fn(&Path) -> bool) -> Result<Listing, Problem> {
    let mut listing = Listing::default();
    let entries = WalkDir::new(folder).sort_by_file_name().into_iter();
    for entry in entries.filter_entry(|entry| entry.depth() == 0 || enter(entry.path())) {
        let entry = entry.map_err(|error| unwalkable(folder, &error))?;
        if entry.file_type().is_file() {
            listing.files.push((name_of(folder, entry.path())?, entry.into_path()));
        } else if entry.path_is_symlink() {
            listing.links.push(name_of(folder, entry.path())?);
        }
    }
    Ok(listing)
}

fn unwalkable(folder: &Path, error: &walkdir::Error) -> Problem {
    let path = error.path().unwrap_or(folder).display().to_string();
    Problem {
        message: format!("`{path}` cannot be read"),
        label: error.to_string(),
        help: "check its permissions".into(),
    }
}

fn name_of(folder: &Path, path: &Path) -> Result<String, Problem> {
    let relative = path.strip_prefix(folder).unwrap_or(path);
    relative.to_str().map(str::to_owned).ok_or_else(|| Problem::name(&relative.to_string_lossy()))
}

pub(super) fn matcher(pattern: &str) -> Result<GlobMatcher, Problem> {
    let glob =
        GlobBuilder::new(pattern).literal_separator(true).build().map_err(|error| Problem {
            message: format!("`{pattern}` is not a pattern"),
            label: error.kind().to_string(),
            help: "patterns are made of `*`, `**`, `?`, `[abc]` and `{one,two}`".into(),
        })?;
    Ok(glob.compile_matcher())
}
