//! Readers of memos, held to what must be so for any bytes: as `kiln_cache::fuzz` does for the store.

use kiln_cache::codec;
use serde::{Serialize, Serializer, ser::SerializeTuple};

use super::{MAGIC, Memo, SIGHT_MAGIC, VERSION, memo_of, sight_of};

/// Bytes that stand in a frame as they are.
struct Raw<'a>(&'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        self.0.iter().try_for_each(|byte| tuple.serialize_element(byte))?;
        tuple.end()
    }
}

/// A memo's file whose checksum holds, whatever it says.
pub fn memo(payload: &[u8]) {
    let frame = codec::encode(MAGIC, VERSION, &Raw(payload));
    let Some(memo) = memo_of(&frame) else { return };
    assert_eq!(codec::encode(MAGIC, VERSION, &memo), frame, "a memo has one encoding");
    assert_eq!(memo.steps().count(), memo.len(), "each record has a step");
    assert_eq!(memo.is_empty(), memo.records.0.is_empty());
    assert!(memo.names().count() >= memo.len());
    assert_eq!(memo.records.0.len(), memo.len() * Memo::ROW);
}

/// The file beside it, whose checksum holds.
pub fn sight(payload: &[u8]) {
    let frame = codec::encode(SIGHT_MAGIC, VERSION, &Raw(payload));
    if let Some(sight) = sight_of(&frame) {
        assert_eq!(codec::encode(SIGHT_MAGIC, VERSION, &sight), frame, "one encoding");
    }
}

#[cfg(test)]
mod tests {
    use kiln_cache::{Digest, Object, Store};
    use kiln_fuzzing::Fuzz;

    use super::*;
    use crate::{
        memo::{Sight, Step, Target},
        outside::Outside,
    };

    /// What stands between a frame's head and its checksum.
    fn payload(frame: &[u8]) -> Vec<u8> {
        let empty = codec::encode(MAGIC, VERSION, &Raw(&[]));
        let tail = 32;
        let head = empty.len() - tail;
        frame[head..frame.len() - tail].to_vec()
    }

    fn sample() -> Memo {
        let digest = Digest::of(b"x");
        let mut memo = Memo::new("recipe", Outside::sample());
        memo.targets = vec![Target {
            step: "a".into(),
            declared: 1,
            outputs: vec![("out".into(), Object::file(digest))],
        }];
        memo.paths = vec!["data.csv".into()];
        let steps = ["a", "b"].map(|name| Step { name, key: digest, checksum: digest });
        memo.with_steps(steps, ["c"])
    }

    #[test]
    fn no_memo_makes_the_reader_break_its_word() {
        let frame = codec::encode(MAGIC, VERSION, &sample());
        let bare = payload(&frame);
        assert_eq!(codec::encode(MAGIC, VERSION, &Raw(&bare)), frame, "a sound sample");
        assert!(memo_of(&frame).is_some_and(|memo| memo.len() == 2));
        Fuzz::new("memo").samples([bare]).words(["\n", "a\n"]).bytes(memo);
    }

    #[test]
    fn no_sight_makes_the_reader_break_its_word() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(&home.path().join("store")).unwrap();
        let mark = store.mark_records().unwrap();
        let seen = Sight { mark: Some(mark), noted: vec![("root".into(), Digest::of(b"r"))] };
        let frame = codec::encode(SIGHT_MAGIC, VERSION, &seen);
        Fuzz::new("sight").samples([payload(&frame)]).bytes(sight);
    }
}
