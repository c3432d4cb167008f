//! The canonical bytes of a folder's listing: the `Directory` message of the remote execution
//! API, written by hand so that there is one encoding and no other.
//!
//! Fields in ascending order, fields with their default value left out, lists sorted by name; the
//! reader refuses whatever the writer would not have written. Unaware of the disk.

use std::collections::HashMap;

use crate::digest::Digest;
use crate::tree::{Tree, TreeDir, TreeFile, TreeLink};

/// How deep trees may be nested; a stored listing that is deeper was not written by us. Few enough
/// that a walk fits on a thread's stack, whichever thread it is.
pub(crate) const MAX_DEPTH: usize = 128;

/// How many files, folders and links a tree may hold. A few listings that name each other twice over stand for more than
/// any memory holds, so there has to be a bound; no tree that is of use comes near it.
pub(crate) const MAX_ENTRIES: u64 = 1 << 24;

/// Bytes that are no canonical listing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// The message ends inside a field.
    #[error("the listing is cut short")]
    Short,
    /// A field that a listing does not have, or in a place where it may not stand.
    #[error("the listing has an unexpected field (tag {0:#x})")]
    Field(u64),
    /// Another encoding of the same value exists and is the canonical one.
    #[error("the listing is not in its canonical form: {0}")]
    Form(&'static str),
    /// A name that no file may have.
    #[error("the listing names a file `{0}`")]
    Name(String),
    /// A digest that is none.
    #[error("the listing has a digest that is none")]
    Digest,
    /// A folder's own listing is not there.
    #[error("the listing of the folder {0} is missing")]
    Missing(Digest),
    /// More than a tree may hold, once folders that are in it several times are counted as often.
    #[error("the listing stands for more than {MAX_ENTRIES} files, folders and links")]
    Entries,
    /// Folders nested without end.
    #[error("the listing nests folders more than {MAX_DEPTH} deep")]
    Depth,
}

/// A decoded `Directory` whose folders are known by digest only.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    files: Vec<TreeFile>,
    dirs: Vec<(String, Digest, u64)>,
    symlinks: Vec<TreeLink>,
}

impl Tree {
    /// The digest of the folder: that of its canonical listing.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&encode(self))
    }
}

impl TreeDir {
    /// A folder of this name, with the digest of its listing.
    pub(crate) fn new(name: String, tree: Tree) -> Self {
        let listing = encode(&tree);
        Self { name, digest: Digest::of(&listing), listing_bytes: listing.len() as u64, tree }
    }
}

/// The `Directory` message of a folder.
pub(crate) fn encode(tree: &Tree) -> Vec<u8> {
    let mut message = Vec::new();
    for file in &tree.files {
        put_file(&mut message, &file.name, &file.digest, file.bytes, file.executable);
    }
    for dir in &tree.dirs {
        put_dir(&mut message, &dir.name, &dir.digest, dir.listing_bytes);
    }
    for link in &tree.symlinks {
        put_link(&mut message, &link.name, &link.target);
    }
    message
}

fn put_file(out: &mut Vec<u8>, name: &str, digest: &Digest, bytes: u64, executable: bool) {
    let length = text_bytes(name) + digest_bytes(bytes) + if executable { 2 } else { 0 };
    put_head(out, 1, length);
    put_bytes(out, 1, name.as_bytes());
    put_digest(out, digest, bytes);
    if executable {
        put_varint(out, 4 << 3);
        put_varint(out, 1);
    }
}

fn put_dir(out: &mut Vec<u8>, name: &str, digest: &Digest, listing_bytes: u64) {
    put_head(out, 2, text_bytes(name) + digest_bytes(listing_bytes));
    put_bytes(out, 1, name.as_bytes());
    put_digest(out, digest, listing_bytes);
}

fn put_link(out: &mut Vec<u8>, name: &str, target: &str) {
    put_head(out, 3, text_bytes(name) + text_bytes(target));
    put_bytes(out, 1, name.as_bytes());
    put_bytes(out, 2, target.as_bytes());
}

/// The digest of a `Directory` message that is never there as a whole: that of a folder with a million files is a
/// hundred megabytes. Files first, then folders, then links, each sorted by name.
#[derive(Debug, Default)]
pub(crate) struct ListingDigest {
    hasher: blake3::Hasher,
    waiting: Vec<u8>,
    bytes: u64,
}

