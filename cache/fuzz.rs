//! Readers of bytes that others may have written, each held to what must be so for any bytes.
//!
//! Each function takes any input and panics where a reader breaks its word: what it accepts has one encoding, and
//! nothing makes it panic, hang, or allocate beyond its input. The tests call them with random changes of sound
//! samples; the targets in `tests/fuzz` call them from libFuzzer.

use crate::codec;
use crate::digest::Digest;
use crate::directory;
use crate::look::{Look, Sort};
use crate::object::Object;
use crate::realisation::{MAGIC, Realisation, VERSION};
use crate::roots;
use crate::stat_cache::{self, Row};
use crate::tombstone;

/// A frame as it lies on disk.
pub fn frame(bytes: &[u8]) {
    if let Ok(read) = Realisation::decode(bytes) {
        assert_eq!(read.encode(), bytes, "a record has one encoding");
        let objects = read.objects().map(|object| object.to_string().parse());
        assert!(objects.eq(read.objects().map(Ok)), "an object has one name");
    }
}

/// A record whose frame's checksum holds, whatever its payload is.
pub fn record(payload: &[u8]) {
    frame(&codec::sealed(MAGIC, VERSION, payload));
}

/// One folder's listing.
pub fn listing(bytes: &[u8]) {
    if let Ok(listing) = directory::decode(bytes) {
        assert_eq!(listing.encode(), bytes, "a listing has one encoding");
    }
}

/// The listing of a whole tree; its digest is that of its own first field, so that it is no obstacle.
pub fn tree(bytes: &[u8]) {
    let digest = directory::root_of(bytes).unwrap_or(Digest::of(b""));
    if let Ok(tree) = directory::decode_whole(bytes, &digest) {
        assert_eq!(tree.digest(), digest);
        assert_eq!(directory::encode_whole(&tree), bytes, "a tree has one encoding");
        assert!(tree.walk().len() as u64 == tree.file_count());
        let _ = (tree.bytes(), tree.escaping_link());
    }
}

/// A root's file.
pub fn root(bytes: &[u8]) {
    if let Ok(root) = roots::decode(std::path::Path::new("root"), bytes) {
        let again = roots::decode(std::path::Path::new("root"), &roots::encode(&root));
        assert_eq!(again.expect("what was written is read"), root);
    }
}

/// A file of tombstones whose checksum holds.
pub fn tombstones(payload: &[u8]) {
    let bytes = codec::sealed(tombstone::MAGIC, tombstone::VERSION, payload);
    let read = tombstone::decode(&bytes);
    assert_eq!(tombstone::decode(&tombstone::encode(&read)), read);
}

/// A row of the stat cache whose frame's checksum holds: it is believed of the file alone that it tells, and of that only
/// if the file's times were settled.
pub fn stat_row(payload: &[u8]) {
    let frame = codec::sealed(stat_cache::MAGIC, stat_cache::VERSION, payload);
    let Ok(row) = codec::decode::<Row>(stat_cache::MAGIC, stat_cache::VERSION, &frame) else {
        return;
    };
    let again = codec::encode(stat_cache::MAGIC, stat_cache::VERSION, &row);
    assert_eq!(again, frame, "a row has one encoding");
    let mut look = Look { sort: Sort::File, identity: row.identity, executable: true };
    let settled = row.identity.settled_before(row.taken_ns, row.margin_ns);
    let found = stat_cache::read(&frame, &look);
    assert_eq!(found.map(|found| found.digest), settled.then_some(row.digest));
    look.identity.ino = look.identity.ino.wrapping_add(1);
    assert!(stat_cache::read(&frame, &look).is_none(), "that is another file");
}

/// Names of objects and digests.
pub fn names(text: &str) {
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text, "a digest has one name");
    }
    if let Ok(object) = text.parse::<Object>() {
        assert_eq!(object.to_string(), text, "an object has one name");
    }
}

#[cfg(test)]
mod tests {
    use kiln_fuzzing::{Fuzz, Unstructured, arbitrary};

    use super::*;
    use crate::directory::DirectoryError;
    use crate::item::Item;
    use crate::look::FileIdentity;
    use crate::realisation::{Cost, Determinism, Isolation, Output, Verdict};
    use crate::roots::Root;
    use crate::tombstone::Cause;
    use crate::tree::{Tree, TreeDir, TreeFile, TreeLink};

    fn digest(u: &mut Unstructured<'_>) -> arbitrary::Result<Digest> {
        u.arbitrary().map(Digest::from_bytes)
    }

    fn object(u: &mut Unstructured<'_>) -> arbitrary::Result<Object> {
        let digest = digest(u)?;
        Ok(*u.choose(&[Object::file(digest), Object::program(digest), Object::tree(digest)])?)
    }

