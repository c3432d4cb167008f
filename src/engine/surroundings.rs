//! What a step takes from the machine it runs on: programs, the host's identity, variables, the platform.
//!
//! Each fact is looked up once a build, when the first step needs it. This module is unaware of keys and steps'
//! results.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use crate::{
    catalogue::{Catalogue, Library},
    graph::Toolchain,
    host::{self, HostIdentity},
    installation::{Installation, Moved},
    tools::{Search, States, ToolError, ToolSet},
};

/// The caller's environment, and what of it was looked up.
pub struct Surroundings {
    variables: BTreeMap<String, String>,
    /// Names of variables whose values are no text.
    unreadable: BTreeSet<String>,
    path: OsString,
    folder: PathBuf,
    cache: PathBuf,
    host: OnceLock<(HostIdentity, Installation)>,
    tools: Mutex<BTreeMap<Vec<String>, Arc<Found>>>,
    libraries: Vec<Library>,
    found: Mutex<BTreeMap<String, Arc<FoundLibrary>>>,
    states: States,
}

/// A variable whose value cannot be handed on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value of the variable `{0}` is not UTF-8")]
pub struct NotText(String);

/// Tools that were found, and what they were then.
struct Found {
    set: Arc<ToolSet>,
    installation: Installation,
}

/// A library that was found, its digests, and what it was then.
struct FoundLibrary {
    toolbox: Toolbox,
    installation: Installation,
}

/// What a step can run, for its key and for its sandbox.
#[derive(Clone, Debug, Default)]
pub struct Toolbox {
    /// Facts for the key, by name.
    pub facts: Vec<(String, String)>,
    /// The programs, for a step with `tools`.
    pub tools: Option<Arc<ToolSet>>,
}