impl ListingDigest {
    const PIECE: usize = 64 << 10;

    pub(crate) fn file(&mut self, name: &str, digest: &Digest, bytes: u64, executable: bool) {
        put_file(&mut self.waiting, name, digest, bytes, executable);
        self.hash(Self::PIECE);
    }

    pub(crate) fn dir(&mut self, name: &str, digest: &Digest, listing_bytes: u64) {
        put_dir(&mut self.waiting, name, digest, listing_bytes);
        self.hash(Self::PIECE);
    }

    pub(crate) fn link(&mut self, name: &str, target: &str) {
        put_link(&mut self.waiting, name, target);
        self.hash(Self::PIECE);
    }

    fn hash(&mut self, from: usize) {
        if self.waiting.len() >= from {
            self.hasher.update(&self.waiting);
            self.bytes += self.waiting.len() as u64;
            self.waiting.clear();
        }
    }

    /// The digest, and how many bytes the message has.
    pub(crate) fn finish(mut self) -> (Digest, u64) {
        self.hash(0);
        (Digest::from_bytes(*self.hasher.finalize().as_bytes()), self.bytes)
    }
}

/// The `Tree` message of a whole tree: its own `Directory`, then every other one that is in it,
/// each once, in the order in which a walk down the sorted names meets them first.
pub(crate) fn encode_whole(tree: &Tree) -> Vec<u8> {
    let mut message = Vec::new();
    put_bytes(&mut message, 1, &encode(tree));
    let mut seen = std::collections::HashSet::new();
    put_children(&mut message, tree, &mut seen);
    message
}

fn put_children(message: &mut Vec<u8>, tree: &Tree, seen: &mut std::collections::HashSet<Digest>) {
    for dir in &tree.dirs {
        if seen.insert(dir.digest) {
            put_bytes(message, 2, &encode(&dir.tree));
            put_children(message, &dir.tree, seen);
        }
    }
}

/// Reads a `Tree` message and checks it against the digest of the tree that it should be.
pub(crate) fn decode_whole(bytes: &[u8], digest: &Digest) -> Result<Tree, DirectoryError> {
    decode_within(bytes, digest, MAX_ENTRIES)
}

/// The same for a tree of at most so many entries.
pub(crate) fn decode_within(
    bytes: &[u8],
    digest: &Digest,
    room: u64,
) -> Result<Tree, DirectoryError> {
    let mut reader = Reader(bytes);
    let mut listings: HashMap<Digest, &[u8]> = HashMap::new();
    let root = reader.field(1)?.ok_or(DirectoryError::Form("it has no root"))?;
    if Digest::of(root) != *digest {
        return Err(DirectoryError::Form("it is the listing of another tree"));
    }
    while let Some(child) = reader.field(2)? {
        listings.insert(Digest::of(child), child);
    }
    reader.end()?;
    let tree = assemble(root, &listings, 0, &mut { room })?;
    // One encoding and no other: this also finds folders that nobody refers to.
    if encode_whole(&tree) != bytes {
        return Err(DirectoryError::Form("its folders are not in their order"));
    }
    Ok(tree)
}

fn assemble(
    bytes: &[u8],
    listings: &HashMap<Digest, &[u8]>,
    depth: usize,
    room: &mut u64,
) -> Result<Tree, DirectoryError> {
    if depth > MAX_DEPTH {
        return Err(DirectoryError::Depth);
    }
    let listing = decode(bytes)?;
    let entries = listing.files.len() + listing.dirs.len() + listing.symlinks.len();
    *room = room.checked_sub(entries as u64).ok_or(DirectoryError::Entries)?;
    let dirs = listing.dirs.into_iter().map(|(name, digest, listing_bytes)| {
        let child = listings.get(&digest).ok_or(DirectoryError::Missing(digest))?;
        if child.len() as u64 != listing_bytes {
            return Err(DirectoryError::Form("a folder's size is not that of its listing"));
        }
        let tree = assemble(child, listings, depth + 1, room)?;
        Ok(TreeDir { name, digest, listing_bytes, tree })
    });
    Ok(Tree {
        dirs: dirs.collect::<Result<_, _>>()?,
        files: listing.files,
        symlinks: listing.symlinks,
    })
}

