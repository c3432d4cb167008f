//! What a build came to, kept so that the same build can be answered without evaluating anything again.
//!
//! A build is a function of the recipe's text and of what was found [outside](crate::outside) of the store; its value
//! is a list of records and what its targets stand for. A memo holds argument and value. It is found by the argument's
//! text, and believed only if all that was found is found again, every record is the one that
//! was seen, and what is asked for is there: then a build would have nothing to do. It is derived; one that is lost or
//! damaged costs the time of an ordinary build. Unaware of links and of what is printed.

#[cfg(any(test, fuzzing))]
pub mod fuzz;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use kiln_cache::{Digest, FileIdentity, FsError, Isolation, Object, RecordsMark, Store, codec};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{blob::Blob, host::keep, outside::Outside};

const MAGIC: [u8; 4] = *b"KMEM";
const SIGHT_MAGIC: [u8; 4] = *b"KSEE";
const VERSION: u32 = 1;

/// How the name of the file ends in which it stands when the records were last seen.
const SIGHT: &str = ".seen";

/// How many memos are kept, and how many bytes of them; the least recently used ones go.
const KEPT: usize = 64;
const KEPT_BYTES: u64 = 256 << 20;

/// How many projects are known to have noted the build.
const NOTED: usize = 16;

/// What a build is asked for, apart from what it finds.
#[derive(Debug, Serialize)]
pub struct Question<'a> {
    /// The program that answers: another one may evaluate otherwise.
    pub program: FileIdentity,
    /// The recipe's bytes.
    pub recipe: Digest,
    /// `--set`, in order.
    pub overrides: &'a [(String, String)],
    /// The steps that were named, in order.
    pub steps: &'a [String],
    /// Whether the outputs of every step are asked for.
    pub everything: bool,
}

impl Question<'_> {
    fn digest(&self) -> Digest {
        Digest::of(&codec::encode(MAGIC, VERSION, self))
    }
}

/// What a build came to.
#[derive(Debug, Serialize, Deserialize)]
pub struct Memo {
    /// The recipe's name.
    pub recipe: String,
    /// What was found outside of the store.
    pub outside: Outside,
    /// The weakest isolation among the results.
    pub isolation: Isolation,
    /// The seconds that making the results took, together.
    pub seconds: f64,
    /// What the targets stand for, in their order.
    pub targets: Vec<Target>,
    /// The paths of all sources of the recipe that are paths.
    pub paths: Vec<String>,
    /// The names of the steps in the closure, inputs first, and then of all others: one a line.
    names: String,
    /// The key of each step in the closure, and the checksum of its record: 64 bytes a step.
    records: Blob,
}

/// A step whose outputs are asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Its name.
    pub step: String,
    /// How many outputs it has, existing or not.
    pub declared: u32,
    /// Name and content of those that exist.
    pub outputs: Vec<(String, Object)>,
}

/// A step of the build with its result.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its key.
    pub key: Digest,
    /// Names the record under that key.
    pub checksum: Digest,
}

impl Memo {
    /// A memo without steps; see [`with_steps`](Self::with_steps).
    pub fn new(recipe: &str, outside: Outside) -> Self {
        Self {
            recipe: recipe.to_owned(),
            outside,
            isolation: Isolation::Full,
            seconds: 0.0,
            targets: Vec::new(),
            paths: Vec::new(),
            names: String::new(),
            records: Blob(Vec::new()),
        }
    }

    /// Says which steps the build had, inputs first, and which other ones the recipe has.
    #[must_use]
    pub fn with_steps<'a>(
        mut self,
        steps: impl IntoIterator<Item = Step<'a>>,
        others: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let mut name = |name: &str| {
            self.names.push_str(name);
            self.names.push('\n');
        };
        for step in steps {
            name(step.name);
            self.records.0.extend_from_slice(step.key.as_bytes());
            self.records.0.extend_from_slice(step.checksum.as_bytes());
        }
        others.into_iter().for_each(name);
        self
    }

    /// The number of steps in the build.
    pub fn len(&self) -> usize {
        self.records.0.len() / Self::ROW
    }

    /// Whether the build had no steps.
    pub fn is_empty(&self) -> bool {
        self.records.0.is_empty()
    }

    /// Whether the build was of every step of the recipe.
    pub fn is_whole(&self) -> bool {
        self.names.lines().count() == self.len()
    }

    /// Bytes of a step in `records`.
    const ROW: usize = 64;

    /// The steps of the build, inputs first.
    pub fn steps(&self) -> impl Iterator<Item = Step<'_>> {
        self.names.lines().zip(self.rows()).map(|(name, (key, checksum))| Step {
            name,
            key,
            checksum,
        })
    }

    /// The names of all steps of the recipe.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.lines()
    }

    fn rows(&self) -> impl Iterator<Item = (Digest, Digest)> {
        self.records.0.chunks_exact(Self::ROW).map(row)
    }

    /// Whether each step's record is the one that was seen.
    fn is_in_force(&self, store: &Store, mark: Option<&RecordsMark>) -> Result<bool, FsError> {
        let untouched = mark.map(|mark| store.untouched(mark));
        let doubtful: Vec<(Digest, Digest)> = match &untouched {
            Some(untouched) if untouched.covers_all() => return Ok(true),
            Some(untouched) => self.rows().filter(|(key, _)| !untouched.covers(key)).collect(),
            None => self.rows().collect(),
        };
        let same = |(key, checksum): &(Digest, Digest)| {
            Ok::<bool, FsError>(store.record_checksum(key)? == Some(*checksum))
        };
        let found: Vec<bool> = doubtful.par_iter().map(same).collect::<Result<_, _>>()?;
        Ok(found.into_iter().all(|same| same))
    }
}

