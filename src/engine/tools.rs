//! The programs that a step names in `tools`, and what they consist of.
//!
//! It finds the real program behind shims, the package or prefix that it belongs to, and facts about it that are the
//! same on every machine where the program is the same. It runs nothing, and is unaware of sandboxes and keys.

mod cover;
mod dpkg;
mod prefix;
mod shim;

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    diagnostic::nearest,
    host::{self, Stamp},
};

use dpkg::Database;
pub use prefix::States;

/// One tool, found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// The name under which a step calls it.
    pub name: String,
    /// The real program.
    pub program: PathBuf,
    /// What identifies it: label and value, in a fixed order.
    pub fingerprint: Vec<(String, String)>,
}

/// What a step with `tools` can see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolSet {
    /// The tools that were asked for, sorted by name, then the core utilities as one.
    pub entries: Vec<Tool>,
    /// What stands in the step's `PATH`: name and program.
    pub programs: Vec<(String, PathBuf)>,
    /// Host paths that have to be visible at their own place, read-only: files, folders, and links that are to be
    /// made again.
    pub binds: Vec<PathBuf>,
    /// Whether some part could not be told apart from the host, whose identity then belongs in the key.
    pub host_fallback: bool,
}

/// Why a tool cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ToolError {
    /// A tool is a name that `PATH` is searched for, not a path.
    #[error("`{name}` is not the name of a program")]
    Name {
        /// As it was asked for.
        name: String,
    },
    /// A library that a builder works with is not there, or cannot be read.
    #[error("{0}")]
    Library(String),
    /// No folder on `PATH` has it.
    #[error("the tool `{name}` was not found on PATH{}", hint(.nearest.as_deref()))]
    NotFound {
        /// As it was asked for.
        name: String,
        /// The program on `PATH` whose name is most like it.
        nearest: Option<String>,
    },
    /// A version manager's shim leads to no program.
    #[error(
        "the tool `{name}` is a shim of {manager}, which has no version {wanted} with that program"
    )]
    Shim {
        /// As it was asked for.
        name: String,
        /// The folder of the version manager.
        manager: String,
        /// The versions that are asked for.
        wanted: String,
    },
    /// The program is a link that a virtual environment makes, and means nothing without its place.
    #[error(
        "the tool `{name}` belongs to the virtual environment {}: deactivate it, so that the tool is the interpreter itself",
        folder.display()
    )]
    VirtualEnvironment {
        /// As it was asked for.
        name: String,
        /// The environment's folder.
        folder: PathBuf,
    },
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// Where, and with what, tools are looked for.
#[derive(Clone, Debug, Default)]
pub struct Search {
    path: OsString,
    variables: BTreeMap<String, String>,
    folder: Option<PathBuf>,
    cache: Option<PathBuf>,
    states: Option<States>,
}

impl Search {
    /// A search along `path`, which has `PATH`'s form.
    pub fn new(path: &OsStr) -> Self {
        Self { path: path.to_owned(), ..Self::default() }
    }

    /// Lets version managers be told by variables (`PYENV_VERSION`).
    #[must_use]
    pub fn variables(mut self, variables: &BTreeMap<String, String>) -> Self {
        self.variables.clone_from(variables);
        self
    }

    /// Lets version managers be told by files in `folder` and above it (`.python-version`).
    #[must_use]
    pub fn folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    /// Remembers what is slow to find out in the folder `cache`.
    #[must_use]
    pub fn cache(mut self, cache: &Path) -> Self {
        self.cache = Some(cache.to_owned());
        self
    }

    /// Shares what was seen of installations with other searches: each is looked at once.
    #[must_use]
    pub fn states(mut self, states: &States) -> Self {
        self.states = Some(states.clone());
        self
    }

