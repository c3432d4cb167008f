//! The links under `result/`: where a build's outputs are found beside the recipe.
//!
//! Links show the outcome of the last build: one whose output does not exist any more is removed. Nothing but links
//! into the store is ever touched.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use kiln_engine::{
    graph::{Origin, Reference, StepId},
    realise::Built,
    source::RESULT_FOLDER,
};

use super::{failure::Failure, project::Project};

/// Links the outputs of `steps`; `whole` says that these are all that should be there. The links, for people.
pub fn update(
    project: &Project,
    built: &Built,
    steps: &[StepId],
    whole: bool,
) -> Result<Vec<PathBuf>, Failure> {
    let folder = project.dir.join(RESULT_FOLDER);
    let mut wanted: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    let mut names: Vec<&str> = Vec::new();
    for &id in steps {
        let step = project.graph.step(id);
        names.push(&step.name);
        for (number, output) in step.outputs.iter().enumerate() {
            let Some(path) = built.paths.get(&Reference::Output(id, number as u32)) else {
                continue;
            };
            let link = match step.outputs.len() {
                1 => PathBuf::from(&step.name),
                _ => Path::new(&step.name).join(&output.name),
            };
            wanted.insert(link, path.clone());
        }
    }
    let blocked = |error: Blocked| {
        Failure::environment(
            &error,
            "the steps are built and kept; --link none leaves result/ alone",
        )
    };
    let sources = project.graph.sources.iter().filter_map(|source| match &source.origin {
        Origin::Path(path) => Some(project.dir.join(path)),
        Origin::Glob(_) | Origin::Deployment { .. } => None,
    });
    let owned = Owned { store: project.store.home(), sources: sources.collect() };
    // After a failure the links show the last build that came to an end.
    if !(built.report.failed() || built.report.interrupted) {
        let known: Vec<&str> = project.graph.steps.iter().map(|step| step.name.as_str()).collect();
        let known = if whole { &known } else { &names };
        prune(&owned, &folder, &wanted, known, whole).map_err(blocked)?;
    }
    for (link, target) in &wanted {
        place(&owned, &folder.join(link), target).map_err(blocked)?;
    }
    let mut shown: Vec<PathBuf> = Vec::new();
    for name in names {
        if wanted.keys().any(|link| link.starts_with(name)) {
            shown.push(folder.join(name));
        }
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
    sources: Vec<PathBuf>,
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

fn place(owned: &Owned<'_>, link: &Path, target: &Path) -> Result<(), Blocked> {
    if fs::read_link(link).is_ok_and(|current| current == target) {
        return Ok(());
    }
    let io = |source| Blocked::Io { path: link.to_owned(), source };
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
    let name = link.file_name().unwrap_or_default().to_string_lossy();
    let beside = folder.join(format!(".{name}.{}", std::process::id()));
    drop(fs::remove_file(&beside));
    std::os::unix::fs::symlink(target, &beside).map_err(io)?;
    fs::rename(&beside, link).map_err(io)
}

/// Removes links whose outputs do not exist, and, if `whole`, those of steps that were not asked for.
fn prune(
    owned: &Owned<'_>,
    folder: &Path,
    wanted: &BTreeMap<PathBuf, PathBuf>,
    names: &[&str],
    whole: bool,
) -> Result<(), Blocked> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries.flatten() {
        let name = entry.file_name();
        // A link that another recipe in this folder made is that one's business, as long as it leads somewhere.
        let dangling = entry.path().is_symlink() && !entry.path().exists();
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
    wanted: &BTreeMap<PathBuf, PathBuf>,
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
