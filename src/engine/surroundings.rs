//! What a step takes from the machine it runs on: programs, the host's identity, variables, the platform.
//!
//! Each fact is looked up once a build, when the first step needs it. This module is unaware of keys and steps'
//! results.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use crate::{
    graph::Toolchain,
    host::{self, HostIdentity},
    tools::{Search, States, ToolError, ToolSet},
};

/// The caller's environment, and what of it was looked up.
pub struct Surroundings {
    variables: BTreeMap<String, String>,
    path: OsString,
    folder: PathBuf,
    cache: PathBuf,
    host: OnceLock<HostIdentity>,
    tools: Mutex<BTreeMap<Vec<String>, Arc<ToolSet>>>,
    states: States,
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
    pub fn new(variables: BTreeMap<String, String>, folder: PathBuf, cache: PathBuf) -> Self {
        let path = variables.get("PATH").map(OsString::from).unwrap_or_default();
        Self {
            variables,
            path,
            folder,
            cache,
            host: OnceLock::new(),
            tools: Mutex::default(),
            states: States::default(),
        }
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

    /// The caller's variable called `name`.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// The host's identity.
    pub fn host(&self) -> &HostIdentity {
        self.host.get_or_init(|| host::identity(Some(&self.cache)))
    }

    /// What a step with this toolchain can run.
    ///
    /// # Errors
    /// If one of its tools is not to be found.
    pub fn toolbox(&self, toolchain: &Toolchain) -> Result<Toolbox, ToolError> {
        match toolchain {
            Toolchain::Builtin => Ok(Toolbox::default()),
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

    fn search(&self, names: &[String]) -> Result<ToolSet, ToolError> {
        Search::new(&self.path)
            .variables(&self.variables)
            .folder(&self.folder)
            .cache(&self.cache)
            .states(&self.states)
            .resolve(names)
    }

    fn tool_set(&self, names: &[String]) -> Result<Arc<ToolSet>, ToolError> {
        let mut known = self.tools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(set) = known.get(names) {
            return Ok(Arc::clone(set));
        }
        let set = Arc::new(self.search(names)?);
        known.insert(names.to_vec(), Arc::clone(&set));
        Ok(set)
    }
}
