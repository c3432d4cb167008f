//! Deployments: which generation runs, which ran before, and the two ways to switch.
//!
//! A switch writes, in this order: the root that keeps the generation's bytes, `generations/N`, `switches/K`, and
//! `current`. Only the last, one rename, changes what runs: a crash before it leaves the old state, and files that
//! nothing refers to; their numbers are skipped. Readers take no lock; writers take one for each deployment. This
//! module is unaware of recipes and of how releases are made.

mod audit;

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use kiln_cache::{Digest, FsError, Object, Root, RootError, Store};

pub use self::audit::{Audit, Unreadable, Unrooted};
use crate::{
    disk::{Disk, DiskError},
    document::{self, Document, DocumentError},
    manifest::DeploymentManifest,
    name::{self, NameError},
    record::{Generation, Pointer, Running, Switch, SwitchKind},
};

/// What stands in the way of reading a deployment or of switching it.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A name that cannot be one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A file that is damaged or of another version.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The store's disk.
    #[error(transparent)]
    Store(#[from] FsError),
    /// The generation's root.
    #[error("cannot keep the generation's bytes")]
    Root(#[from] RootError),
    /// There are generations, and the pointer is gone.
    #[error("the pointer {} is missing, though generations stand beside it", .0.display())]
    PointerLost(PathBuf),
    /// A file that another one refers to is gone.
    #[error("{} is missing, though the deployment refers to it", .0.display())]
    Missing(PathBuf),
    /// Who or why is not one line of text.
    #[error("the {0} must be one line of text, not empty and without control characters")]
    Line(&'static str),
    /// What should be deployed is not in the store.
    #[error("{0} is not in the store, so it cannot be deployed")]
    NotThere(Object),
    /// Nothing was deployed there yet.
    #[error("nothing has been deployed to {0} yet")]
    NothingDeployed(String),
    /// There is nothing to go back to.
    #[error("nothing ran in {deployment} before generation {current}")]
    NothingEarlier {
        /// The deployment.
        deployment: String,
        /// The generation that runs.
        current: u64,
    },
    /// It runs already.
    #[error("{deployment} already runs generation {current}")]
    AlreadyCurrent {
        /// The deployment.
        deployment: String,
        /// The generation that runs.
        current: u64,
    },
    /// There is no such generation.
    #[error("{deployment} has no generation {number}")]
    NoGeneration {
        /// The deployment.
        deployment: String,
        /// What was asked for.
        number: u64,
        /// Those that there are, ascending.
        there: Vec<u64>,
    },
    /// The bytes of a generation are gone.
    #[error(
        "generation {number} of {deployment} cannot run: {} gone from the store", gone(.missing)
    )]
    BytesGone {
        /// The deployment.
        deployment: String,
        /// The generation.
        number: u64,
        /// What is not there.
        missing: Vec<Object>,
    },
}

fn gone(missing: &[Object]) -> String {
    let names: Vec<String> = missing.iter().map(Object::to_string).collect();
    format!("{} {}", names.join(", "), if names.len() == 1 { "is" } else { "are" })
}

impl RegistryError {
    /// How to go on.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::Name(_) => "a recipe gives its deployments their names: [deploy.NAME]".to_owned(),
            Self::Disk(_) | Self::Store(_) => {
                "nothing was switched; kiln doctor tells what is wrong with the disk".to_owned()
            }
            Self::Root(_) => "nothing was switched; kiln store verify tells more".to_owned(),
            Self::Document(DocumentError::Version { .. }) => {
                "upgrade kiln, or name another home: --home DIR".to_owned()
            }
            Self::Document(_) | Self::PointerLost(_) | Self::Missing(_) => {
                "put the file back from a backup, or mend it and take its `check` out; `switches/` and `generations/` of the deployment tell what ran, \
                 and when"
                    .to_owned()
            }
            Self::Line(what) => format!("say the {what} in one line"),
            Self::NotThere(_) => "kiln build makes it".to_owned(),
            Self::NothingDeployed(deployment) => format!("kiln deploy {deployment}"),
            Self::NothingEarlier { deployment, .. } => {
                format!("kiln generations {deployment} lists what there is; --to N names one")
            }
            Self::AlreadyCurrent { deployment, .. } => {
                format!("kiln generations {deployment} lists the others")
            }
            Self::NoGeneration { there, .. } => {
                let numbers: Vec<String> = there.iter().map(u64::to_string).collect();
                format!("those that it has: {}", numbers.join(", "))
            }
            Self::BytesGone { deployment, .. } => format!(
                "kiln build makes the bytes again from the recipe of that time; kiln deploy {deployment} then \
                 deploys them as a new generation"
            ),
        }
    }
}

