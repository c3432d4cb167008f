//! The builder `evaluate`: a gate that scores a model on test data, by itself and against a
//! baseline rescored on the same data.
//!
//! Makes the outputs `report`, a folder of `report.json` and `report.html`, and `metrics`, a flat
//! JSON object of the metrics by name (those that are defined). The output `model` is an alias of the
//! input, for whoever runs builders to make if the verdict is `accepted`.

mod gate;
mod report;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use self::gate::{Amount, Gate, GateError};
use self::gate::{Baseline, Decided};
use self::report::{Circumstances, Report, Subject, TestData};
use crate::metrics::{Decision, Scores, score};
use crate::model::{Model, ModelError};
use crate::nearest::suggestion;
use crate::output::{self, OutputError};
use crate::request::{Input, KindError, Verdict};
use crate::table::{Table, TableError, shortened};

/// The semantic version: a change of any output byte raises it.
pub const VERSION: u32 = 1;

/// The threshold that the engine fills in, and the only one for models without a positive class.
pub const DEFAULT_THRESHOLD: f64 = 0.5;

/// What `evaluate` is told.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Args {
    /// The candidate, a model folder.
    pub model: Input,
    /// Data that it has not seen, a CSV file.
    pub test: Input,
    /// The model to compare with, if there is one.
    pub baseline: Option<Input>,
    /// The conditions for acceptance.
    pub gates: Vec<Gate>,
    /// The least probability that makes a row positive.
    pub threshold: f64,
}

