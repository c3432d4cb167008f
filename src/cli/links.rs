//! The links under `result/`: where a build's outputs are found beside the recipe.
//!
//! Links show the outcome of the last build: one whose output does not exist any more is removed. Nothing but links
//! into the store is ever touched.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use kiln_engine::{
    graph::{Origin, Reference, StepId},
    realise::Built,
    source::RESULT_FOLDER,
};

use super::{failure::Failure, project::Project};

/// What `--link` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LinkChoice {
    /// The steps that were asked for.
    #[default]
    Asked,
    /// Every step.
    All,
    /// None.
    None,
}

/// A step that is to be linked.
pub struct Linked<'a> {
    /// Its name.
    pub name: &'a str,
    /// How many outputs it declares.
    pub declared: usize,
    /// Those that exist, and where.
    pub outputs: Vec<(&'a str, PathBuf)>,
}

/// What is to be linked.
pub struct Wanted<'a> {
    /// The folder of the recipe.
    pub dir: &'a Path,
    /// The folder of the store.
    pub store: &'a Path,
    /// The sources of the recipe that are paths, in full.
    pub sources: Vec<PathBuf>,
    /// The steps to link.
    pub steps: Vec<Linked<'a>>,
    /// The steps whose links must not show anything else; `None` after a build that came to no end: then the links
    /// show the last one that did.
    pub known: Option<Vec<&'a str>>,
    /// Whether `steps` are all that should be there.
    pub whole: bool,
}

/// Links the outputs of `steps`; `whole` says that these are all that should be there. The links, for people.
pub fn update(
    project: &Project,
    built: &Built,
    steps: &[StepId],
    whole: bool,
) -> Result<Vec<PathBuf>, Failure> {
    let sources = project.graph.sources.iter().filter_map(|source| match &source.origin {
        Origin::Path(path) => Some(project.dir.join(path)),
        Origin::Glob(_) | Origin::Deployment { .. } => None,
    });
    let linked = steps.iter().map(|&id| {
        let step = project.graph.step(id);
        let outputs = step.outputs.iter().enumerate().filter_map(|(number, output)| {
            let path = built.paths.get(&Reference::Output(id, number as u32))?;
            Some((output.name.as_str(), path.clone()))
        });
        Linked { name: &step.name, declared: step.outputs.len(), outputs: outputs.collect() }
    });
    let ended = !(built.report.failed() || built.report.interrupted);
    let known = ended.then(|| {
        if whole {
            project.graph.steps.iter().map(|step| step.name.as_str()).collect()
        } else {
            steps.iter().map(|&id| project.graph.step(id).name.as_str()).collect()
        }
    });
    link(&Wanted {
        dir: &project.dir,
        store: project.store.home(),
        sources: sources.collect(),
        steps: linked.collect(),
        known,
        whole,
    })
}

/// Makes the links, and removes those that are stale. The links, for people.
pub fn link(wish: &Wanted<'_>) -> Result<Vec<PathBuf>, Failure> {
    let folder = wish.dir.join(RESULT_FOLDER);
    let mut wanted: BTreeMap<PathBuf, &Path> = BTreeMap::new();
    let mut shown: Vec<PathBuf> = Vec::new();
    for Linked { name, declared, outputs } in &wish.steps {
        for (output, path) in outputs {
            let link = match declared {
                1 => PathBuf::from(name),
                _ => Path::new(name).join(output),
            };
            wanted.insert(link, path);
        }
        if !outputs.is_empty() {
            shown.push(folder.join(name));
        }
    }
    let blocked = |error: Blocked| {
        Failure::environment(
            &error,
            "the steps are built and kept; --link none leaves result/ alone",
        )
    };
    let owned = Owned { store: wish.store, sources: &wish.sources };
    if let Some(known) = &wish.known {
        prune(&owned, &folder, &wanted, known, wish.whole).map_err(blocked)?;
    }
    let mut ready = None;
    for (link, target) in &wanted {
        place(&owned, &folder.join(link), target, &mut ready).map_err(blocked)?;
    }
    let here = std::env::current_dir().unwrap_or_default();
    Ok(shown
        .into_iter()
        .map(|path| path.strip_prefix(&here).map_or(path.clone(), Path::to_owned))
        .collect())
}

/// Where the outputs of `steps` are in the store.
pub fn store_paths(project: &Project, built: &Built, steps: &[StepId]) -> Vec<PathBuf> {
    let outputs = steps.iter().flat_map(|&id| {
        let count = project.graph.step(id).outputs.len() as u32;
        (0..count).map(move |number| Reference::Output(id, number))
    });
    outputs.filter_map(|output| built.paths.get(&output).cloned()).collect()
}