/// What is to be deployed.
#[derive(Debug, Clone)]
pub struct NewGeneration {
    /// The release.
    pub release: Object,
    /// The model in it, if it has one; see [`Deployments::model_of`].
    pub model: Option<Object>,
    /// The deployment manifest.
    pub manifest: Object,
    /// The action keys of the release's lineage.
    pub keys: Vec<Digest>,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
    /// When, in seconds since 1970.
    pub at: i64,
    /// Deploy even if the same model already runs.
    pub force: bool,
}

/// What came of a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deployed {
    /// A new generation runs.
    Switched(Generation),
    /// The same model ran already, in this generation; nothing was changed.
    AlreadyRuns(Generation),
}

/// What came of a rollback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switched {
    /// The generation that ran until now.
    pub from: Generation,
    /// The generation that runs now.
    pub to: Generation,
}

/// The deployments that a store's home knows.
#[derive(Debug)]
pub struct Deployments<'s> {
    store: &'s Store,
    disk: Disk,
}

/// The folder of one deployment.
#[derive(Debug, Clone)]
struct Place {
    recipe: String,
    name: String,
    folder: PathBuf,
}

impl Place {
    fn current(&self) -> PathBuf {
        self.folder.join("current")
    }

    fn generations(&self) -> PathBuf {
        self.folder.join("generations")
    }

    fn generation(&self, number: u64) -> PathBuf {
        self.generations().join(number.to_string())
    }

    fn switches(&self) -> PathBuf {
        self.folder.join("switches")
    }

    fn switch(&self, number: u64) -> PathBuf {
        self.switches().join(number.to_string())
    }
}

impl<'s> Deployments<'s> {
    /// Those of this store.
    #[must_use]
    pub fn new(store: &'s Store) -> Self {
        Self { store, disk: Disk::default() }
    }

    /// The model in a release: what stands in its folder `model`, as an object of its own. `None` if there is none.
    ///
    /// # Errors
    /// If the release is not in the store, or damaged.
    pub fn model_of(&self, release: &Object) -> Result<Option<Object>, kiln_cache::TreeError> {
        match release.kind {
            kiln_cache::Kind::File => Ok(None),
            kiln_cache::Kind::Tree => {
                Ok(self.store.subobject(&release.digest, "model")?.map(|part| part.object))
            }
        }
    }

