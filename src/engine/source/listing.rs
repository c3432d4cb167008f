//! What lies below a folder, by path: files, and links that stay inside.
//!
//! Unaware of content and of the store.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use globset::{GlobBuilder, GlobMatcher};
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
    pub(super) folder: Option<PathBuf>,
    pub(super) files: Vec<(String, PathBuf)>,
    pub(super) links: Vec<(String, String)>,
}

impl Listing {
    pub(super) fn prefixed(mut self, prefix: &str) -> Self {
        if !prefix.is_empty() {
            self.files.iter_mut().for_each(|(name, _)| *name = format!("{prefix}/{name}"));
            self.links.iter_mut().for_each(|(name, _)| *name = format!("{prefix}/{name}"));
        }
        self
    }
}

/// All files and links below `folder`, sorted, by their path from it.
pub(super) fn walk(folder: &Path) -> Result<Listing, Problem> {
    let mut listing = Listing { folder: Some(folder.to_owned()), ..Listing::default() };
    for entry in WalkDir::new(folder).sort_by_file_name() {
        let entry = entry.map_err(|error| unwalkable(folder, &error))?;
        let name = name_of(folder, entry.path())?;
        let kind = entry.file_type();
        if kind.is_symlink() {
            let target = link_target(entry.path(), folder, &name)?;
            listing.links.push((name, target));
        } else if kind.is_file() {
            listing.files.push((name, entry.into_path()));
        } else if !kind.is_dir() {
            return Err(Problem {
                message: format!("`{name}` is neither a file nor a folder"),
                label: "a device, a pipe or a socket has no content to hash".into(),
                help: "remove it, or name the files that are meant".into(),
            });
        }
    }
    Ok(listing)
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
            listing.links.push((name_of(folder, entry.path())?, String::new()));
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
    relative.to_str().map(str::to_owned).ok_or_else(|| Problem {
        message: format!("`{}` has a name that is not UTF-8", relative.display()),
        label: "such a name cannot be written down in the same way on every machine".into(),
        help: "rename it".into(),
    })
}

/// Where a link in a folder points, if that is inside the folder.
fn link_target(link: &Path, folder: &Path, name: &str) -> Result<String, Problem> {
    let leaves = |label: &str| Problem {
        message: format!("the link `{name}` leaves its folder"),
        label: label.to_owned(),
        help: "replace it by what it points at".into(),
    };
    let target = fs::read_link(link).map_err(|error| Problem::unreadable(name, &error))?;
    let text = target.to_str().ok_or_else(|| leaves("its target is not UTF-8"))?;
    let mut depth = link.parent().map_or(0, |parent| {
        parent.strip_prefix(folder).map_or(0, |inner| inner.components().count())
    });
    for part in target.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            _ => return Err(leaves("only relative links that stay inside the folder are content")),
        }
    }
    Ok(text.to_owned())
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
