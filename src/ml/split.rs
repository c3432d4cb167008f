//! The builder `split`: cuts a table into parts, stratified by a label, the same way every time.
//!
//! Within each class (all rows, without a label) rows are ranked by a keyed BLAKE3 hash of their
//! cells, and the ranking is cut at the ratios. A row's rank depends on the seed and on what the row
//! says, not on where it stands; a further row therefore shifts each cut by at most one place, and
//! every other row stays in its part.
//!
//! The hash's key is derived from the seed; it covers each cell as length and text, then how many
//! equal rows came before, so that duplicates rank apart. The parts follow each other in the order
//! of their names; of a class of `n` rows, the part that ends at the share `s` (the sum of the
//! ratios up to it) ends at place `⌊s·n + ½⌋`, the last at `n`. That keeps each part within one row
//! of its ratio. (Largest remainders would too, but there a further row can make a part shrink.)
//!
//! Each part is a CSV file: the header, then the part's records, byte for byte as the input has
//! them and in its order, one a line, lines ending in `\n`.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::PathBuf;

use serde::Deserialize;

use crate::output::{self, OutputError};
use crate::request::{Input, KindError};
use crate::table::{Table, TableError, shortened};

/// The semantic version: a change of any output byte raises it.
pub const VERSION: u32 = 1;

/// The context from which the hash's key is derived, together with the seed.
const KEY_CONTEXT: &str = "kiln split 1: rank of a row by its content";

/// What `split` is told.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Args {
    /// The table, a CSV file.
    pub data: Input,
    /// The column whose values are the classes; without it all rows are one class.
    pub label: Option<String>,
    /// The parts by name, each with its share of every class. The shares add up to 1.
    pub ratios: BTreeMap<String, f64>,
    /// Another seed is another split.
    pub seed: u64,
}

/// Why a table could not be split.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The input is of the wrong kind.
    #[error(transparent)]
    Kind(#[from] KindError),
    /// The data is no table, or lacks the label's column.
    #[error("cannot split `data`")]
    Data(#[from] TableError),
    /// There are no parts.
    #[error(
        "`ratios` names no parts; help: write for instance {{ train = 0.7, valid = 0.15, test = 0.15 }}"
    )]
    NoParts,
    /// A ratio is no share.
    #[error(
        "the ratio of `{name}` is {ratio}; help: a ratio is greater than 0, and all add up to 1"
    )]
    Ratio {
        /// The part.
        name: String,
        /// Its ratio.
        ratio: f64,
    },
    /// The ratios miss 1.
    #[error("the ratios add up to {sum}, not to 1; help: {advice}")]
    Sum {
        /// What they add up to.
        sum: f64,
        /// What the last one would have to be.
        advice: String,
    },
    /// The table has no rows.
    #[error("`data` has a header but no rows; help: look at the step or file that it comes from")]
    NoRows,
    /// A part would get nothing.
    #[error(
        "`{name}` would be empty: {ratio} of {rows} rows in {classes} classes rounds to none; help: use more data or a greater ratio"
    )]
    EmptyPart {
        /// The part.
        name: String,
        /// Its ratio.
        ratio: f64,
        /// How many rows there are.
        rows: usize,
        /// How many classes they fall into.
        classes: usize,
    },
    /// A part cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The log cannot be written.
    #[error("cannot write the log")]
    Log(#[source] std::io::Error),
}