/// One folder's listing.
pub(crate) fn decode(bytes: &[u8]) -> Result<Listing, DirectoryError> {
    let mut reader = Reader(bytes);
    let mut listing = Listing::default();
    while let Some(node) = reader.field(1)? {
        listing.files.push(file_node(node)?);
    }
    while let Some(node) = reader.field(2)? {
        listing.dirs.push(dir_node(node)?);
    }
    while let Some(node) = reader.field(3)? {
        listing.symlinks.push(link_node(node)?);
    }
    reader.end()?;
    let files = listing.files.iter().map(|file| file.name.as_str());
    let dirs = listing.dirs.iter().map(|(name, ..)| name.as_str());
    let links = listing.symlinks.iter().map(|link| link.name.as_str());
    if !(files.clone().is_sorted_by(|a, b| a < b)
        && dirs.clone().is_sorted_by(|a, b| a < b)
        && links.clone().is_sorted_by(|a, b| a < b))
    {
        return Err(DirectoryError::Form("its names are not sorted"));
    }
    let mut names: Vec<&str> = files.chain(dirs).chain(links).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(DirectoryError::Form("a name stands twice"));
    }
    Ok(listing)
}

fn file_node(bytes: &[u8]) -> Result<TreeFile, DirectoryError> {
    let mut reader = Reader(bytes);
    let name = reader.name()?;
    let (digest, size) = reader.digest()?;
    let executable = match reader.number(4)? {
        None => false,
        Some(1) => true,
        Some(_) => return Err(DirectoryError::Form("a truth value is not 1")),
    };
    reader.end()?;
    Ok(TreeFile { name, digest, bytes: size, executable })
}

fn dir_node(bytes: &[u8]) -> Result<(String, Digest, u64), DirectoryError> {
    let mut reader = Reader(bytes);
    let name = reader.name()?;
    let (digest, size) = reader.digest()?;
    reader.end()?;
    Ok((name, digest, size))
}

fn link_node(bytes: &[u8]) -> Result<TreeLink, DirectoryError> {
    let mut reader = Reader(bytes);
    let name = reader.name()?;
    let target = reader.text(2)?.filter(|target| !target.is_empty() && !target.contains('\0'));
    let target = target.ok_or(DirectoryError::Form("a link has no target"))?.to_owned();
    reader.end()?;
    Ok(TreeLink { name, target })
}

