use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// The outputs by name.
fn generate(args: &Args, threads: usize) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let names = ["data", "probabilities", "optimum"];
    let outputs = names.map(|name| (name.to_owned(), folder.path().join(name))).into();
    run(args, &outputs, threads, &mut io::sink()).unwrap();
    outputs.into_iter().map(|(name, path)| (name, std::fs::read_to_string(path).unwrap())).collect()
}

fn args(table: Kind, rows: u64) -> Args {
    Args { table, rows, seed: 7, drift: 0.0 }
}

fn optimum(made: &BTreeMap<String, String>) -> serde_json::Value {
    serde_json::from_str(&made["optimum"]).unwrap()
}

const BOTH: [Kind; 2] = [Kind::Fraud, Kind::Clicks];

/// A change of these digests is a change of the output, so it needs a new `VERSION`.
#[test]
fn the_tables_of_version_1_are_fixed() {
    assert_eq!(VERSION, 1);
    let golden = [Kind::Fraud, Kind::Clicks].map(|kind| {
        let made = generate(&Args { drift: 0.25, ..args(kind, 3000) }, 2);
        let all: String = made.into_iter().map(|(name, text)| format!("{name}\n{text}")).collect();
        blake3::hash(all.as_bytes()).to_hex().to_string()
    });
    assert_eq!(golden, GOLDEN);
}

const GOLDEN: [&str; 2] = [
    "dc74405944b7b4b9a6772c677d7f03b5d2b9bab5c46886f9aacbbe49aaaeb6bf",
    "100daf1ce05197ee2b52262e8026a0515f3cb6277f9e588679008f628415e957",
];

#[test]
fn threads_do_not_change_a_byte_and_a_longer_table_begins_with_the_shorter_one() {
    for kind in BOTH {
        let rows = 2 * BLOCK + 77;
        let one = generate(&args(kind, rows), 1);
        assert_eq!(one, generate(&args(kind, rows), 3));
        let shorter = generate(&args(kind, 500), 2);
        assert!(one["data"].starts_with(&shorter["data"]));
        assert!(one["probabilities"].starts_with(&shorter["probabilities"]));
        assert_eq!(one["data"].lines().count() as u64, rows + 1);
        let columns = |line: &str| line.split(',').count();
        let header = columns(kind.header());
        assert!(one["data"].lines().all(|line| columns(line) == header));
    }
}

#[test]
fn labels_follow_their_chances_and_these_rank_well() {
    for (kind, shares, areas) in
        [(Kind::Fraud, 0.01..0.03, 0.85..0.95), (Kind::Clicks, 0.04..0.12, 0.72..0.85)]
    {
        let made = generate(&args(kind, 60_000), 2);
        let optimum = optimum(&made);
        let chances =
            made["probabilities"].lines().skip(1).map(|line| line.parse::<f64>().unwrap());
        let (expected, variance) =
            chances.fold((0.0, 0.0), |sum, p| (sum.0 + p, sum.1 + p * (1.0 - p)));
        let positives = optimum["positives"].as_f64().unwrap();
        assert!((positives - expected).abs() < 4.0 * variance.sqrt(), "{positives}, {expected}");
        assert!(shares.contains(&(positives / 60_000.0)), "{kind:?}: {optimum}");
        assert!(areas.contains(&optimum["roc_auc"].as_f64().unwrap()), "{kind:?}: {optimum}");
    }
}

#[test]
fn what_was_learnt_before_the_drift_is_worth_less_after_it() {
    for kind in BOTH {
        let before = generate(&args(kind, 40_000), 2);
        let after = generate(&Args { drift: 1.0, ..args(kind, 40_000) }, 2);
        assert_ne!(before["data"], after["data"]);
        // The old world's chances of the new world's rows, which are told by the same words.
        let mut old = Vec::new();
        for row in 0..40_000 {
            let mut dice = Dice::new(7, kind.stream(), row);
            let line = &mut String::new();
            old.push(kind.row(&mut dice, 0.0, 7, line));
        }
        let labels = after["data"].lines().skip(1).map(|line| usize::from(line.ends_with(",1")));
        let truth: Vec<usize> = labels.collect();
        let chances = old.iter().flat_map(|&odds| {
            let chance = sigmoid(odds as f32);
            [1.0 - chance, chance]
        });
        let decision = Decision::Threshold { positive: 1, threshold: 0.5 };
        let scores = score(2, decision, &truth, &chances.collect::<Vec<_>>());
        let best = optimum(&after)["roc_auc"].as_f64().unwrap();
        let stale = scores.value(Metric::RocAuc).unwrap();
        assert!(stale < best - 0.05, "{kind:?}: {stale} of {best}");
    }
}

#[test]
fn no_rows_and_a_drift_out_of_range_are_refused() {
    let refused =
        |args: &Args| run(args, &BTreeMap::new(), 1, &mut io::sink()).unwrap_err().to_string();
    assert_eq!(refused(&args(Kind::Fraud, 0)), "`rows` is 0; help: 1 to 1000000000");
    let far = Args { drift: f64::NAN, ..args(Kind::Fraud, 1) };
    assert_eq!(refused(&far), "`drift` is NaN; help: 0 (the world as it was) to 1");
    assert_eq!(refused(&args(Kind::Fraud, 1)), "the request names no place for the output `data`");
}

proptest! {
    #[test]
    fn any_row_of_any_seed_and_drift_is_a_row_of_numbers(
        seed in any::<u64>(),
        drift in 0.0..=1.0_f64,
        row in 0..MOST_ROWS,
        is_fraud in any::<bool>(),
    ) {
        let kind = if is_fraud { Kind::Fraud } else { Kind::Clicks };
        let mut line = String::new();
        let odds = kind.row(&mut Dice::new(seed, kind.stream(), row), drift, seed, &mut line);
        prop_assert!(odds.is_finite() && odds.abs() < 60.0, "{odds}");
        for cell in line.split(',') {
            prop_assert!(cell.is_empty() || cell.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
        }
    }
}
