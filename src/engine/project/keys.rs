//! The keys of a history as bytes: small, and read in one pass, also for a recipe of very many steps.
//!
//! Unaware of roots, and of what a history means.

use std::collections::{BTreeMap, HashMap};

use kiln_cache::{Digest, codec};
use serde::{Deserialize, Serialize};

use crate::blob::Blob;

const MAGIC: [u8; 4] = *b"KHIS";
const VERSION: u32 = 1;

/// The keys of each step and of each build, and of the build that came to no good end.
pub(super) fn encode(
    steps: &BTreeMap<String, Vec<Digest>>,
    builds: &[Vec<Digest>],
    unfinished: &[Digest],
) -> Vec<u8> {
    codec::encode(MAGIC, VERSION, &Keys::of(steps, builds, unfinished))
}

/// What was encoded; nothing if these bytes are something else.
pub(super) fn decode(bytes: &[u8]) -> Option<Unfolded> {
    codec::decode::<Keys>(MAGIC, VERSION, bytes).ok()?.unfold()
}

/// The keys of a history as they are written: each one once, and everywhere else by its number, since most builds have
/// most keys in common.
#[derive(Serialize, Deserialize)]
struct Keys {
    /// 32 bytes each.
    table: Blob,
    /// The names of the steps, one a line.
    names: String,
    /// For each step the number of its keys and these, as u32.
    chains: Blob,
    /// For each build the same, the last one that came to no good end at the end.
    builds: Blob,
}

/// Steps, builds, and the build that came to no good end.
pub(super) type Unfolded = (BTreeMap<String, Vec<Digest>>, Vec<Vec<Digest>>, Vec<Digest>);

impl Keys {
    fn of(
        steps: &BTreeMap<String, Vec<Digest>>,
        builds: &[Vec<Digest>],
        unfinished: &[Digest],
    ) -> Self {
        let mut numbers: HashMap<Digest, u32> = HashMap::new();
        let mut table = Vec::new();
        let mut fold = |keys: &[Digest], to: &mut Vec<u8>| {
            to.extend_from_slice(&(keys.len() as u32).to_le_bytes());
            for key in keys {
                let next = numbers.len() as u32;
                let number = *numbers.entry(*key).or_insert_with(|| {
                    table.extend_from_slice(key.as_bytes());
                    next
                });
                to.extend_from_slice(&number.to_le_bytes());
            }
        };
        let (mut names, mut chains, mut folded) = (String::new(), Vec::new(), Vec::new());
        for (name, keys) in steps {
            names.push_str(name);
            names.push('\n');
            fold(keys, &mut chains);
        }
        for keys in builds.iter().map(Vec::as_slice).chain([unfinished]) {
            fold(keys, &mut folded);
        }
        Self { table: Blob(table), names, chains: Blob(chains), builds: Blob(folded) }
    }

    /// Nothing if the parts do not fit together.
    fn unfold(&self) -> Option<Unfolded> {
        let (table, rest) = self.table.0.as_chunks::<32>();
        rest.is_empty().then_some(())?;
        let mut chains = lists(table, &self.chains.0);
        let mut steps = BTreeMap::new();
        for name in self.names.lines() {
            steps.insert(name.to_owned(), chains.next()??);
        }
        chains.next().is_none().then_some(())?;
        let mut builds = lists(table, &self.builds.0).collect::<Option<Vec<_>>>()?;
        let unfinished = builds.pop()?;
        Some((steps, builds, unfinished))
    }
}

/// The lists of keys that stand here by number, until one of them is `None`: then the rest is none.
fn lists(table: &[[u8; 32]], folded: &[u8]) -> impl Iterator<Item = Option<Vec<Digest>>> {
    let (words, rest) = folded.as_chunks::<4>();
    let mut left = Some(words).filter(|_| rest.is_empty());
    std::iter::from_fn(move || {
        let words = left?;
        let (count, words) = words.split_first()?;
        let list = words.split_at_checked(u32::from_le_bytes(*count) as usize);
        let Some((own, others)) = list else {
            left = None;
            return Some(None);
        };
        left = Some(others);
        let key = |number: &[u8; 4]| table.get(u32::from_le_bytes(*number) as usize);
        Some(own.iter().map(|number| key(number).map(|key| Digest::from_bytes(*key))).collect())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys() -> impl Strategy<Value = Vec<Digest>> {
        let key = (0u8..20).prop_map(|number| Digest::of(&[number]));
        proptest::collection::vec(key, 0..12)
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(
            steps in proptest::collection::btree_map("[a-z]{1,3}", keys(), 0..8),
            builds in proptest::collection::vec(keys(), 0..6),
            unfinished in keys(),
        ) {
            let bytes = encode(&steps, &builds, &unfinished);
            prop_assert_eq!(decode(&bytes), Some((steps, builds, unfinished)));
        }

        #[test]
        fn parts_that_do_not_fit_together_are_refused(
            table in proptest::collection::vec(any::<u8>(), 0..100),
            chains in proptest::collection::vec(0u8..3, 0..40),
            builds in proptest::collection::vec(0u8..3, 0..40),
        ) {
            let keys = Keys {
                table: Blob(table.clone()),
                names: "a\nb\n".into(),
                chains: Blob(chains),
                builds: Blob(builds),
            };
            // Whatever comes of it, every key is one of the table's.
            for key in keys.unfold().into_iter().flat_map(|(steps, ..)| steps.into_values().flatten()) {
                prop_assert!(table.chunks_exact(32).any(|known| known == key.as_bytes()));
            }
        }
    }

    #[test]
    fn keys_that_builds_have_in_common_are_written_once() {
        let keys: Vec<Digest> = (0..1000u32).map(|n| Digest::of(&n.to_le_bytes())).collect();
        let builds = vec![keys.clone(), keys.clone(), keys.clone(), keys.clone(), keys];
        let bytes = encode(&BTreeMap::new(), &builds, &[]);
        assert!(bytes.len() < 1000 * 32 + 5 * 1000 * 4 + 200, "{}", bytes.len());
    }
}