/// Whether this can be the name of a file in a folder.
pub(crate) fn is_name(name: &str) -> bool {
    !(name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']))
}

/// Bytes of a `Digest` field, its head included.
fn digest_bytes(size: u64) -> u64 {
    2 + inner_digest_bytes(size)
}

fn inner_digest_bytes(size: u64) -> u64 {
    2 + 64 + if size == 0 { 0 } else { 1 + varint_bytes(size) }
}

fn put_digest(out: &mut Vec<u8>, digest: &Digest, size: u64) {
    put_head(out, 2, inner_digest_bytes(size));
    put_bytes(out, 1, &digest.hex());
    if size != 0 {
        put_varint(out, 2 << 3);
        put_varint(out, size);
    }
}

/// Bytes of a text's field, its head included.
fn text_bytes(text: &str) -> u64 {
    let length = text.len() as u64;
    1 + varint_bytes(length) + length
}

fn varint_bytes(value: u64) -> u64 {
    u64::from((64 - (value | 1).leading_zeros()).div_ceil(7))
}

fn put_head(out: &mut Vec<u8>, field: u64, length: u64) {
    put_varint(out, field << 3 | 2);
    put_varint(out, length);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_head(out, field, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads fields in ascending order and nothing else.
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn varint(&mut self) -> Result<u64, DirectoryError> {
        let mut value = 0u64;
        for place in 0..10 {
            let (&byte, rest) = self.0.split_first().ok_or(DirectoryError::Short)?;
            self.0 = rest;
            if place == 9 && byte > 1 {
                return Err(DirectoryError::Form("a number does not fit"));
            }
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                if byte == 0 && place > 0 {
                    return Err(DirectoryError::Form("a number is longer than need be"));
                }
                return Ok(value);
            }
        }
        Err(DirectoryError::Form("a number does not fit"))
    }

    /// Consumes the tag if it comes next.
    fn tag(&mut self, tag: u64) -> Result<bool, DirectoryError> {
        if self.0.is_empty() {
            return Ok(false);
        }
        let mut ahead = Reader(self.0);
        let found = ahead.varint()? == tag;
        if found {
            self.0 = ahead.0;
        }
        Ok(found)
    }

    fn field(&mut self, field: u64) -> Result<Option<&'b [u8]>, DirectoryError> {
        if !self.tag(field << 3 | 2)? {
            return Ok(None);
        }
        let length = usize::try_from(self.varint()?).map_err(|_| DirectoryError::Short)?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(DirectoryError::Short)?;
        self.0 = rest;
        Ok(Some(bytes))
    }

    fn number(&mut self, field: u64) -> Result<Option<u64>, DirectoryError> {
        if self.tag(field << 3)? { self.varint().map(Some) } else { Ok(None) }
    }

    fn text(&mut self, field: u64) -> Result<Option<&'b str>, DirectoryError> {
        let Some(bytes) = self.field(field)? else { return Ok(None) };
        std::str::from_utf8(bytes)
            .map(Some)
            .map_err(|_| DirectoryError::Form("a text is not UTF-8"))
    }

    fn name(&mut self) -> Result<String, DirectoryError> {
        let name = self.text(1)?.unwrap_or_default();
        if is_name(name) { Ok(name.to_owned()) } else { Err(DirectoryError::Name(name.to_owned())) }
    }

    fn digest(&mut self) -> Result<(Digest, u64), DirectoryError> {
        let mut inner = Reader(self.field(2)?.ok_or(DirectoryError::Digest)?);
        let hash = inner.text(1)?.ok_or(DirectoryError::Digest)?;
        let digest = hash.parse().map_err(|_| DirectoryError::Digest)?;
        let size = inner.number(2)?;
        if size == Some(0) {
            return Err(DirectoryError::Form("a size of 0 is written out"));
        }
        if size.is_some_and(|size| i64::try_from(size).is_err()) {
            return Err(DirectoryError::Form("a size is negative"));
        }
        inner.end()?;
        Ok((digest, size.unwrap_or(0)))
    }

    fn end(&mut self) -> Result<(), DirectoryError> {
        if self.0.is_empty() { Ok(()) } else { Err(DirectoryError::Field(self.varint()?)) }
    }
}

/// Parts of messages, for fuzz tests.
#[cfg(any(test, fuzzing))]
mod parts {
    use super::*;

    impl Listing {
        /// The message that it was read from.
        pub(crate) fn encode(self) -> Vec<u8> {
            let dirs = self.dirs.into_iter().map(|(name, digest, listing_bytes)| TreeDir {
                name,
                digest,
                listing_bytes,
                tree: Tree::default(),
            });
            encode(&Tree { files: self.files, dirs: dirs.collect(), symlinks: self.symlinks })
        }
    }

    /// The `Tree` message with these listings, the top's first.
    #[cfg(test)]
    pub(crate) fn join(listings: &[Vec<u8>]) -> Vec<u8> {
        let mut message = Vec::new();
        for (number, listing) in listings.iter().enumerate() {
            put_bytes(&mut message, if number == 0 { 1 } else { 2 }, listing);
        }
        message
    }

