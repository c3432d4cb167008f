//! A builder's stay in the store: what it holds is not collected while it lasts.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::digest::Digest;
use crate::fsio::FsError;
use crate::holds::{self, Held};
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
    collector_waits: AtomicBool,
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
        let session = Session { store: self, collector_waits: AtomicBool::new(false) };
        self.holds.begin(owner);
        if self.read_only().is_some() {
            session.keep_collector_away()?;
        }
        Ok(session)
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
    /// Goes on holding after its end, as if its process had been killed: for an owner who could not make
    /// a root of what it holds.
    pub fn outlive(&self) {
        self.store.holds.outlive();
    }

    /// Holds an object. Waits while a collector is choosing what to remove.
    ///
    /// # Errors
    /// If it cannot be written down.
    pub fn hold_object(&self, object: &Object) -> Result<(), FsError> {
        self.note([Held::Object(*object)])
    }

    /// Holds the realisation of a key, with its outputs, log and references.
    ///
    /// # Errors
    /// If it cannot be written down.
    pub fn hold_key(&self, key: &Digest) -> Result<(), FsError> {
        self.note([Held::Key(*key)])
    }

    /// Holds many things at once, at the price of one.
    ///
    /// # Errors
    /// If they cannot be written down.
    pub fn hold(&self, keys: &[Digest], objects: &[Object]) -> Result<(), FsError> {
        let keys = keys.iter().copied().map(Held::Key);
        self.note(keys.chain(objects.iter().copied().map(Held::Object)))
    }

    fn note(&self, held: impl IntoIterator<Item = Held>) -> Result<(), FsError> {
        match self.store.hold(held) {
            // Who only looks needs no room for it.
            Err(error) if error.is_full() => self.keep_collector_away(),
            noted => noted,
        }
    }

    fn keep_collector_away(&self) -> Result<(), FsError> {
        self.store.gc_lock.enter()?;
        if self.collector_waits.swap(true, Ordering::Relaxed) {
            // Once is enough.
            self.store.gc_lock.leave();
        }
        Ok(())
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.store.holds.end();
        if self.collector_waits.load(Ordering::Relaxed) {
            self.store.gc_lock.leave();
        }
    }
}