/// Why a model could not be evaluated. A bad model is no error but a rejection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An input is of the wrong kind.
    #[error(transparent)]
    Kind(#[from] KindError),
    /// A gate is senseless.
    #[error("`gates` cannot decide")]
    Gates(#[from] GateError),
    /// The threshold is no probability.
    #[error("`threshold` is {0}; help: it is a probability, from 0 to 1")]
    Threshold(f64),
    /// A threshold for a model that has no positive class.
    #[error(
        "`threshold` is {0}, but the model has no positive class, so that the most probable class counts; help: leave it out, or train with `positive`"
    )]
    NoPositive(f64),
    /// A model cannot be loaded or applied.
    #[error("cannot use `{role}`")]
    Model {
        /// The argument.
        role: &'static str,
        /// What is wrong with it.
        source: ModelError,
    },
    /// The test data is no table, or lacks what the model reads.
    #[error("cannot score `model` on `test`")]
    Test(#[from] TableError),
    /// The test data has no rows.
    #[error("`test` has a header but no rows; help: look at the step or file that it comes from")]
    NoRows,
    /// A label that the model does not know.
    #[error("`test`, {0}")]
    Label(#[source] UnknownLabel),
    /// An output cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The log cannot be written.
    #[error("cannot write the log")]
    Log(#[source] std::io::Error),
}

/// The test data holds a class that the model was not trained on.
#[derive(Debug, thiserror::Error)]
#[error("line {line}, column {column:?}: the model knows no class {value:?}; help: {help}")]
pub struct UnknownLabel {
    line: u64,
    column: String,
    value: String,
    help: String,
}

/// Evaluates.
///
/// # Errors
/// When an input cannot be read, the gates make no sense, the test data does not fit the model, or
/// an output cannot be written.
pub fn run(
    args: &Args,
    outputs: &BTreeMap<String, PathBuf>,
    threads: usize,
    log: &mut dyn Write,
) -> Result<Verdict, Error> {
    let report_place = output::place(outputs, "report")?;
    let metrics_place = output::place(outputs, "metrics")?;
    let conditions = gate::conditions(&args.gates)?;
    if !(0.0..=1.0).contains(&args.threshold) {
        return Err(Error::Threshold(args.threshold));
    }
    let load =
        |path: &Path, role| Model::load(path).map_err(|source| Error::Model { role, source });
    let model = load(args.model.tree("model")?, "model")?;
    let decision = decision(&model, args.threshold)?;
    let table = Table::read_csv(args.test.file("test")?)?;
    if table.rows() == 0 {
        return Err(Error::NoRows);
    }
    let scores = scored(&model, &table, decision, threads).map_err(|unfit| match unfit {
        Unfit::Table(error) => Error::Test(error),
        Unfit::Label(error) => Error::Label(error),
        Unfit::Model(source) => Error::Model { role: "model", source },
    })?;

    let (baseline, baseline_classes) = match &args.baseline {
        None => (Baseline::Absent, Vec::new()),
        Some(input) if input.digest == args.model.digest => (Baseline::Same, Vec::new()),
        Some(input) => {
            let path = input.tree("baseline")?;
            baseline(path, &model, args.threshold, &table, threads)?
        }
    };
    let decided: Vec<Decided> =
        conditions.iter().map(|condition| gate::decide(*condition, &scores, &baseline)).collect();
    let verdict = verdict(&decided);
    for line in decided.iter().map(|one| &one.text).chain([&verdict.reason]) {
        writeln!(log, "{line}").map_err(Error::Log)?;
    }

    let report = Report::new(
        Circumstances {
            verdict: &verdict,
            test: TestData { digest: &args.test.digest, rows: table.rows() },
            label: model.label(),
            positive: model.positive(),
            threshold: model.positive().map(|_| args.threshold),
            gates: &decided,
        },
        &Subject { digest: &args.model.digest, classes: model.classes(), scores: &scores },
        args.baseline
            .as_ref()
            .map(|input| (input.digest.as_str(), baseline_classes.as_slice(), &baseline)),
    );
    output::folder(report_place)?;
    output::write(&report_place.join("report.json"), output::json(&report))?;
    output::write(&report_place.join("report.html"), report.page())?;
    output::write(metrics_place, output::json(&report.metrics()))?;
    Ok(verdict)
}

/// How the model's probabilities become classes.
fn decision(model: &Model, threshold: f64) -> Result<Decision, Error> {
    let positive = model
        .positive()
        .filter(|_| model.classes().len() == 2)
        .and_then(|positive| model.classes().iter().position(|class| class == positive));
    match positive {
        Some(positive) => Ok(Decision::Threshold { positive, threshold }),
        None if threshold.to_bits() == DEFAULT_THRESHOLD.to_bits() => Ok(Decision::MostProbable),
        None => Err(Error::NoPositive(threshold)),
    }
}

/// Why a model cannot be scored on a table.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error(transparent)]
    Table(#[from] TableError),
    #[error(transparent)]
    Label(#[from] UnknownLabel),
    #[error(transparent)]
    Model(#[from] ModelError),
}

fn scored(
    model: &Model,
    table: &Table,
    decision: Decision,
    threads: usize,
) -> Result<Scores, Unfit> {
    let column = table.column(model.label())?;
    let truth = (0..table.rows()).map(|row| {
        let text = table.text(row, column);
        model.classes().iter().position(|class| class == text).ok_or_else(|| UnknownLabel {
            line: table.line(row),
            column: model.label().to_owned(),
            value: shortened(text),
            help: suggestion(text, model.classes().iter().map(String::as_str)),
        })
    });
    let truth: Vec<usize> = truth.collect::<Result<_, _>>()?;
    let rows = model.rows(table)?;
    let probabilities = model.probabilities(&rows, threads)?;
    Ok(score(model.classes().len(), decision, &truth, &probabilities))
}

/// Scores the baseline on the same data as the candidate, if that can be done, and says which
/// classes it knows. Only a disk that cannot be read is an error; all else depends on the baseline's
/// content alone, and so is part of the verdict.
fn baseline(
    path: &Path,
    candidate: &Model,
    threshold: f64,
    table: &Table,
    threads: usize,
) -> Result<(Baseline, Vec<String>), Error> {
    let unusable = |why: String| Ok((Baseline::Unusable(why), Vec::new()));
    let model = match Model::load(path) {
        Ok(model) => model,
        Err(source @ ModelError::Read { .. }) => {
            return Err(Error::Model { role: "baseline", source });
        }
        Err(_) => return unusable("it is not a model that this version reads".to_owned()),
    };
    if model.label() != candidate.label() {
        return unusable(format!(
            "it predicts {:?}, the candidate {:?}",
            model.label(),
            candidate.label()
        ));
    }
    if model.positive() != candidate.positive() {
        let name = |positive: Option<&str>| {
            positive.map_or_else(|| "none".to_owned(), |positive| format!("{positive:?}"))
        };
        return unusable(format!(
            "its positive class is {}, the candidate's is {}",
            name(model.positive()),
            name(candidate.positive())
        ));
    }
    let decision = decision(&model, threshold)?;
    match scored(&model, table, decision, threads) {
        Ok(scores) => Ok((Baseline::Scored(Box::new(scores)), model.classes().to_vec())),
        Err(unfit) => unusable(unfit.to_string()),
    }
}

/// The verdict that conditions add up to; the reason names those that fail.
fn verdict(decided: &[Decided]) -> Verdict {
    const NAMED: usize = 4;
    let failed: Vec<&str> =
        decided.iter().filter(|one| !one.holds).map(|one| one.text.as_str()).collect();
    let all = decided.len();
    if failed.is_empty() {
        let reason = match decided {
            [] => "there are no gates".to_owned(),
            [one] => one.text.clone(),
            _ => format!("all {all} gates hold"),
        };
        return Verdict { accepted: true, reason };
    }
    let mut named = failed[..failed.len().min(NAMED)].join("; ");
    if failed.len() > NAMED {
        named.push_str(&format!("; and {} more", failed.len() - NAMED));
    }
    let count = match (failed.len(), all) {
        (1, 1) => "the gate failed".to_owned(),
        (failed, all) => format!("{failed} of {all} gates failed"),
    };
    Verdict { accepted: false, reason: format!("{count}: {named}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture;

    struct Evaluated {
        verdict: Verdict,
        report: serde_json::Value,
        metrics: BTreeMap<String, f64>,
        page: String,
        digest: String,
    }

    /// A candidate that says `bad` where `x` is above its cut.
    struct Case {
        cut: f32,
        baseline: Option<Input>,
        test: String,
        gates: &'static str,
        threshold: f64,
    }

    const TEST: &str = "id,x,kind\n1,0,good\n2,1,good\n3,2,bad\n4,3,good\n5,4,bad\n6,5,bad\n";

    impl Default for Case {
        fn default() -> Self {
            Case { cut: 2.5, baseline: None, test: TEST.to_owned(), gates: "[]", threshold: 0.5 }
        }
    }

    fn model(folder: &Path, name: &str, feature: &str, positive: Option<&str>, cut: f32) -> Input {
        let place = folder.join(name);
        fixture::model(feature, &["bad", "good"], positive, cut).save(&place).unwrap();
        fixture::tree(&place)
    }

    fn evaluate(case: Case) -> Result<Evaluated, Error> {
        let folder = tempfile::tempdir().unwrap();
        let args = Args {
            model: model(folder.path(), "model", "x", Some("bad"), case.cut),
            test: fixture::file(folder.path(), "test.csv", case.test),
            baseline: case.baseline,
            gates: serde_json::from_str(case.gates).unwrap(),
            threshold: case.threshold,
        };
        let (report, metrics) = (folder.path().join("report"), folder.path().join("metrics"));
        let outputs = BTreeMap::from([
            ("report".to_owned(), report.clone()),
            ("metrics".to_owned(), metrics.clone()),
        ]);
        let verdict = run(&args, &outputs, 1, &mut std::io::sink())?;
        let read = |path: PathBuf| std::fs::read_to_string(path).unwrap();
        Ok(Evaluated {
            verdict,
            report: serde_json::from_str(&read(report.join("report.json"))).unwrap(),
            metrics: serde_json::from_str(&read(metrics.clone())).unwrap(),
            page: read(report.join("report.html")),
            digest: format!("{} {}", fixture::digest(&report), fixture::digest(&metrics)),
        })
    }

    #[test]
    fn a_model_is_scored_on_the_test_data() {
        let evaluated = evaluate(Case::default()).unwrap();
        assert!(evaluated.verdict.accepted);
        assert_eq!(evaluated.report["model"]["confusion"], serde_json::json!([[2, 1], [1, 2]]));
        assert_eq!(evaluated.metrics["accuracy"], 4.0 / 6.0);
        assert_eq!(evaluated.metrics["roc_auc"], 8.0 / 9.0);
        assert_eq!(evaluated.metrics.len(), 6);
        assert_eq!(evaluated.report["baseline"], serde_json::Value::Null);
        assert!(evaluated.page.contains("<svg"));
    }

    #[test]
    fn the_threshold_moves_the_decision_and_not_the_ranking() {
        let low = evaluate(Case { threshold: 0.0, ..Case::default() }).unwrap();
        assert_eq!(low.metrics["recall"], 1.0);
        assert_eq!(low.metrics["precision"], 0.5);
        assert_eq!(low.metrics["roc_auc"], 8.0 / 9.0);
    }

    #[test]
    fn a_failing_gate_rejects_with_its_numbers_and_the_report_is_there() {
        let gates = r#"[{"metric":"accuracy","min":0.9},{"metric":"recall","min":0.5}]"#;
        let evaluated = evaluate(Case { gates, ..Case::default() }).unwrap();
        assert_eq!(
            evaluated.verdict,
            Verdict {
                accepted: false,
                reason: "1 of 2 gates failed: accuracy 0.666667 is not at least 0.9".to_owned()
            }
        );
        assert_eq!(evaluated.report["gates"][1]["holds"], true);
    }

    #[test]
    fn a_baseline_is_rescored_on_the_same_data() {
        let folder = tempfile::tempdir().unwrap();
        let better = model(folder.path(), "better", "x", Some("bad"), 3.5);
        let gates = r#"[{"metric":"accuracy","max_drop":"2%"}]"#;
        let case = Case { baseline: Some(better), gates, ..Case::default() };
        let evaluated = evaluate(case).unwrap();
        assert!(!evaluated.verdict.accepted);
        assert_eq!(
            evaluated.verdict.reason,
            "the gate failed: accuracy 0.666667 is not at least 0.816667, a drop of at most 2% \
             from the baseline's 0.833333"
        );
        let baseline = &evaluated.report["baseline"];
        assert_eq!(baseline["metrics"]["accuracy"], 5.0 / 6.0);
    }

    #[test]
    fn the_candidate_itself_as_baseline_holds_relative_gates_only() {
        let folder = tempfile::tempdir().unwrap();
        let same = model(folder.path(), "same", "x", Some("bad"), 2.5);
        let gates = r#"[{"metric":"f1","min_gain":"5%"},{"metric":"f1","min":0.9}]"#;
        let case = Case { baseline: Some(same), gates, ..Case::default() };
        let evaluated = evaluate(case).unwrap();
        assert_eq!(evaluated.report["gates"][0]["reason"], "is_baseline");
        assert_eq!(evaluated.report["gates"][0]["holds"], true);
        assert!(!evaluated.verdict.accepted, "the absolute gate decides");
    }

    #[test]
    fn a_baseline_that_cannot_score_this_data_fails_relative_gates_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let other = model(folder.path(), "other", "y", Some("bad"), 2.5);
        let turned = model(folder.path(), "turned", "x", Some("good"), 2.5);
        let damaged = model(folder.path(), "damaged", "x", Some("bad"), 2.5);
        std::fs::write(damaged.path.join("model.safetensors"), "no").unwrap();
        let damaged = fixture::tree(&damaged.path);
        for (baseline, why) in [
            (other, "there is no column \"y\""),
            (turned, "its positive class is \"good\""),
            (damaged, "it is not a model"),
        ] {
            let gates = r#"[{"metric":"f1","max_drop":0.5}]"#;
            let case = Case { baseline: Some(baseline), gates, ..Case::default() };
            let evaluated = evaluate(case).unwrap();
            assert!(!evaluated.verdict.accepted);
            assert!(evaluated.verdict.reason.contains(why), "{}", evaluated.verdict.reason);
            assert_eq!(evaluated.report["baseline"]["state"], "unusable");
        }
    }

    #[test]
    fn test_data_that_does_not_fit_the_model_is_an_error_with_its_place() {
        let cause = |test: &str| {
            let error = evaluate(Case { test: test.to_owned(), ..Case::default() }).err().unwrap();
            let source = std::error::Error::source(&error).map_or(String::new(), |e| e.to_string());
            format!("{error}: {source}")
        };
        assert!(cause("x,kind\n1,god\n").contains("line 2, column \"kind\": the model knows no"));
        assert!(cause("x,kind\n1,god\n").contains("did you mean \"good\"?"));
        assert!(cause("z,kind\n1,good\n").contains("there is no column \"x\""));
        assert!(cause("x,kind\n?,good\n").contains("line 2, column \"x\""));
        assert!(cause("x,kind\n").contains("no rows"));
    }

    #[test]
    fn senseless_thresholds_are_refused() {
        let error = evaluate(Case { threshold: 1.5, ..Case::default() }).err().unwrap();
        assert!(matches!(error, Error::Threshold(_)));
        let folder = tempfile::tempdir().unwrap();
        let place = model(folder.path(), "m", "x", None, 0.0).path;
        let model = Model::load(&place).unwrap();
        assert!(matches!(decision(&model, 0.4), Err(Error::NoPositive(_))));
        assert_eq!(decision(&model, 0.5).unwrap(), Decision::MostProbable);
    }

    /// A change of this digest is a change of the output, so it needs a new `VERSION`.
    #[test]
    fn the_output_of_version_1_is_fixed() {
        assert_eq!(VERSION, 1);
        let folder = tempfile::tempdir().unwrap();
        let baseline = model(folder.path(), "base", "x", Some("bad"), 3.5);
        let gates = r#"[{"metric":"f1","min":0.5},{"metric":"log_loss","max_drop":"2%"}]"#;
        let case = Case { baseline: Some(baseline), gates, ..Case::default() };
        assert_eq!(evaluate(case).unwrap().digest, GOLDEN);
    }

    const GOLDEN: &str = "443b276569adc5161c41bd4c6d6ef92ccf58f3faff01c9005e9177ee90f173dc \
                          c26fe7bfd3e95df1c909dc52aee2e6e19e1a2e7181aa018e27d97bb0fd5e52e1";

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_test_data_is_scored_or_refused(
            cells in prop::collection::vec(("-?[0-9.]{0,4}(e[0-9]{1,3})?", "good|bad"), 0..12),
        ) {
            let rows = cells.iter().map(|(x, kind)| format!("\"{x}\",{kind}\n"));
            let test = format!("x,kind\n{}", rows.collect::<String>());
            let gates = r#"[{"metric":"roc_auc","min":0.5}]"#;
            if let Ok(evaluated) = evaluate(Case { test, gates, ..Case::default() }) {
                prop_assert!(evaluated.metrics.values().all(|value| value.is_finite()));
            }
        }
    }
}