    /// The names of the recipe's deployments to which something was deployed, sorted.
    ///
    /// # Errors
    /// If the name cannot be one, or the folder cannot be read.
    pub fn names(&self, recipe: &str) -> Result<Vec<String>, RegistryError> {
        name::check("recipe", recipe)?;
        let mut names = Vec::new();
        for name in self.disk.list(&self.root().join(recipe))? {
            if name::check("deployment", &name).is_ok()
                && self.pointer(&self.place(recipe, &name)?)?.is_some()
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// The generation that runs; `None` if nothing was deployed yet. Two small files are read.
    ///
    /// # Errors
    /// If a name cannot be one, or a file is damaged, missing or of another version.
    pub fn current(&self, recipe: &str, name: &str) -> Result<Option<Generation>, RegistryError> {
        let place = self.place(recipe, name)?;
        match self.pointer(&place)? {
            Some(running) => self.read_generation(&place, running.generation).map(Some),
            None => Ok(None),
        }
    }

    /// All generations that ever ran, ascending.
    ///
    /// # Errors
    /// As for [`current`](Self::current).
    pub fn generations(&self, recipe: &str, name: &str) -> Result<Vec<Generation>, RegistryError> {
        let place = self.place(recipe, name)?;
        let history = self.read_history(&place)?;
        deployed(&history).map(|number| self.read_generation(&place, number)).collect()
    }

    /// The generation of this number; `None` if none such ever ran.
    ///
    /// # Errors
    /// As for [`current`](Self::current).
    pub fn generation(
        &self,
        recipe: &str,
        name: &str,
        number: u64,
    ) -> Result<Option<Generation>, RegistryError> {
        let place = self.place(recipe, name)?;
        let there = deployed(&self.read_history(&place)?).any(|there| there == number);
        there.then(|| self.read_generation(&place, number)).transpose()
    }

    /// Every switch, oldest first.
    ///
    /// # Errors
    /// As for [`current`](Self::current).
    pub fn history(&self, recipe: &str, name: &str) -> Result<Vec<Switch>, RegistryError> {
        self.read_history(&self.place(recipe, name)?)
    }

    /// Makes a release the next generation, and the one that runs. If the same model runs already, nothing is
    /// changed, unless `new.force` says so.
    ///
    /// # Errors
    /// If something to deploy is not in the store, a file is damaged, or the disk cannot be written to. What ran
    /// before then still runs.
    pub fn deploy(
        &self,
        recipe: &str,
        name: &str,
        new: NewGeneration,
    ) -> Result<Deployed, RegistryError> {
        self.store.permit_change()?;
        let place = self.place(recipe, name)?;
        one_line("name of who deploys", Some(&new.by))?;
        one_line("reason", new.reason.as_deref())?;
        let objects: Vec<Object> =
            [Some(new.release), new.model, Some(new.manifest)].into_iter().flatten().collect();
        let session = self.store.session()?;
        session.hold(&new.keys, &objects)?;
        if let Some(absent) = objects.iter().find(|object| !self.store.contains(object)) {
            return Err(RegistryError::NotThere(*absent));
        }
        // The bytes come to disk before anything that refers to them.
        self.store.flush()?;

        let _lock = self.lock(&place)?;
        let running = self.begin(&place)?;
        if let Some(running) = running
            && !new.force
        {
            let current = self.read_generation(&place, running.generation)?;
            if current.runs(&new.release, new.model.as_ref()) {
                return Ok(Deployed::AlreadyRuns(current));
            }
        }
        let generation = Generation {
            number: self.next_number(&place.generations())?,
            recipe: place.recipe.clone(),
            deployment: place.name.clone(),
            release: new.release,
            model: new.model,
            manifest: new.manifest,
            replaced: running.map(|running| running.generation),
            keys: new.keys,
            by: new.by,
            reason: new.reason,
            at: new.at,
        };
        self.keep(&generation)?;
        self.write(&place.generation(generation.number), &generation)?;
        self.switch(
            &place,
            running,
            Move {
                kind: SwitchKind::Deploy,
                to: generation.number,
                by: generation.by.clone(),
                reason: generation.reason.clone(),
                at: generation.at,
            },
        )?;
        Ok(Deployed::Switched(generation))
    }

    /// Goes back to generation `to`; without a number, to the one that ran when the current one was deployed.
    ///
    /// So after 1, 2, 3 a rollback goes to 2, the next to 1, and a third is refused: rollbacks never turn in a
    /// circle. After 1, 2, a rollback to 1 and a new 3, a rollback goes to 1 and not to 2, which was abandoned.
    /// With a number any generation can be chosen, later ones included.
    ///
    /// # Errors
    /// If there is nothing to go back to, no such generation, it runs already, or its bytes are gone; also if a file
    /// is damaged or the disk cannot be written to. What ran before then still runs.
    pub fn rollback(
        &self,
        recipe: &str,
        name: &str,
        to: Option<u64>,
        by: &str,
        reason: Option<&str>,
        at: i64,
    ) -> Result<Switched, RegistryError> {
        let place = self.place(recipe, name)?;
        one_line("name of who rolls back", Some(by))?;
        one_line("reason", reason)?;
        let deployment = place.name.clone();
        // Without a pointer nothing is written, not even a folder.
        if self.pointer(&place)?.is_none() {
            return Err(RegistryError::NothingDeployed(deployment));
        }
        self.store.permit_change()?;
        let session = self.store.session()?;
        let _lock = self.lock(&place)?;
        let Some(running) = self.pointer(&place)? else {
            return Err(RegistryError::NothingDeployed(deployment));
        };
        let from = self.read_generation(&place, running.generation)?;
        let number = match to.or(from.replaced) {
            Some(number) => number,
            None => return Err(RegistryError::NothingEarlier { deployment, current: from.number }),
        };
        if number == from.number {
            return Err(RegistryError::AlreadyCurrent { deployment, current: number });
        }
        let there: Vec<u64> = deployed(&self.read_history(&place)?).collect();
        if !there.contains(&number) {
            return Err(RegistryError::NoGeneration { deployment, number, there });
        }
        let to = self.read_generation(&place, number)?;
        let objects: Vec<Object> = to.objects().collect();
        session.hold(&to.keys, &objects)?;
        let missing: Vec<Object> =
            objects.into_iter().filter(|object| !self.store.contains(object)).collect();
        if !missing.is_empty() {
            return Err(RegistryError::BytesGone { deployment, number, missing });
        }
        // Roots are files of their own: one that somebody removed must not cost production its bytes.
        self.keep(&to)?;
        let (by, reason) = (by.to_owned(), reason.map(str::to_owned));
        let next = Move { kind: SwitchKind::Rollback, to: number, by, reason, at };
        self.switch(&place, Some(running), next)?;
        Ok(Switched { from, to })
    }

    fn root(&self) -> PathBuf {
        self.store.home().join("deployments")
    }

    fn place(&self, recipe: &str, name: &str) -> Result<Place, NameError> {
        name::check("recipe", recipe)?;
        name::check("deployment", name)?;
        let folder = self.root().join(recipe).join(name);
        Ok(Place { recipe: recipe.to_owned(), name: name.to_owned(), folder })
    }

    fn lock(&self, place: &Place) -> Result<File, RegistryError> {
        self.disk.create_folders(&place.folder)?;
        Ok(self.disk.lock(&place.folder.join("lock"))?)
    }

    /// What runs. A pointer that is missing beside generations is lost, which is not the same as a place to
    /// which nothing was deployed yet: a gate that compares with production must not pass because of it.
    fn pointer(&self, place: &Place) -> Result<Option<Running>, RegistryError> {
        let path = place.current();
        if let Some(pointer) = self.read::<Pointer>(&path)? {
            return Ok(pointer.running);
        }
        let none = self.disk.list(&place.generations())?.is_empty();
        // A first deployment may have begun between the two looks.
        match self.read::<Pointer>(&path)? {
            Some(pointer) => Ok(pointer.running),
            None if none => Ok(None),
            None => Err(RegistryError::PointerLost(path)),
        }
    }

    /// Makes a deployment's files ready for a switch; gives what runs. The caller holds the lock.
    fn begin(&self, place: &Place) -> Result<Option<Running>, RegistryError> {
        let running = self.pointer(place)?;
        if running.is_none() && self.disk.read(&place.current())?.is_none() {
            self.write(&place.current(), &Pointer { running: None })?;
        }
        self.disk.create_folders(&place.generations())?;
        self.disk.create_folders(&place.switches())?;
        Ok(running)
    }

    /// A number that was never used.
    fn next_number(&self, folder: &Path) -> Result<u64, RegistryError> {
        Ok(self.numbers(folder)?.last().unwrap_or(&0) + 1)
    }

    /// The numbers that stand in a folder, ascending.
    fn numbers(&self, folder: &Path) -> Result<Vec<u64>, RegistryError> {
        let names = self.disk.list(folder)?;
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| name.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Keeps the collector from a generation's bytes and from the records of what made them.
    fn keep(&self, generation: &Generation) -> Result<(), RegistryError> {
        let (name, root) = self.root_of(generation);
        self.disk.point().map_err(|source| DiskError {
            doing: "write",
            path: PathBuf::from(&name),
            source,
        })?;
        Ok(self.store.set_root(&name, &root)?)
    }

    /// The root that keeps a generation, by its name.
    fn root_of(&self, generation: &Generation) -> (String, Root) {
        let Generation { recipe, deployment, number, .. } = generation;
        let root = Root {
            label: format!("generation {number} of {deployment} ({recipe})"),
            keys: generation.keys.clone(),
            objects: generation.objects().chain(self.sources(generation)).collect(),
            data: serde_json::Value::Null,
            bytes: Vec::new(),
            at: generation.at,
        };
        (root_name(recipe, deployment, *number), root)
    }

    /// What the steps behind a generation read from outside, as far as it is in the store: large sources are put there
    /// when they are deployed, and no record refers to them. A manifest that cannot be read names none.
    fn sources(&self, generation: &Generation) -> Vec<Object> {
        let path = self.store.path(&generation.manifest);
        let manifest = std::fs::read(&path)
            .ok()
            .and_then(|bytes| DeploymentManifest::from_bytes(&path, &bytes).ok());
        let sources = manifest.map(|manifest| manifest.lineage.sources).unwrap_or_default();
        sources.into_values().filter(|source| self.store.contains(source)).collect()
    }

    fn switch(
        &self,
        place: &Place,
        running: Option<Running>,
        next: Move,
    ) -> Result<(), RegistryError> {
        let switch = Switch {
            number: self.next_number(&place.switches())?,
            previous: running.map(|running| running.switch),
            kind: next.kind,
            from: running.map(|running| running.generation),
            to: next.to,
            by: next.by,
            reason: next.reason,
            at: next.at,
        };
        self.write(&place.switch(switch.number), &switch)?;
        let running = Some(Running { generation: switch.to, switch: switch.number });
        self.write(&place.current(), &Pointer { running })
    }

    fn read_history(&self, place: &Place) -> Result<Vec<Switch>, RegistryError> {
        let mut history: Vec<Switch> = Vec::new();
        let mut next = self.pointer(place)?.map(|running| running.switch);
        while let Some(number) = next {
            let path = place.switch(number);
            let switch: Switch = self.read(&path)?.ok_or(RegistryError::Missing(path))?;
            // Numbers fall from one to the one before it, or else the walk would not end.
            next = switch.previous.filter(|&previous| previous < number);
            history.push(switch);
        }
        history.reverse();
        Ok(history)
    }

    fn read_generation(&self, place: &Place, number: u64) -> Result<Generation, RegistryError> {
        let path = place.generation(number);
        self.read(&path)?.ok_or(RegistryError::Missing(path))
    }

    fn read<T: Document>(&self, path: &Path) -> Result<Option<T>, RegistryError> {
        let bytes = self.disk.read(path)?;
        Ok(bytes.map(|bytes| document::decode(path, &bytes)).transpose()?)
    }

    fn write<T: Document>(&self, path: &Path, value: &T) -> Result<(), RegistryError> {
        Ok(self.disk.place(path, &document::encode_checked(value))?)
    }
}

/// The name of the root that keeps a generation.
fn root_name(recipe: &str, deployment: &str, number: u64) -> String {
    format!("generation/{recipe}/{deployment}/{number}")
}

/// What a switch is to be.
struct Move {
    kind: SwitchKind,
    to: u64,
    by: String,
    reason: Option<String>,
    at: i64,
}

/// The numbers of the generations that were deployed, ascending.
fn deployed(history: &[Switch]) -> impl Iterator<Item = u64> {
    history.iter().filter(|switch| switch.kind == SwitchKind::Deploy).map(|switch| switch.to)
}

fn one_line(what: &'static str, text: Option<&str>) -> Result<(), RegistryError> {
    match text {
        Some(text) if text.trim().is_empty() || text.chars().any(char::is_control) => {
            Err(RegistryError::Line(what))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