fn row(row: &[u8]) -> (Digest, Digest) {
    let digest = |bytes: &[u8]| {
        Digest::from_bytes(bytes.try_into().expect("a row is cut into two halves of 32 bytes"))
    };
    (digest(&row[..32]), digest(&row[32..]))
}

/// When the records of a memo were last seen, and who has noted the build.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sight {
    mark: Option<RecordsMark>,
    /// The roots that say that this is their last build, each with the digest of what it says; latest first.
    noted: Vec<(String, Digest)>,
}

/// The memo that these bytes are, if they are a sound one.
fn memo_of(bytes: &[u8]) -> Option<Memo> {
    let memo: Memo = codec::decode(MAGIC, VERSION, bytes).ok()?;
    let rows = memo.records.0.len().is_multiple_of(Memo::ROW);
    (rows && memo.names.lines().count() >= memo.len()).then_some(memo)
}

fn sight_of(bytes: &[u8]) -> Option<Sight> {
    codec::decode(SIGHT_MAGIC, VERSION, bytes).ok()
}

/// The place of one question's memo in a store.
#[derive(Debug)]
pub struct Slot<'a> {
    store: &'a Store,
    path: PathBuf,
}

/// A memo that was found.
#[derive(Debug)]
pub struct Found {
    /// What it says.
    pub memo: Memo,
    sight: Sight,
}

impl<'a> Slot<'a> {
    /// The slot for this question.
    pub fn new(store: &'a Store, question: &Question<'_>) -> Self {
        let path = store.home().join("memos").join(question.digest().to_string());
        Self { store, path }
    }

    fn sight_path(&self) -> PathBuf {
        self.path.with_extension(&SIGHT[1..])
    }

    /// The memo in this slot, if there is one that can be read.
    pub fn find(&self) -> Option<Found> {
        let memo = memo_of(&fs::read(&self.path).ok()?)?;
        let sight = fs::read(self.sight_path()).ok().and_then(|bytes| sight_of(&bytes));
        Some(Found { memo, sight: sight.unwrap_or_default() })
    }

    /// Whether every record of the memo is in force. A look at each is remembered, so that the next one is cheap.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn is_in_force(&self, found: &mut Found) -> Result<bool, FsError> {
        let mark = found.sight.mark.as_ref();
        if let Some(mark) = mark
            && self.store.untouched(mark).covers_all()
        {
            return Ok(true);
        }
        let fresh = self.store.mark_records()?;
        if !found.memo.is_in_force(self.store, mark)? {
            return Ok(false);
        }
        found.sight.mark = Some(fresh);
        self.keep_sight(&found.sight);
        Ok(true)
    }

    /// Whether the root called `root`, which now reads `digest`, says already that this was its project's last build.
    pub fn is_noted(&self, found: &Found, root: &str, digest: Option<Digest>) -> bool {
        found.sight.noted.iter().any(|(name, noted)| name == root && Some(*noted) == digest)
    }

    /// Remembers that the root called `root`, reading `digest`, says that this was its project's last build.
    pub fn note(&self, found: &mut Found, root: &str, digest: Digest) {
        found.sight.noted.retain(|(name, _)| name != root);
        found.sight.noted.insert(0, (root.to_owned(), digest));
        found.sight.noted.truncate(NOTED);
        self.keep_sight(&found.sight);
    }

    /// Keeps a memo whose records were read after `mark` was taken, and that `root`, reading `digest`, has noted.
    pub fn keep(&self, memo: &Memo, mark: RecordsMark, root: &str, digest: Digest) {
        let Some(folder) = self.path.parent() else { return };
        keep(&self.path, &codec::encode(MAGIC, VERSION, memo));
        self.keep_sight(&Sight { mark: Some(mark), noted: vec![(root.to_owned(), digest)] });
        // What cannot be tidied up now is tidied up next time.
        drop(tidy(folder));
    }

    fn keep_sight(&self, sight: &Sight) {
        keep(&self.sight_path(), &codec::encode(SIGHT_MAGIC, VERSION, sight));
    }
}

/// Removes the memos that were used least recently, so that few enough remain.
fn tidy(folder: &Path) -> io::Result<()> {
    const AN_HOUR: Duration = Duration::from_secs(3600);
    let mut memos = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "aside") {
            // Its writer was killed, unless it is at it right now.
            if entry.metadata()?.modified()?.elapsed().is_ok_and(|age| age > AN_HOUR) {
                fs::remove_file(&path)?;
            }
        } else if path.extension().is_none() {
            let used =
                fs::metadata(path.with_extension(&SIGHT[1..])).or_else(|_| fs::metadata(&path));
            memos.push((used?.modified()?, fs::metadata(&path)?.len(), path));
        }
    }
    memos.sort_by(|a, b| b.cmp(a));
    let mut bytes = 0;
    for (number, (_, size, path)) in memos.into_iter().enumerate() {
        bytes += size;
        if number >= KEPT || (number > 0 && bytes > KEPT_BYTES) {
            fs::remove_file(&path)?;
            let _ = fs::remove_file(path.with_extension(&SIGHT[1..]));
        }
    }
    Ok(())
}