/// A link that could not be made or removed.
#[derive(Debug, thiserror::Error)]
enum Blocked {
    #[error("failed to link `{}`", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("`{}` is in the way: it is not a link that kiln made", .0.display())]
    NotOurs(PathBuf),
    #[error("`{}` is in the way: kiln puts its links into a folder of this name", .0.display())]
    NotAFolder(PathBuf),
}

/// Which links are kiln's own.
struct Owned<'a> {
    store: &'a Path,
    sources: &'a [PathBuf],
}

impl Owned<'_> {
    /// Whether `link` is a link into the store or another one, or to a source beside the recipe.
    fn is_ours(&self, link: &Path) -> bool {
        fs::read_link(link).is_ok_and(|target| {
            target.starts_with(self.store) || self.sources.contains(&target) || is_object(&target)
        })
    }
}

/// Whether a path looks like an object's in some store: `…/store/t/ab/abcdef…`. `KILN_HOME` may have been another one
/// when a link was made.
fn is_object(path: &Path) -> bool {
    let parts: Vec<&str> =
        path.components().rev().filter_map(|part| part.as_os_str().to_str()).take(4).collect();
    let [name, folder, kind, store] = parts.as_slice() else { return false };
    let digest = name.strip_suffix(".x").unwrap_or(name);
    *store == "store"
        && matches!(*kind, "f" | "t")
        && digest.starts_with(folder)
        && digest.parse::<kiln_cache::Digest>().is_ok()
}

/// Makes a link, or makes it lead elsewhere. `ready` is a folder that is known to be one of the user's.
fn place(
    owned: &Owned<'_>,
    link: &Path,
    target: &Path,
    ready: &mut Option<PathBuf>,
) -> Result<(), Blocked> {
    let current = fs::read_link(link);
    if current.as_ref().is_ok_and(|current| current == target) {
        return Ok(());
    }
    let io = |source| Blocked::Io { path: link.to_owned(), source };
    let is_free = current.is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    // What comes in between is seen below.
    if is_free
        && ready.as_deref() == link.parent()
        && std::os::unix::fs::symlink(target, link).is_ok()
    {
        return Ok(());
    }
    if link.symlink_metadata().is_ok() && !owned.is_ours(link) {
        return Err(Blocked::NotOurs(link.to_owned()));
    }
    let folder = link.parent().unwrap_or(Path::new("."));
    if owned.is_ours(folder) {
        // The step had a single output before.
        fs::remove_file(folder).map_err(io)?;
    }
    if let Some(taken) = folder
        .ancestors()
        .find(|path| path.symlink_metadata().is_ok())
        .filter(|path| !path.is_dir())
    {
        return Err(Blocked::NotAFolder(taken.to_owned()));
    }
    fs::create_dir_all(folder).map_err(io)?;
    *ready = Some(folder.to_owned());
    let name = link.file_name().unwrap_or_default().to_string_lossy();
    // The time keeps two processes apart whose numbers are the same, in containers for instance.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let beside = folder.join(format!(".{name}.{}-{since:x}", std::process::id()));
    std::os::unix::fs::symlink(target, &beside).map_err(io)?;
    fs::rename(&beside, link).map_err(io)
}

/// Removes links whose outputs do not exist, and, if `whole`, those of steps that were not asked for.
fn prune(
    owned: &Owned<'_>,
    folder: &Path,
    wanted: &BTreeMap<PathBuf, &Path>,
    names: &[&str],
    whole: bool,
) -> Result<(), Blocked> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        if is_link && wanted.contains_key(Path::new(&name)) {
            continue;
        }
        // A link that another recipe in this folder made is that one's business, as long as it leads somewhere.
        let dangling = is_link && !entry.path().exists();
        let ours = names.iter().any(|asked| name == **asked);
        if !ours && (!whole || !dangling) {
            continue;
        }
        remove_stale(owned, folder, Path::new(&name), wanted)?;
    }
    Ok(())
}

fn remove_stale(
    owned: &Owned<'_>,
    folder: &Path,
    relative: &Path,
    wanted: &BTreeMap<PathBuf, &Path>,
) -> Result<(), Blocked> {
    let path = folder.join(relative);
    let io = |source| Blocked::Io { path: path.clone(), source };
    if path.is_symlink() {
        if !wanted.contains_key(relative) && owned.is_ours(&path) {
            fs::remove_file(&path).map_err(io)?;
        }
    } else if path.is_dir() && relative.components().count() == 1 {
        for entry in fs::read_dir(&path).map_err(io)?.flatten() {
            remove_stale(owned, folder, &relative.join(entry.file_name()), wanted)?;
        }
        // Only an empty folder goes; one that holds something of the user's stays.
        drop(fs::remove_dir(&path));
    }
    Ok(())
}