    /// Finds `names` and the core utilities, and what they consist of.
    ///
    /// # Errors
    /// If one of `names` is not there, or cannot be used.
    pub fn resolve(&self, names: &[String]) -> Result<ToolSet, ToolError> {
        let mut tools = Vec::new();
        for name in names.iter().collect::<BTreeSet<_>>() {
            tools.push(self.find(name)?);
        }
        let core = CORE
            .split_ascii_whitespace()
            .filter_map(|name| Found::in_folders(name, &self.core_folders()));
        let core: Vec<Found> = core.collect();
        let states = &self.states.clone().unwrap_or_default();
        let Some(cache) = &self.cache else {
            return Ok(describe(&tools, &core, None, states));
        };
        let stamps = stamps(&tools, &core);
        let (key, is_settled) = key(&tools, states);
        let name = format!("tools-1-{}.json", key.to_hex());
        let kept: Option<(Vec<Stamp>, ToolSet)> =
            fs::read(cache.join(&name)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if let Some((_, set)) = kept.filter(|(known, _)| *known == stamps) {
            return Ok(set);
        }
        let set = describe(&tools, &core, Some(cache), states);
        if is_settled && stamps.iter().all(Stamp::is_settled) {
            host::remember(cache, &name, &(stamps, &set));
        }
        Ok(set)
    }

    fn find(&self, name: &str) -> Result<Found, ToolError> {
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return Err(ToolError::Name { name: name.to_owned() });
        }
        let mut folders: Vec<PathBuf> = std::env::split_paths(&self.path).collect();
        loop {
            let Some(at) = folders.iter().position(|folder| is_program(&folder.join(name))) else {
                return Err(ToolError::NotFound {
                    name: name.to_owned(),
                    nearest: self.nearest(name),
                });
            };
            let program = folders[at].join(name);
            let Some(manager) = shim::manager(&folders[at]) else {
                return Found::at(name, &program);
            };
            match shim::real(&manager, name, &self.variables, self.folder.as_deref()) {
                shim::Real::Program(program) => return Found::at(name, &program),
                shim::Real::System => drop(folders.remove(at)),
                shim::Real::Missing(wanted) => {
                    return Err(ToolError::Shim {
                        name: name.to_owned(),
                        manager: manager.display().to_string(),
                        wanted,
                    });
                }
            }
        }
    }

    fn nearest(&self, name: &str) -> Option<String> {
        let names: BTreeSet<String> = std::env::split_paths(&self.path)
            .filter_map(|folder| fs::read_dir(folder).ok())
            .flat_map(|entries| entries.flatten())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        nearest(name, names.iter().map(String::as_str)).map(str::to_owned)
    }

    /// The system's own come first, whatever the user has put in front of them.
    fn core_folders(&self) -> Vec<PathBuf> {
        let system = ["/usr/bin", "/bin"].map(PathBuf::from);
        system.into_iter().chain(std::env::split_paths(&self.path)).collect()
    }
}

/// Finds `names` and the core utilities along `path_env`, as [`Search::resolve`] does.
///
/// # Errors
/// If one of `names` is not there, or cannot be used.
pub fn resolve(names: &[String], path_env: &OsStr) -> Result<ToolSet, ToolError> {
    Search::new(path_env).resolve(names)
}

/// What every step with `tools` can run besides: what shell scripts take for granted. Those that a host lacks are left
/// out.
const CORE: &str = "\
    [ arch awk b2sum base32 base64 basename basenc cat chgrp chmod chown cksum cmp comm cp csplit \
    cut date dd df diff diff3 dir dirname du echo egrep env expand expr factor false fgrep find \
    fmt fold grep groups gunzip gzip head hostid id install join kill link ln logname ls md5sum \
    mkdir mkfifo mktemp mv nice nl nohup nproc numfmt od paste pathchk pr printenv printf ptx pwd \
    readlink realpath rm rmdir sdiff sed seq sh sha1sum sha224sum sha256sum sha384sum sha512sum \
    shred shuf sleep sort split stat stdbuf stty sum sync tac tail tar tee test timeout touch tr \
    true truncate tsort tty uname unexpand uniq unlink vdir wc who whoami xargs yes zcat";

/// Shared libraries and what programs of the system keep with them.
const LIBRARIES: [&str; 9] = [
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/include",
];

