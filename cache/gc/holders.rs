//! Who holds what: every item that a root, a living process or a killed build keeps from the
//! collector, with the labels of its holders. Unaware of what becomes of the rest.

use std::collections::{BTreeMap, BTreeSet};

use super::weight::Stock;
use super::{GcError, RootChanges, Spared};
use crate::digest::Digest;
use crate::fsio::FsError;
use crate::holds::{self, Held, Holder};
use crate::item::Item;
use crate::object::Object;
use crate::realisation::Realisation;
use crate::roots;
use crate::store::Store;

/// What a living process holds is said to be held by this.
const RUNNING: &str = "a build that is running";
/// And what a killed one had held, by this.
const KILLED: &str = "a build that was killed, until it is built again";

/// For each item that stays, who holds it.
pub(super) type Marks = BTreeMap<Item, BTreeSet<String>>;

impl Store {
    /// Everything that must stay. To be called under the exclusive lock, if something is to go.
    pub(super) fn marks(&self, changes: &RootChanges) -> Result<Marks, GcError> {
        let mut marks = Marks::new();
        let mut roots = roots::all(&self.fs, &self.layout)?;
        roots.retain(|(name, _)| !changes.ignored.contains(name));
        roots.extend(changes.added.iter().map(|root| (String::new(), root.clone())));
        for (name, root) in roots {
            let label = if root.label.is_empty() { name } else { root.label };
            for object in root.objects {
                mark(&mut marks, Item::Object(object), &label);
            }
            for key in root.keys {
                self.mark_key(&mut marks, &key, &label)?;
            }
        }
        for (held, holder) in holds::all(&self.fs, &self.layout)? {
            let label = match holder {
                Holder::Living => RUNNING,
                Holder::Killed => KILLED,
            };
            match held {
                Held::Object(object) => mark(&mut marks, Item::Object(object), label),
                Held::Key(key) => self.mark_key(&mut marks, &key, label)?,
            }
        }
        Ok(marks)
    }

    /// Marks whatever the spared recipes made, and what no record names.
    pub(super) fn spare(
        &self,
        marks: &mut Marks,
        spared: &[Spared],
        stock: &Stock,
    ) -> Result<(), FsError> {
        let Some(first) = spared.first() else { return Ok(()) };
        let mut named = BTreeSet::new();
        for item in stock.keys() {
            let Item::Realisation(key) = item else { continue };
            let attempts = self.sound_attempts(key)?;
            named.extend(needed_by(&attempts).into_iter().map(Item::Object));
            for one in spared {
                if attempts.iter().any(|attempt| attempt.recipe == one.recipe) {
                    self.mark_key(marks, key, &one.label)?;
                }
            }
        }
        let objects = stock.keys().filter(|item| matches!(item, Item::Object(_)));
        for &item in objects.filter(|item| !named.contains(item)) {
            mark(marks, item, &first.label);
        }
        Ok(())
    }

    /// Marks a key's records and all that they need.
    fn mark_key(&self, marks: &mut Marks, key: &Digest, label: &str) -> Result<(), FsError> {
        let known = marks.get(&Item::Realisation(*key));
        if known.is_some_and(|labels| labels.contains(label)) {
            return Ok(());
        }
        mark(marks, Item::Realisation(*key), label);
        for object in needed_by(&self.sound_attempts(key)?) {
            mark(marks, Item::Object(object), label);
        }
        Ok(())
    }
}

/// What a key's records need, the one in use last: all that this one refers to, and the logs of
/// earlier ones.
pub(super) fn needed_by(attempts: &[Realisation]) -> Vec<Object> {
    let Some((current, earlier)) = attempts.split_last() else { return Vec::new() };
    let logs = earlier.iter().filter_map(|earlier| earlier.log);
    current.objects().chain(logs).collect()
}

fn mark(marks: &mut Marks, item: Item, label: &str) {
    let labels = marks.entry(item).or_default();
    if !labels.contains(label) {
        labels.insert(label.to_owned());
    }
}