/// Splits; each part of `ratios` is an output of that name.
///
/// # Errors
/// When the ratios are no shares that add up to 1, the data is no table or has no such label, or a
/// part would be empty.
pub fn run(
    args: &Args,
    outputs: &BTreeMap<String, PathBuf>,
    log: &mut dyn Write,
) -> Result<(), Error> {
    let shares = cumulative(&args.ratios)?;
    if let Some(name) = outputs.keys().find(|name| !args.ratios.contains_key(*name)) {
        return Err(OutputError::Unexpected(name.clone()).into());
    }
    let table = Table::read_csv(args.data.file("data")?)?;
    let label = args.label.as_deref().map(|name| table.column(name)).transpose()?;
    if table.rows() == 0 {
        return Err(Error::NoRows);
    }
    let classes = classes(&table, label);
    let parts = assign(&table, &classes, &shares, args.seed);

    for (part, (name, &ratio)) in args.ratios.iter().enumerate() {
        let rows: Vec<usize> = (0..table.rows()).filter(|&row| parts[row] == part).collect();
        if rows.is_empty() {
            let (rows, classes) = (table.rows(), classes.len());
            return Err(Error::EmptyPart { name: name.clone(), ratio, rows, classes });
        }
        output::write(output::place(outputs, name)?, csv(&table, &rows))?;
        let counts: Vec<String> = classes
            .iter()
            .filter(|(class, _)| label.is_some() || !class.is_empty())
            .map(|(class, members)| {
                let count = members.iter().filter(|&&row| parts[row] == part).count();
                format!("{} {count}", shortened(class))
            })
            .collect();
        let counts =
            if counts.is_empty() { String::new() } else { format!(" ({})", counts.join(", ")) };
        writeln!(log, "{name}: {} rows{counts}", rows.len()).map_err(Error::Log)?;
    }
    Ok(())
}

/// Where each part ends, as a share of a class, in the order of the parts' names.
fn cumulative(ratios: &BTreeMap<String, f64>) -> Result<Vec<f64>, Error> {
    /// How far from 1 the sum of ratios may be, so that 0.7 + 0.15 + 0.15 passes.
    const TOLERANCE: f64 = 1e-9;
    let mut sum = 0.0;
    let mut shares = Vec::with_capacity(ratios.len());
    for (name, &ratio) in ratios {
        // Written so that NaN is refused too.
        if !(ratio > 0.0 && ratio <= 1.0) {
            return Err(Error::Ratio { name: name.clone(), ratio });
        }
        sum += ratio;
        shares.push(sum);
    }
    let Some((last, ratio)) = ratios.last_key_value() else { return Err(Error::NoParts) };
    if (sum - 1.0_f64).abs() > TOLERANCE {
        let fit = ((1.0 - (sum - ratio)) * 1e9).round() / 1e9;
        let advice = if fit > 0.0 {
            format!("with `{last}` at {fit} they would")
        } else {
            "make them smaller".to_owned()
        };
        return Err(Error::Sum { sum, advice });
    }
    Ok(shares)
}

/// The rows of each class, in the order of the file.
fn classes(table: &Table, label: Option<usize>) -> BTreeMap<&str, Vec<usize>> {
    let mut classes: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for row in 0..table.rows() {
        let class = label.map_or("", |column| table.text(row, column));
        classes.entry(class).or_default().push(row);
    }
    classes
}

/// The part of each row.
fn assign(
    table: &Table,
    classes: &BTreeMap<&str, Vec<usize>>,
    shares: &[f64],
    seed: u64,
) -> Vec<usize> {
    let ranks = hashes(table, seed);
    let mut parts = vec![0; table.rows()];
    for members in classes.values() {
        let mut ranked = members.clone();
        // The row breaks ties, which two different rows only reach if BLAKE3 is broken.
        ranked.sort_by_key(|&row| (ranks[row], row));
        let mut start = 0;
        for (part, &share) in shares.iter().enumerate() {
            let last = part + 1 == shares.len();
            let end = if last { ranked.len() } else { cut(share, ranked.len()) };
            for &row in &ranked[start..end] {
                parts[row] = part;
            }
            start = end;
        }
    }
    parts
}

/// The place at which a part ends that reaches up to `share` of `count` rows.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the share is between 0 and 1, the count below 2^53"
)]
fn cut(share: f64, count: usize) -> usize {
    // A sum of ratios may pass 1 by the tolerance, but never the last row.
    ((share * count as f64 + 0.5).floor() as usize).min(count)
}

