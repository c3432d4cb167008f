//! A builder's stay in the store: what it holds is not collected while it lasts.

use crate::digest::Digest;
use crate::fsio::FsError;
use crate::holds::{self, Held};
use crate::lock::Shared;
use crate::object::Object;
use crate::store::Store;

/// While a session lasts, nothing that was held, placed or recorded through its store is
/// collected by any process.
///
/// Hold first, then look whether it is there: what is there then, stays.
#[derive(Debug)]
pub struct Session<'s> {
    store: &'s Store,
    /// Where nothing can be written down, the collector is kept away altogether.
    _collector_waits: Option<Shared<'s>>,
}

impl Store {
    /// Begins a session.
    ///
    /// # Errors
    /// If the collector cannot be kept away from a store that can only be read. Elsewhere the file of what is
    /// held is made when something is.
    pub fn session(&self) -> Result<Session<'_>, FsError> {
        self.begin(None)
    }

    /// Begins a session for an owner. If the process is killed, what it held stays held until
    /// somebody [forgets](Self::forget_killed) it for this owner, or for a month: what was finished
    /// is not lost to a collector that comes before the owner does.
    ///
    /// # Errors
    /// As for [`session`](Self::session).
    pub fn session_of(&self, owner: &Digest) -> Result<Session<'_>, FsError> {
        self.begin(Some(owner))
    }

    fn begin(&self, owner: Option<&Digest>) -> Result<Session<'_>, FsError> {
        let collector_waits = match self.read_only() {
            Some(_) => Some(self.gc_lock.shared()?),
            None => None,
        };
        self.holds.begin(owner);
        Ok(Session { store: self, _collector_waits: collector_waits })
    }

    /// Lets go of what killed processes held for this owner.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn forget_killed(&self, owner: &Digest) -> Result<(), FsError> {
        if self.read_only().is_some() {
            return Ok(());
        }
        holds::forget(&self.fs, &self.layout, owner)
    }

    pub(crate) fn hold(&self, held: impl IntoIterator<Item = Held>) -> Result<(), FsError> {
        if self.read_only().is_some() {
            return Ok(());
        }
        self.holds.add(&self.fs, &self.layout, &self.gc_lock, held)
    }
}

impl Session<'_> {
    /// Holds an object. Waits while a collector is choosing what to remove.
    ///
    /// # Errors
    /// If it cannot be written down.
    pub fn hold_object(&self, object: &Object) -> Result<(), FsError> {
        self.store.hold([Held::Object(*object)])
    }

    /// Holds the realisation of a key, with its outputs, log and references.
    ///
    /// # Errors
    /// If it cannot be written down.
    pub fn hold_key(&self, key: &Digest) -> Result<(), FsError> {
        self.store.hold([Held::Key(*key)])
    }

    /// Holds many things at once, at the price of one.
    ///
    /// # Errors
    /// If they cannot be written down.
    pub fn hold(&self, keys: &[Digest], objects: &[Object]) -> Result<(), FsError> {
        let keys = keys.iter().copied().map(Held::Key);
        self.store.hold(keys.chain(objects.iter().copied().map(Held::Object)))
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.store.holds.end();
    }
}