    /// What the `Tree` message says to be the digest of its top.
    pub(crate) fn root_of(bytes: &[u8]) -> Option<Digest> {
        Reader(bytes).field(1).ok().flatten().map(Digest::of)
    }
}
#[cfg(test)]
pub(crate) use parts::join;
#[cfg(any(test, fuzzing))]
pub(crate) use parts::root_of;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Tree {
        let inner = Tree {
            files: vec![TreeFile {
                name: "run".into(),
                digest: Digest::of(b"abc"),
                bytes: 3,
                executable: true,
            }],
            ..Tree::default()
        };
        Tree {
            files: vec![TreeFile {
                name: "a".into(),
                digest: Digest::of(b""),
                bytes: 0,
                executable: false,
            }],
            dirs: vec![TreeDir::new("bin".into(), inner)],
            symlinks: vec![TreeLink { name: "l".into(), target: "bin/run".into() }],
        }
    }

    #[test]
    fn golden_bytes() {
        let empty = Digest::of(b"").to_string();
        let mut file = b"\x0a\x01a\x12\x42\x0a\x40".to_vec();
        file.extend_from_slice(empty.as_bytes());
        let tree = Tree { dirs: vec![], symlinks: vec![], ..sample() };
        let mut message = vec![0x0a, file.len() as u8];
        message.extend_from_slice(&file);
        assert_eq!(encode(&tree), message);
        assert_eq!(encode(&Tree::default()), b"");
        assert_eq!(
            sample().digest().to_string(),
            "debaa31036b2879b4a664b89995f5061b83adc9661b96b1cdb1c58aed5db24b1"
        );
    }

    #[test]
    fn a_digest_in_pieces_is_that_of_the_message() {
        let mut tree = sample();
        let lengths = [0, 1, 127, 128, 16_383, 16_384, i64::MAX as u64];
        for (number, bytes) in lengths.into_iter().cycle().take(3_000).enumerate() {
            let name = format!("b{number:05}{}", "x".repeat(number % 200));
            let digest = Digest::of(&number.to_le_bytes());
            tree.files.push(TreeFile { name, digest, bytes, executable: number % 3 == 0 });
        }
        let mut pieces = ListingDigest::default();
        for file in &tree.files {
            pieces.file(&file.name, &file.digest, file.bytes, file.executable);
        }
        for dir in &tree.dirs {
            pieces.dir(&dir.name, &dir.digest, dir.listing_bytes);
        }
        for link in &tree.symlinks {
            pieces.link(&link.name, &link.target);
        }
        let message = encode(&tree);
        assert!(message.len() > 2 * ListingDigest::PIECE);
        assert_eq!(pieces.finish(), (Digest::of(&message), message.len() as u64));
        assert!(decode(&message).is_ok());
    }

    #[test]
    fn a_whole_tree_round_trips() {
        let tree = sample();
        let digest = tree.digest();
        assert_eq!(decode_whole(&encode_whole(&tree), &digest).unwrap(), tree);
        assert!(decode_whole(&encode_whole(&tree), &Digest::of(b"other")).is_err());
    }

    /// A message of `depth` folders, each of which holds the next one twice.
    fn doubled(depth: usize) -> (Vec<u8>, Digest) {
        let mut listings = vec![Vec::new()];
        for _ in 0..depth {
            let below: &Vec<u8> = &listings[0];
            let dir = |name: &str| TreeDir {
                name: name.into(),
                digest: Digest::of(below),
                listing_bytes: below.len() as u64,
                tree: Tree::default(),
            };
            let listing = encode(&Tree { dirs: vec![dir("a"), dir("b")], ..Tree::default() });
            listings.insert(0, listing);
        }
        (join(&listings), Digest::of(&listings[0]))
    }

    #[test]
    fn a_short_listing_that_stands_for_a_huge_tree_is_refused() {
        let (small, digest) = doubled(10);
        let tree = decode_within(&small, &digest, 2046).unwrap();
        assert_eq!(tree.entry_count(), 2046);
        assert_eq!(decode_within(&small, &digest, 2045), Err(DirectoryError::Entries));
        let (huge, digest) = doubled(120);
        assert_eq!(decode_within(&huge, &digest, 1000), Err(DirectoryError::Entries));
    }

    #[test]
    fn other_encodings_of_the_same_folder_are_refused() {
        for bytes in [
            &b"\x0a\x00"[..],                                        // a file without a name
            b"\x1a\x06\x0a\x01a\x12\x01b\x00",                       // bytes after the last field
            b"\x1a\x86\x00\x0a\x01a\x12\x01b", // a length with a superfluous byte
            b"\x1a\x07\x0a\x02..\x12\x01b",    // the folder above
            b"\x1a\x06\x0a\x01b\x12\x01x\x1a\x06\x0a\x01a\x12\x01x", // not sorted
            b"\x1a\x06\x0a\x01a\x12\x01x\x1a\x06\x0a\x01a\x12\x01x", // twice
            b"\x2a\x00",                       // node properties
            b"\x1a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", // longer than can be
        ] {
            assert!(decode(bytes).is_err(), "{bytes:02x?}");
        }
        assert!(decode(b"\x1a\x06\x0a\x01a\x12\x01b").is_ok());
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_noticed(at in 0usize..400, flip in 1u8..=255) {
            let tree = sample();
            let mut bytes = encode_whole(&tree);
            let at = at % bytes.len();
            bytes[at] ^= flip;
            prop_assert!(decode_whole(&bytes, &tree.digest()).is_err());
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(listing) = decode(&bytes) {
                prop_assert!(listing.files.len() < 200);
            }
        }
    }
}
