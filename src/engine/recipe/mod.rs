//! A recipe's text → [`Graph`].
//!
//! Two stages: `parse` gives the text its shape (a typed recipe with places), `evaluate` holds it against the
//! builder table, substitutes parameters and resolves references. Both go on after a problem, so that one
//! run reports every one. Apart from [`load`], nothing here reads files: whether a path leads anywhere is
//! found out by whoever resolves sources.
//!
//! Unaware of keys, of the store and of what builders do.

mod args;
mod builtin;
mod command;
mod deployments;
mod evaluate;
mod fit;
pub(crate) mod language;
mod names;
mod order;
mod params;
mod parse;
mod paths;
mod problems;
mod program;
mod quantity;
mod read;
mod renumber;
mod rings;
mod scope;
mod spans;
mod step;
mod syntax;
mod template;
#[cfg(test)]
pub(crate) mod tests;

use std::{fs, io, path::Path, path::PathBuf, sync::Arc};

use problems::Problems;

use crate::{
    catalogue::Catalogue,
    diagnostic::{Diagnostic, Location, SourceText},
    graph::{Graph, Source},
};

/// Why a recipe's text could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file could not be read.
    #[error("cannot read the recipe {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not UTF-8, which TOML must be.
    #[error("the recipe {path} is not UTF-8: byte {offset} (line {line}) begins no character")]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The first byte that is wrong.
        offset: usize,
        /// Its line, from 1.
        line: usize,
    },
}

/// Reads the recipe at `path`; messages call it `shown_as`.
///
/// # Errors
///
/// When the file cannot be read or is not UTF-8.
pub fn load(path: &Path, shown_as: &str) -> Result<Arc<SourceText>, LoadError> {
    let bytes =
        fs::read(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..offset].iter().filter(|&&b| b == b'\n').count() + 1;
        LoadError::NotUtf8 { path: path.to_owned(), offset, line }
    })?;
    Ok(Arc::new(SourceText { name: shown_as.to_owned(), text }))
}

/// Evaluates a recipe with the builders of `catalogue`. Pure: the result depends on the arguments alone.
///
/// `overrides` are parameters' names and values as given on the command line; of several values for one
/// parameter the last counts.
///
/// # Errors
///
/// Every problem of the recipe and of `overrides`: those without a place first, then in the text's order.
pub fn evaluate(
    source: &Arc<SourceText>,
    catalogue: &Catalogue,
    overrides: &[(String, String)],
) -> Result<Graph, Vec<Diagnostic>> {
    let mut problems = Problems::new(source);
    let Some(table) = syntax::document(&source.text, &mut problems) else {
        return Err(problems.into_sorted());
    };
    let mut recipe = parse::recipe(table.get_ref(), &mut problems);
    params::override_with(&mut recipe.params, overrides, &mut problems);
    let graph = evaluate::graph(&recipe, catalogue, &mut problems);
    match graph {
        Some(graph) if problems.is_empty() => Ok(graph),
        _ => Err(problems.into_sorted()),
    }
}

/// What a recipe names of the disk and of the machine, as far as its text can be read.
#[derive(Debug, Default)]
pub struct Named {
    /// Its sources that some text of it refers to.
    pub sources: Vec<Source>,
    /// The `files` of its steps, each with the place of its pattern.
    pub files: Vec<(String, Location)>,
    /// The `tools` of its steps, each list with the place of its step.
    pub tools: Vec<(Vec<String>, Location)>,
}

/// What a recipe that cannot be evaluated names all the same, so that what is missing of it is told together with what is
/// wrong with the recipe.
pub fn named(source: &Arc<SourceText>) -> Named {
    let mut problems = Problems::new(source);
    let Some(table) = syntax::document(&source.text, &mut problems) else {
        return Named::default();
    };
    let recipe = parse::recipe(table.get_ref(), &mut problems);
    let mut named = Named::default();
    let is_used = |name: &str| source.text.contains(&format!("${{sources.{name}"));
    for decl in recipe.sources.iter().filter(|decl| is_used(decl.name)) {
        let Some(origin) = decl.origin.clone() else { continue };
        let at = Location::new(source, decl.at.clone());
        named.sources.push(Source { name: decl.name.to_owned(), origin, at });
    }
    for step in &recipe.steps {
        let parse::Work::Command(command) = &step.work else { continue };
        let place = |span: &std::ops::Range<usize>| Location::new(source, span.clone());
        named.files.extend(command.files.iter().map(|(name, at)| (name.clone(), place(at))));
        named.tools.extend(command.tools.iter().map(|tools| (tools.clone(), place(&step.at))));
    }
    named
}