    fn list<T>(
        u: &mut Unstructured<'_>,
        most: usize,
        one: impl Fn(&mut Unstructured<'_>) -> arbitrary::Result<T>,
    ) -> arbitrary::Result<Vec<T>> {
        (0..u.int_in_range(0..=most)?).map(|_| one(u)).collect()
    }

    fn option<T>(
        u: &mut Unstructured<'_>,
        one: impl Fn(&mut Unstructured<'_>) -> arbitrary::Result<T>,
    ) -> arbitrary::Result<Option<T>> {
        if u.arbitrary()? { one(u).map(Some) } else { Ok(None) }
    }

    fn realisation(u: &mut Unstructured<'_>) -> arbitrary::Result<Realisation> {
        Ok(Realisation {
            key: digest(u)?,
            attempt: u.arbitrary()?,
            recipe: u.arbitrary()?,
            step: u.arbitrary()?,
            builder: u.arbitrary()?,
            outputs: list(u, 4, |u| {
                Ok(Output {
                    name: u.arbitrary()?,
                    object: object(u)?,
                    bytes: u.arbitrary()?,
                    extension: u.arbitrary()?,
                    alias: u.arbitrary()?,
                })
            })?,
            verdict: option(u, |u| {
                Ok(Verdict { accepted: u.arbitrary()?, reason: u.arbitrary()? })
            })?,
            isolation: *u.choose(&[Isolation::Off, Isolation::Partial, Isolation::Full])?,
            determinism: *u.choose(&[Determinism::Bitwise, Determinism::None])?,
            manifest: u.arbitrary()?,
            log: option(u, object)?,
            refs: list(u, 4, object)?,
            cost: Cost {
                started_ms: u.arbitrary()?,
                seconds: u.arbitrary()?,
                cpu_seconds: u.arbitrary()?,
                peak_memory: u.arbitrary()?,
                input_bytes: u.arbitrary()?,
                output_bytes: u.arbitrary()?,
            },
            boot: u.arbitrary()?,
            group: u.arbitrary()?,
        })
    }

    /// A tree with distinct names and links that lead anywhere.
    fn any_tree(u: &mut Unstructured<'_>, depth: usize) -> arbitrary::Result<Tree> {
        let mut names = std::collections::BTreeSet::new();
        let mut tree = Tree::default();
        for _ in 0..u.int_in_range(0..=5)? {
            let name = *u.choose(&["a", "b", "é", "x.y", " ", "\n", "...", "zz", "\u{1F600}"])?;
            if !names.insert(name) {
                continue;
            }
            let name = name.to_owned();
            match u.int_in_range(0..=2u8)? {
                0 => tree.files.push(TreeFile {
                    name,
                    digest: digest(u)?,
                    bytes: u.int_in_range(0..=i64::MAX as u64)?,
                    executable: u.arbitrary()?,
                }),
                1 if depth < 6 => {
                    tree.dirs.push(TreeDir::new(name, any_tree(u, depth + 1)?));
                }
                _ => {
                    let target = *u.choose(&["a", "..", "../b", "a/../../x", "/etc", "é/zz/."])?;
                    tree.symlinks.push(TreeLink { name, target: target.to_owned() });
                }
            }
        }
        tree.files.sort_by(|a, b| a.name.cmp(&b.name));
        tree.dirs.sort_by(|a, b| a.name.cmp(&b.name));
        tree.symlinks.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tree)
    }

    /// Values made from fixed seeds, as samples.
    fn made<T>(
        make: impl Fn(&mut Unstructured<'_>) -> arbitrary::Result<T>,
        encode: impl Fn(&T) -> Vec<u8>,
    ) -> Vec<Vec<u8>> {
        (0..12u8)
            .filter_map(|seed| {
                let mut random = blake3::Hasher::new().update(&[seed]).finalize_xof();
                let mut bytes = vec![0; 1500];
                random.fill(&mut bytes);
                make(&mut Unstructured::new(&bytes)).ok()
            })
            .map(|value| encode(&value))
            .collect()
    }

    fn payload(frame: &[u8]) -> Vec<u8> {
        frame[16..frame.len() - 32].to_vec()
    }

    #[test]
    fn no_frame_makes_the_reader_break_its_word() {
        Fuzz::new("frame").samples(made(realisation, Realisation::encode)).bytes(frame);
    }

    #[test]
    fn no_payload_of_a_record_makes_the_reader_break_its_word() {
        let samples = made(realisation, |value| payload(&value.encode()));
        Fuzz::new("record").samples(samples).bytes(record);
    }

    #[test]
    fn every_record_comes_back_from_its_frame() {
        Fuzz::new("record round trip").values(
            realisation,
            |value| value.encode().len(),
            |value| {
                let frame = value.encode();
                let read = Realisation::decode(&frame).expect("what was written is read");
                // NaN is not itself, its bytes are.
                assert_eq!(read.encode(), frame);
                let finite = value.cost.seconds.is_finite() && value.cost.cpu_seconds.is_finite();
                if finite {
                    assert_eq!(read, *value);
                    let json = serde_json::to_string(value).expect("a record serialises");
                    assert_eq!(
                        serde_json::from_str::<Realisation>(&json).expect("and back"),
                        *value
                    );
                }
            },
        );
    }

    #[test]
    fn no_listing_makes_the_reader_break_its_word() {
        let samples = made(|u| any_tree(u, 0), directory::encode);
        Fuzz::new("listing").samples(samples).bytes(listing);
    }

    #[test]
    fn no_tree_makes_the_reader_break_its_word() {
        let samples = made(|u| any_tree(u, 0), directory::encode_whole);
        Fuzz::new("tree").samples(samples).bytes(tree);
    }

    #[test]
    fn every_tree_comes_back_from_its_listing() {
        let size = |tree: &Tree| directory::encode_whole(tree).len();
        Fuzz::new("tree round trip").values(
            |u| any_tree(u, 0),
            size,
            |tree| {
                let bytes = directory::encode_whole(tree);
                let read = directory::decode_whole(&bytes, &tree.digest());
                assert_eq!(read.as_ref().expect("what was written is read"), tree);
                super::tree(&bytes);
            },
        );
    }

    /// Folders that hold each other twice over: a short message that unfolds to a huge tree.
    #[test]
    fn trees_that_share_folders_are_unfolded_within_bounds() {
        let listings = |u: &mut Unstructured<'_>| -> arbitrary::Result<Vec<u8>> {
            let mut layers: Vec<Vec<u8>> = vec![Vec::new()];
            for _ in 0..u.int_in_range(0..=140)? {
                let mut layer = Vec::new();
                for name in ["a", "b", "c"].iter().take(u.int_in_range(1..=3)?) {
                    let below = layers.last().expect("there is a first");
                    let dir = TreeDir {
                        name: (*name).to_owned(),
                        digest: Digest::of(below),
                        listing_bytes: below.len() as u64,
                        tree: Tree::default(),
                    };
                    layer.push(dir);
                }
                layers.push(directory::encode(&Tree { dirs: layer, ..Tree::default() }));
            }
            layers.reverse();
            Ok(directory::join(&layers))
        };
        // Much less than what there may be, so that a test does not take gigabytes.
        Fuzz::new("shared folders").memory(64, 8 << 20).values(listings, Vec::len, |bytes| {
            let digest = directory::root_of(bytes).expect("it has a root");
            match directory::decode_within(bytes, &digest, 1 << 12) {
                Ok(tree) => assert_eq!(directory::encode_whole(&tree), *bytes),
                Err(error) => {
                    assert!(matches!(error, DirectoryError::Entries | DirectoryError::Depth))
                }
            }
        });
    }

    #[test]
    fn no_tombstones_make_the_reader_break_its_word() {
        let graves =
            [Item::Realisation(Digest::of(b"k")), Item::Object(Object::tree(Digest::of(b"o")))]
                .map(|item| tombstone::Tombstone { item, at: 1_700_000_000, cause: Cause::Unheld });
        let sample = payload(&tombstone::encode(&graves));
        Fuzz::new("tombstones").samples([sample]).bytes(tombstones);
    }

    #[test]
    fn no_root_makes_the_reader_break_its_word() {
        let sample = roots::encode(&Root {
            label: "last build of tumour".into(),
            keys: vec![Digest::of(b"k")],
            objects: vec![Object::program(Digest::of(b"o"))],
            data: serde_json::json!({"a": [1, 2.5, null, true, "x"]}),
            bytes: b"of its owner's".to_vec(),
            at: 1_700_000_000,
        });
        let deep = format!(
            "{{\"format\":1,\"root\":{{\"label\":\"\",\"at\":0,\"data\":{}",
            "[".repeat(500)
        );
        // Without its checksum, so that changes get as far as the reader.
        let bare =
            r#"{"format": 1, "root": {"label": "x", "keys": [], "data": {"a": 1.5}, "at": 7}}"#;
        Fuzz::new("root")
            .samples([&sample[..], deep.as_bytes(), bare.as_bytes()])
            .words(JSON)
            .bytes(root);
    }

    #[test]
    fn no_row_of_the_stat_cache_makes_the_reader_break_its_word() {
        let rows = [0, 1_700_000_000_000_000_000].map(|time| {
            let identity = FileIdentity { dev: 1, ino: 2, size: 3, mtime_ns: time, ctime_ns: time };
            let row = Row {
                identity,
                taken_ns: time.saturating_mul(2),
                margin_ns: 20_000_000,
                digest: Digest::of(b"x"),
            };
            payload(&codec::encode(stat_cache::MAGIC, stat_cache::VERSION, &row))
        });
        let extremes = [i64::MIN, -1, i64::MAX].map(i64::to_le_bytes);
        Fuzz::new("stat row").samples(rows).words(extremes).bytes(stat_row);
    }

    #[test]
    fn no_text_makes_the_readers_of_names_break_their_word() {
        let digest = Digest::of(b"x");
        let samples = [format!("file:{digest}+x"), format!("tree:{digest}"), digest.to_string()];
        Fuzz::new("names").samples(samples).words(["file:", "tree:", "+x", "é", "A"]).texts(names);
    }

    const JSON: [&str; 14] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "null",
        "1e999",
        "\"\\ud800\"",
        "\"",
        "\\",
        "-0",
        "1e-400",
        "true",
    ];

    #[test]
    fn the_samples_are_sound() {
        let frames = made(realisation, Realisation::encode);
        assert!(frames.len() > 3 && frames.iter().all(|frame| Realisation::decode(frame).is_ok()));
    }
}
