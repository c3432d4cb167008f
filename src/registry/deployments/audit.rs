//! Looking at all deployments at once: whether their files can be read, whether what they name is in the store, and
//! which roots keep that.
//!
//! Changes nothing but roots. Unaware of what is in the objects that it looks for.

use std::path::PathBuf;

use kiln_cache::{Problem, Root};

use super::{Deployments, Place, RegistryError, deployed, root_name};
use crate::{name, record::Generation};

/// A generation that is not a root, though a deployment could go back to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Unrooted {
    /// The root that keeps it.
    pub root: Root,
    generation: Generation,
}

/// What has to stay for the sake of deployments, as far as their files tell.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Audit {
    /// Generations that can be read and are no root.
    pub unrooted: Vec<Unrooted>,
    /// Files that cannot be read.
    pub unreadable: Vec<Unreadable>,
}

/// A file of a deployment that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The recipe whose deployment it is.
    pub recipe: String,
    /// What is wrong.
    pub problem: Problem,
    /// Whether roots keep what it names, so that nothing is at stake.
    pub is_held: bool,
}

impl Deployments<'_> {
    /// What is wrong with the deployments of all recipes, ordered by path: files that cannot be read, and objects that
    /// are missing. The objects themselves are not reread.
    pub fn verify(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let places = match self.places() {
            Ok(places) => places,
            Err(error) => return vec![problem(self.root(), &error)],
        };
        for place in places {
            let history = match self.read_history(&place) {
                Ok(history) => history,
                Err(error) => {
                    problems.push(problem(place.folder, &error));
                    continue;
                }
            };
            for number in deployed(&history) {
                let path = place.generation(number);
                match self.read_generation(&place, number) {
                    Ok(generation) => problems.extend(self.missing(path, &generation)),
                    Err(error) => problems.push(problem(path, &error)),
                }
            }
        }
        problems.sort();
        problems
    }

    fn missing(&self, path: PathBuf, generation: &Generation) -> Option<Problem> {
        let missing: Vec<_> =
            generation.objects().filter(|object| !self.store.contains(object)).collect();
        let Generation { number, deployment, .. } = generation;
        (!missing.is_empty()).then(|| {
            let error = RegistryError::BytesGone {
                deployment: deployment.clone(),
                number: *number,
                missing,
            };
            problem(path, &error)
        })
    }

    /// The generations whose roots somebody removed, and the files that cannot be read. What a generation names is not to
    /// be collected: a rollback must find it. Its root tells what that is, too, so that one of the two may be lost. Where
    /// it is not known which generations ran, all that there are count as such.
    ///
    /// # Errors
    /// If a folder or a root cannot be read.
    pub fn audit(&self) -> Result<Audit, RegistryError> {
        let mut found = Audit::default();
        for place in self.places()? {
            let recipe = || place.recipe.clone();
            let numbers = match self.read_history(&place) {
                Ok(history) => deployed(&history).collect(),
                Err(error) => {
                    let problem = problem(place.folder.clone(), &error);
                    found.unreadable.push(Unreadable { recipe: recipe(), problem, is_held: true });
                    self.numbers(&place.generations())?
                }
            };
            for number in numbers {
                let root = self.store.root(&root_name(&place.recipe, &place.name, number))?;
                match self.read_generation(&place, number) {
                    Ok(_) if root.is_some() => {}
                    Ok(generation) => {
                        let (_, root) = self.root_of(&generation);
                        found.unrooted.push(Unrooted { root, generation });
                    }
                    Err(error) => found.unreadable.push(Unreadable {
                        recipe: recipe(),
                        problem: problem(place.generation(number), &error),
                        is_held: root.is_some(),
                    }),
                }
            }
        }
        Ok(found)
    }

    /// Makes a generation a root again.
    ///
    /// # Errors
    /// If the disk cannot be written to.
    pub fn root_again(&self, unrooted: &Unrooted) -> Result<(), RegistryError> {
        self.keep(&unrooted.generation)
    }

    /// Removes the roots of generations that never ran and never will: what a deploy leaves that was cut off before
    /// its switch. Waits for those that are at it. Gives the names of what was removed. Of a deployment whose files cannot
    /// be read, all stay.
    ///
    /// # Errors
    /// If the disk cannot be written to.
    pub fn let_go_of_cut_off(&self) -> Result<Vec<String>, RegistryError> {
        let mut removed = Vec::new();
        for place in self.places()? {
            let _lock = self.lock(&place)?;
            let Ok(history) = self.read_history(&place) else { continue };
            let ran: Vec<u64> = deployed(&history).collect();
            let prefix = format!("generation/{}/{}/", place.recipe, place.name);
            for (name, _) in self.store.roots()? {
                let number = name.strip_prefix(&prefix).and_then(|rest| rest.parse::<u64>().ok());
                if number.is_some_and(|number| !ran.contains(&number))
                    && self.store.remove_root(&name)?
                {
                    removed.push(name);
                }
            }
        }
        Ok(removed)
    }

    /// Every place to which something may have been deployed.
    fn places(&self) -> Result<Vec<Place>, RegistryError> {
        let mut places = Vec::new();
        for recipe in self.disk.list(&self.root())? {
            if name::check("recipe", &recipe).is_err() {
                continue;
            }
            for name in self.disk.list(&self.root().join(&recipe))? {
                if name::check("deployment", &name).is_ok() {
                    places.push(self.place(&recipe, &name)?);
                }
            }
        }
        Ok(places)
    }
}

fn problem(path: PathBuf, error: &RegistryError) -> Problem {
    let mut what = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        what = format!("{what}: {error}");
        cause = error.source();
    }
    Problem { path, what, help: error.help() }
}
