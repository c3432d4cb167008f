//! A builder's stay in the store: what it holds is not collected while it lasts.

use crate::digest::Digest;
use crate::fsio::FsError;
use crate::holds::Held;
use crate::object::Object;
use crate::store::Store;

/// While a session lasts, nothing that was held, placed or recorded through its store is
/// collected by any process.
///
/// Hold first, then look whether it is there: what is there then, stays.
#[derive(Debug)]
pub struct Session<'s>(&'s Store);

impl Store {
    /// Begins a session.
    ///
    /// # Errors
    /// None at present; the file of what is held is made when something is.
    pub fn session(&self) -> Result<Session<'_>, FsError> {
        self.holds.begin();
        Ok(Session(self))
    }

    pub(crate) fn hold(&self, held: impl IntoIterator<Item = Held>) -> Result<(), FsError> {
        self.holds.add(&self.fs, &self.layout, &self.gc_lock, held)
    }
}

impl Session<'_> {
    /// Holds an object. Waits while a collector is choosing what to remove.
    ///
    /// # Errors
    /// If it cannot be written down.
    pub fn hold_object(&self, object: &Object) -> Result<(), FsError> {
        self.0.hold([Held::Object(*object)])
    }

    /// Holds the realisation of a key, with its outputs, log and references.
    ///
    /// # Errors
    /// If it cannot be written down.
    pub fn hold_key(&self, key: &Digest) -> Result<(), FsError> {
        self.0.hold([Held::Key(*key)])
    }

    /// Holds many things at once, at the price of one.
    ///
    /// # Errors
    /// If they cannot be written down.
    pub fn hold(&self, keys: &[Digest], objects: &[Object]) -> Result<(), FsError> {
        let keys = keys.iter().copied().map(Held::Key);
        self.0.hold(keys.chain(objects.iter().copied().map(Held::Object)))
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.0.holds.end();
    }
}