/// The hash of each row by which it is ranked.
fn hashes(table: &Table, seed: u64) -> Vec<[u8; 32]> {
    let key = blake3::derive_key(KEY_CONTEXT, &seed.to_le_bytes());
    let mut before: HashMap<[u8; 32], u64> = HashMap::new();
    let rows = (0..table.rows()).map(|row| {
        let mut hasher = blake3::Hasher::new_keyed(&key);
        for column in 0..table.columns().len() {
            let cell = table.text(row, column);
            hasher.update(&(cell.len() as u64).to_le_bytes());
            hasher.update(cell.as_bytes());
        }
        let equal = before.entry(*hasher.finalize().as_bytes()).or_insert(0);
        hasher.update(&equal.to_le_bytes());
        *equal += 1;
        *hasher.finalize().as_bytes()
    });
    rows.collect()
}

/// A CSV file of the header and some rows, with their bytes as they are.
fn csv(table: &Table, rows: &[usize]) -> Vec<u8> {
    let mut bytes = table.raw_header().to_vec();
    bytes.push(b'\n');
    for &row in rows {
        bytes.extend_from_slice(table.raw(row));
        bytes.push(b'\n');
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture;

    fn ratios(pairs: &[(&str, f64)]) -> BTreeMap<String, f64> {
        pairs.iter().map(|(name, ratio)| ((*name).to_owned(), *ratio)).collect()
    }

    const USUAL: [(&str, f64); 3] = [("train", 0.7), ("valid", 0.15), ("test", 0.15)];

    /// The parts' bytes by name.
    fn split(
        data: &str,
        label: Option<&str>,
        parts: &[(&str, f64)],
        seed: u64,
    ) -> Result<BTreeMap<String, String>, Error> {
        let folder = tempfile::tempdir().unwrap();
        let args = Args {
            data: fixture::file(folder.path(), "data.csv", data),
            label: label.map(str::to_owned),
            ratios: ratios(parts),
            seed,
        };
        let outputs: BTreeMap<String, PathBuf> =
            parts.iter().map(|(name, _)| ((*name).to_owned(), folder.path().join(name))).collect();
        run(&args, &outputs, &mut std::io::sink())?;
        let read = |(name, path): (String, PathBuf)| (name, std::fs::read_to_string(path).unwrap());
        Ok(outputs.into_iter().map(read).collect())
    }

    /// A table of `count` different rows in two classes.
    fn numbered(count: usize) -> String {
        let rows = (0..count).map(|n| format!("{n},{}\n", if n % 3 == 0 { "a" } else { "b" }));
        format!("n,class\n{}", rows.collect::<String>())
    }

    #[test]
    fn parts_keep_the_records_bytes_and_order() {
        let data = "n,class\r\n\"1\",a\r\n2,\"x\ny\"\r\n\r\n3,a\r\n4,a";
        let parts = split(data, None, &[("one", 0.5), ("two", 0.5)], 7).unwrap();
        let mut records: Vec<&str> = Vec::new();
        for part in parts.values() {
            let body = part.strip_prefix("n,class\n").unwrap();
            assert!(body.ends_with('\n'));
            let found = ["\"1\",a\n", "2,\"x\ny\"\n", "3,a\n", "4,a\n"];
            let found: Vec<&str> = found.into_iter().filter(|row| body.contains(row)).collect();
            assert_eq!(found.concat(), body, "order and bytes are those of the file");
            records.extend(found);
        }
        assert_eq!(records.len(), 4);
    }

    #[test]
    fn where_a_row_stands_does_not_decide_its_part() {
        let data = numbered(200);
        let mut reversed: Vec<&str> = data.lines().skip(1).collect();
        reversed.reverse();
        let reversed = format!("n,class\n{}\n", reversed.join("\n"));
        let sorted = |text: &str| {
            let mut rows: Vec<String> = text.lines().map(str::to_owned).collect();
            rows.sort();
            rows
        };
        let first = split(&data, Some("class"), &USUAL, 7).unwrap();
        let second = split(&reversed, Some("class"), &USUAL, 7).unwrap();
        for (name, part) in &first {
            assert_eq!(sorted(part), sorted(&second[name]));
        }
    }

    #[test]
    fn another_seed_is_another_split() {
        let data = numbered(100);
        let first = split(&data, Some("class"), &USUAL, 7).unwrap();
        assert_eq!(first, split(&data, Some("class"), &USUAL, 7).unwrap());
        assert_ne!(first, split(&data, Some("class"), &USUAL, 8).unwrap());
    }

    #[test]
    fn wrong_ratios_are_refused_with_advice() {
        let refusal = |parts: &[(&str, f64)]| split("a\n1\n", None, parts, 0).unwrap_err();
        assert_eq!(
            refusal(&[("a", 0.7), ("b", 0.2)]).to_string(),
            "the ratios add up to 0.8999999999999999, not to 1; help: with `b` at 0.3 they would"
        );
        assert!(matches!(refusal(&[("a", 1.5), ("b", -0.5)]), Error::Ratio { .. }));
        assert!(matches!(refusal(&[("a", f64::NAN)]), Error::Ratio { .. }));
        assert!(matches!(refusal(&[]), Error::NoParts));
    }

    #[test]
    fn an_empty_part_and_an_unknown_label_are_refused() {
        let error = split("a,b\n1,2\n", None, &USUAL, 0).unwrap_err().to_string();
        assert!(error.starts_with("`test` would be empty: 0.15 of 1 rows"), "{error}");
        assert!(matches!(split("a,b\n", None, &USUAL, 0), Err(Error::NoRows)));
        let error = split("a,klass\n1,2\n", Some("class"), &USUAL, 0).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(cause, "there is no column \"class\"; help: did you mean \"klass\"?");
    }

    /// A change of this digest is a change of the output, so it needs a new `VERSION`.
    #[test]
    fn the_output_of_version_1_is_fixed() {
        assert_eq!(VERSION, 1);
        let parts = split(&numbered(100), Some("class"), &USUAL, 7).unwrap();
        let all: String = parts.into_iter().map(|(name, part)| format!("{name}\n{part}")).collect();
        assert_eq!(blake3::hash(all.as_bytes()).to_hex().as_str(), GOLDEN);
    }

    const GOLDEN: &str = "7cf81c4207a693c110565afcc6ac411336bd4de7789fe743d36bd00914fd06b6";

    /// Rows as `value,class`, of few values so that duplicates come up.
    fn rows() -> impl Strategy<Value = Vec<(u8, u8)>> {
        prop::collection::vec((0..12_u8, 0..3_u8), 1..60)
    }

    fn text(rows: &[(u8, u8)]) -> String {
        let rows = rows.iter().map(|(value, class)| format!("{value},{class}\n"));
        format!("value,class\n{}", rows.collect::<String>())
    }

    fn parts_of(rows: &[(u8, u8)], pairs: &[(&str, f64)]) -> Vec<usize> {
        let table = Table::parse(text(rows).into_bytes()).unwrap();
        let shares = cumulative(&ratios(pairs)).unwrap();
        assign(&table, &classes(&table, Some(1)), &shares, 7)
    }

    proptest! {
        #[test]
        fn every_row_is_in_one_part_and_every_class_is_cut_at_the_ratios(rows in rows()) {
            let parts = parts_of(&rows, &USUAL);
            for class in 0..3 {
                let members: Vec<usize> =
                    (0..rows.len()).filter(|&row| rows[row].1 == class).collect();
                for (part, ratio) in [0.15, 0.7, 0.15].into_iter().enumerate() {
                    let count = members.iter().filter(|&&row| parts[row] == part).count();
                    let exact = ratio * members.len() as f64;
                    prop_assert!((count as f64 - exact).abs() <= 1.0 + 1e-9);
                }
            }
        }

        #[test]
        fn a_further_row_moves_at_most_one_row_across_each_cut(
            rows in rows(),
            value in 0..12_u8,
            class in 0..3_u8,
        ) {
            // At the end, so that no duplicate's occurrence number changes.
            let mut more = rows.clone();
            more.push((value, class));
            let (before, after) = (parts_of(&rows, &USUAL), parts_of(&more, &USUAL));
            let moved: Vec<usize> =
                (0..rows.len()).filter(|&row| before[row] != after[row]).collect();
            prop_assert!(moved.len() < USUAL.len(), "{moved:?}");
            prop_assert!(moved.iter().all(|&row| rows[row].1 == class));
        }
    }
}