impl Surroundings {
    /// The surroundings of a caller with these variables, for a recipe in `folder`; what is slow to find out is
    /// remembered in the folder `cache`.
    pub fn new(
        caller: impl IntoIterator<Item = (OsString, OsString)>,
        folder: PathBuf,
        cache: PathBuf,
    ) -> Self {
        let mut path = OsString::new();
        let (mut variables, mut unreadable) = (BTreeMap::new(), BTreeSet::new());
        for (name, value) in caller {
            if name == "PATH" {
                path.clone_from(&value);
            }
            // A name that is no text cannot be asked for.
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => drop(variables.insert(name, value)),
                Err(_) => drop(unreadable.insert(name)),
            }
        }
        let (host, tools) = (OnceLock::new(), Mutex::default());
        let (libraries, found) = (Vec::new(), Mutex::default());
        let states = States::default();
        Self { variables, unreadable, path, folder, cache, host, tools, libraries, found, states }
    }

    /// The same, knowing the libraries that the builders of `catalogue` work with.
    #[must_use]
    pub fn with_libraries(mut self, catalogue: &Catalogue) -> Self {
        self.libraries = catalogue.builders.iter().flat_map(|own| own.libraries).copied().collect();
        self
    }

    /// The library called `name`: found, and its files hashed, once.
    fn library(&self, name: &str) -> Result<Arc<FoundLibrary>, ToolError> {
        let mut known = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(name) {
            return Ok(Arc::clone(found));
        }
        let missing = || ToolError::Library(format!("no builder works with the library `{name}`"));
        let library = self.libraries.iter().find(|own| own.name == name).ok_or_else(missing)?;
        let variable = |name: &str| self.variables.get(name).map(OsString::from);
        let binds = (library.find)(&variable).map_err(ToolError::Library)?;
        let set = Arc::new(ToolSet { binds, ..ToolSet::default() });
        // First what would tell of a change, so that one while it is hashed is noticed.
        let installation = Installation::of_tools(&set);
        let mut facts = Vec::new();
        for file in &set.binds {
            let mut hasher = blake3::Hasher::new();
            hasher.update_mmap_rayon(file).map_err(|error| {
                ToolError::Library(format!("cannot read {}: {error}", file.display()))
            })?;
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            facts.push((name, hasher.finalize().to_hex().to_string()));
        }
        facts.sort();
        let toolbox = Toolbox { facts, tools: Some(set) };
        let found = Arc::new(FoundLibrary { toolbox, installation });
        known.insert(name.to_owned(), Arc::clone(&found));
        Ok(found)
    }

    /// Architecture and operating system: `x86_64-linux`.
    pub fn platform(&self) -> &'static str {
        const PLATFORM: &str = if cfg!(target_arch = "x86_64") {
            "x86_64-linux"
        } else if cfg!(target_arch = "aarch64") {
            "aarch64-linux"
        } else {
            "other-linux"
        };
        PLATFORM
    }

    /// The caller's variable called `name`; `None` if it is not set.
    ///
    /// # Errors
    /// If its value is no text: a key is made of text.
    pub fn variable(&self, name: &str) -> Result<Option<&str>, NotText> {
        if self.unreadable.contains(name) {
            return Err(NotText(name.to_owned()));
        }
        Ok(self.variables.get(name).map(String::as_str))
    }

    /// The host's identity.
    pub fn host(&self) -> &HostIdentity {
        &self.looked_up().0
    }

    fn looked_up(&self) -> &(HostIdentity, Installation) {
        self.host.get_or_init(|| {
            // First what would tell of a change, so that one while the rest is looked up is noticed.
            let installation = Installation::of_host();
            (host::identity(Some(&self.cache)), installation)
        })
    }

    /// What of the programs that a step with this toolchain can run is not any more as it was when they were looked up.
    /// Nothing if they were not.
    pub fn moved(&self, toolchain: &Toolchain) -> Option<PathBuf> {
        let host = || match self.host.get()?.1.moved()? {
            Moved::Program(path) | Moved::Folder(path) => Some(path),
        };
        match toolchain {
            Toolchain::Builtin => None,
            Toolchain::Host => host(),
            Toolchain::Library(name) => {
                let known = {
                    let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
                    Arc::clone(found.get(name)?)
                };
                match known.installation.moved()? {
                    Moved::Program(path) | Moved::Folder(path) => Some(path),
                }
            }
            Toolchain::Tools(names) => {
                let known = {
                    let tools = self.tools.lock().unwrap_or_else(PoisonError::into_inner);
                    Arc::clone(tools.get(names)?)
                };
                match known.installation.moved() {
                    Some(Moved::Program(path)) => return Some(path),
                    Some(Moved::Folder(path))
                        if self
                            .search(names, &States::default())
                            .is_ok_and(|now| now == *known.set) =>
                    {
                        drop(path);
                    }
                    Some(Moved::Folder(path)) => return Some(path),
                    None => {}
                }
                if known.set.host_fallback { host() } else { None }
            }
        }
    }

    /// What a step with this toolchain can run.
    ///
    /// # Errors
    /// If one of its tools is not to be found.
    pub fn toolbox(&self, toolchain: &Toolchain) -> Result<Toolbox, ToolError> {
        match toolchain {
            Toolchain::Builtin => Ok(Toolbox::default()),
            Toolchain::Library(name) => Ok(self.library(name)?.toolbox.clone()),
            Toolchain::Host => Ok(Toolbox { facts: self.host().fields(), tools: None }),
            Toolchain::Tools(names) => {
                let set = self.tool_set(names)?;
                let mut facts: Vec<(String, String)> = set
                    .entries
                    .iter()
                    .flat_map(|tool| {
                        tool.fingerprint.iter().map(move |(label, fact)| {
                            (format!("{}.{label}", tool.name), fact.clone())
                        })
                    })
                    .collect();
                if set.host_fallback {
                    facts.extend(
                        self.host()
                            .fields()
                            .into_iter()
                            .map(|(name, fact)| (format!("host.{name}"), fact)),
                    );
                }
                facts.sort();
                Ok(Toolbox { facts, tools: Some(set) })
            }
        }
    }

    fn search(&self, names: &[String], states: &States) -> Result<ToolSet, ToolError> {
        Search::new(&self.path)
            .variables(&self.variables)
            .folder(&self.folder)
            .cache(&self.cache)
            .states(states)
            .resolve(names)
    }

    fn tool_set(&self, names: &[String]) -> Result<Arc<ToolSet>, ToolError> {
        let mut known = self.tools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(names) {
            return Ok(Arc::clone(&found.set));
        }
        let set = Arc::new(self.search(names, &self.states)?);
        let installation = Installation::of_tools(&set);
        known.insert(names.to_vec(), Arc::new(Found { set: Arc::clone(&set), installation }));
        Ok(set)
    }
}