/// What the loader and the alternatives of a system need, whatever is run.
const LOADER: [&str; 4] =
    ["/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives"];

fn is_program(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

/// A program, and the links that lead to it.
#[derive(Clone, Debug)]
struct Found {
    name: String,
    /// Every link on the way, then the program itself; the folders of each without links.
    chain: Vec<PathBuf>,
}

impl Found {
    fn at(name: &str, path: &Path) -> Result<Self, ToolError> {
        let chain = chain(path)
            .ok_or_else(|| ToolError::NotFound { name: name.to_owned(), nearest: None })?;
        let environment = chain.iter().filter_map(|path| path.parent()?.parent());
        if let Some(folder) = environment.clone().find(|folder| folder.join("pyvenv.cfg").exists())
        {
            let (name, folder) = (name.to_owned(), folder.to_owned());
            return Err(ToolError::VirtualEnvironment { name, folder });
        }
        Ok(Self { name: name.to_owned(), chain })
    }

    fn in_folders(name: &str, folders: &[PathBuf]) -> Option<Self> {
        let path = folders.iter().map(|folder| folder.join(name)).find(|path| is_program(path))?;
        Self::at(name, &path).ok()
    }

    fn program(&self) -> &Path {
        self.chain.last().map_or(Path::new(""), PathBuf::as_path)
    }

    /// Where a step's `PATH` leads to.
    fn entrance(&self) -> &Path {
        self.chain.first().map_or(Path::new(""), PathBuf::as_path)
    }
}

fn chain(path: &Path) -> Option<Vec<PathBuf>> {
    let mut chain = Vec::new();
    let mut next = path.to_owned();
    // As many as the kernel follows.
    while chain.len() < 40 {
        let path = fs::canonicalize(next.parent()?).ok()?.join(next.file_name()?);
        let target = fs::read_link(&path).ok();
        chain.push(path.clone());
        match target {
            Some(target) => next = path.parent()?.join(target),
            None => return Some(chain),
        }
    }
    None
}

/// What the remembered answer is about, and whether it may be remembered.
fn key(tools: &[Found], states: &States) -> (blake3::Hash, bool) {
    let mut hasher = blake3::Hasher::new_derive_key("kiln tools 1");
    let mut is_settled = true;
    for path in tools.iter().flat_map(|tool| &tool.chain) {
        host::feed(&mut hasher, path.as_os_str().as_bytes());
    }
    let local = dpkg::LOCAL_MODULES.iter().flat_map(|parent| prefix::modules(Path::new(parent)));
    for folder in tools.iter().filter_map(|tool| prefix::of(tool.program())).chain(local) {
        let seen = states.of(&folder);
        hasher.update(seen.state.as_bytes());
        is_settled &= seen.is_settled;
    }
    (hasher.finalize(), is_settled)
}

/// What it stands on.
fn stamps(tools: &[Found], core: &[Found]) -> Vec<Stamp> {
    let programs = tools.iter().chain(core).flat_map(|found| &found.chain);
    let state = [host::DPKG_STATUS, "/etc/alternatives", "/etc/ld.so.cache"].map(PathBuf::from);
    programs.chain(&state).map(|path| Stamp::of(path)).collect()
}

fn describe(tools: &[Found], core: &[Found], cache: Option<&Path>, states: &States) -> ToolSet {
    let database = Database::read();
    let mut set = ToolSet::default();
    let mut files = cover::Files::default();
    let all = tools.iter().chain(core);
    // What was asked for goes before what comes along: of one name, the first stays.
    set.programs.extend(all.clone().map(|one| (one.name.clone(), one.entrance().to_owned())));
    let chains: BTreeSet<PathBuf> = all.flat_map(|found| found.chain.iter().cloned()).collect();
    let owners = database.as_ref().map(|one| one.owners(&chains)).unwrap_or_default();
    for tool in tools {
        let fingerprint = match &database {
            Some(database) if owners.contains_key(tool.program()) => {
                packaged(database, tool, &owners, (cache, states), &mut files, &mut set)
            }
            _ => unpackaged(tool, cache, states, &mut set),
        };
        let (name, program) = (tool.name.clone(), tool.program().to_owned());
        set.entries.push(Tool { name, program, fingerprint });
    }
    let roots: BTreeSet<String> =
        core.iter().filter_map(|one| owners.get(one.program()).cloned()).collect();
    let fingerprint = match &database {
        Some(database) if core.iter().all(|one| owners.contains_key(one.program())) => {
            files.extend(libraries(database, &roots));
            database.facts(&roots, &database.closure(&roots))
        }
        _ => {
            set.depend_on_the_host();
            Vec::new()
        }
    };
    let shell = core.iter().find(|one| one.name == "sh");
    let program = shell.map_or_else(PathBuf::new, |shell| shell.program().to_owned());
    set.entries.push(Tool { name: "core utilities".into(), program, fingerprint });
    set.programs.sort_by(|a, b| a.0.cmp(&b.0));
    set.programs.dedup_by(|later, first| later.0 == first.0);
    set.binds.extend(chains);
    set.binds.extend(files.cover());
    set.binds.extend(LOADER.map(PathBuf::from));
    set.binds.retain(|path| fs::symlink_metadata(path).is_ok());
    set.binds.sort();
    set.binds.dedup();
    set
}

/// What identifies a tool that no package holds; what it consists of goes to `set`.
fn unpackaged(
    tool: &Found,
    cache: Option<&Path>,
    states: &States,
    set: &mut ToolSet,
) -> Vec<(String, String)> {
    // The libraries of the system that it uses cannot be told from its files.
    set.depend_on_the_host();
    let program = tool.program();
    let Some(folder) = prefix::of(program) else {
        let digest = prefix::file_digest(program).to_hex().to_string();
        return vec![("program".into(), file_name(program)), ("digest".into(), digest)];
    };
    let inside = program.strip_prefix(&folder).unwrap_or(program).display().to_string();
    let digest = prefix::digest(&folder, cache, states).to_hex().to_string();
    set.binds.push(folder);
    vec![("program".into(), inside), ("prefix".into(), digest)]
}

impl ToolSet {
    /// Shows the host's libraries, and says so.
    fn depend_on_the_host(&mut self) {
        self.host_fallback = true;
        self.binds.extend(LIBRARIES.map(PathBuf::from));
    }
}

/// What identifies a tool that packages hold; what it consists of goes to `set` and `files`.
fn packaged(
    database: &Database,
    tool: &Found,
    owners: &BTreeMap<PathBuf, String>,
    (cache, states): (Option<&Path>, &States),
    files: &mut cover::Files,
    set: &mut ToolSet,
) -> Vec<(String, String)> {
    let mut roots = database.roots(&tool.name, &tool.chain, owners);
    files.extend(database.files(&database.closure(&roots)));
    let programs = database.programs(&roots);
    set.programs.extend(programs.into_iter().map(|path| (file_name(&path), path)));
    if !file_name(tool.program()).starts_with("python3") {
        return database.facts(&roots, &database.closure(&roots));
    }
    // An interpreter is what it can import. The programs that modules bring along are not asked for.
    let modules = database.python_modules();
    files.extend(libraries(database, &modules));
    roots.extend(modules);
    let mut facts = database.facts(&roots, &database.closure(&roots));
    for folder in dpkg::LOCAL_MODULES.iter().flat_map(|parent| prefix::modules(Path::new(parent))) {
        let digest = prefix::digest(&folder, cache, states).to_hex().to_string();
        facts.push((format!("modules {}", folder.display()), digest));
        set.binds.push(folder);
    }
    facts
}

/// What `roots` and their needs consist of, without the programs of the system among it.
fn libraries(database: &Database, roots: &BTreeSet<String>) -> impl Iterator<Item = PathBuf> {
    let held = database.files(&database.closure(roots));
    held.into_iter().filter(|path| !dpkg::is_program_of_the_system(path))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
