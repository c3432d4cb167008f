//! The builder `validate`: a gate that holds a table against a suite of checks.
//!
//! Makes the output `report`, a folder of `report.json` and `report.html`. The output `data` is an
//! alias of the input, for whoever runs builders to make if the verdict is `accepted`.

mod judge;
mod report;
mod rule;
mod spanned;
mod suite;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use serde::Deserialize;

pub use self::spanned::Problem;
use crate::output::{self, OutputError};
use crate::request::{Input, KindError, Verdict};
use crate::table::{Table, TableError};

/// The semantic version: a change of any output byte raises it.
pub const VERSION: u32 = 1;

/// What `validate` is told.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Args {
    /// The table, a CSV file.
    pub data: Input,
    /// The suite of checks, a TOML file.
    pub suite: Input,
}

/// Why a validation could not be carried out. Bad data is no error but a rejection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An input is of the wrong kind.
    #[error(transparent)]
    Kind(#[from] KindError),
    /// The data cannot be read from disk.
    #[error("cannot read `data`")]
    Data(#[source] TableError),
    /// The suite cannot be read from disk, or is not UTF-8.
    #[error("cannot read `suite`, {}", path.display())]
    ReadSuite {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The suite is not one.
    #[error("`suite` has {}:{}", problems(.0.len()), listed(.0))]
    Suite(Vec<Problem>),
    /// The report cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The log cannot be written.
    #[error("cannot write the log")]
    Log(#[source] std::io::Error),
}

fn problems(count: usize) -> String {
    if count == 1 { "a problem".to_owned() } else { format!("{count} problems") }
}

fn listed(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("\n  {problem}")).collect()
}

/// Validates.
///
/// # Errors
/// When an input cannot be read, the suite is not one, or an output cannot be written.
pub fn run(
    args: &Args,
    outputs: &BTreeMap<String, PathBuf>,
    log: &mut dyn Write,
) -> Result<Verdict, Error> {
    let place = output::place(outputs, "report")?;
    let suite_path = args.suite.file("suite")?;
    let text = std::fs::read_to_string(suite_path)
        .map_err(|source| Error::ReadSuite { path: suite_path.to_owned(), source })?;
    let suite = suite::read(&text).map_err(Error::Suite)?;
    let table = match Table::read_csv(args.data.file("data")?) {
        Err(error @ TableError::Read { .. }) => return Err(Error::Data(error)),
        other => other,
    };
    let findings = match &table {
        Ok(table) => judge::judge(&suite, table),
        Err(error) => judge::unreadable(&suite, error),
    };
    let verdict = report::verdict(&findings);
    let report = report::Report::new(
        &verdict,
        &args.data.digest,
        &args.suite.digest,
        &suite,
        table.as_ref().ok(),
        &findings,
    );
    output::folder(place)?;
    output::write(&place.join("report.json"), output::json(&report))?;
    output::write(&place.join("report.html"), report.page())?;
    writeln!(log, "{}", verdict.reason).map_err(Error::Log)?;
    Ok(verdict)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture;

    #[test]
    fn no_suite_and_no_data_make_the_judge_panic() {
        let full = "[table]\nmin_rows = 1\nmax_rows = 9\nextra_columns = \"reject\"\n\
            null_values = [\"\", \"NA\"]\nseverity = \"warning\"\n[columns.a]\ntype = \"integer\"\n\
            min = 0\nmax = 9\nmax_nulls = \"2%\"\nmax_violations = 3\nunique = true\n\
            severity = { unique = \"warning\" }\n[columns.d]\ntype = \"date\"\nmin = \"2024-01-31\"\n\
            [columns.s]\ntype = \"string\"\nallowed = [\"x\", \"y\"]\n[columns.b]\ntype = \"boolean\"\n\
            required = false\n|a,d,s,b\n1,2024-02-01,x,true\n,NA,é,0\n10,2023-02-29,<b>,no\n";
        kiln_fuzzing::Fuzz::new("suite")
            .samples([full, "[columns.a]\n|a\n1\n", "[table]\nmin_rows = -1\n|"])
            .words([
                "|",
                "\n",
                "\"",
                "[columns.",
                "]",
                "= 1e400",
                "\"1e400%\"",
                "0x7f",
                "nan",
                "\"2024-02-30\"",
                "\u{feff}",
                "é",
                "[[",
                "{",
                "\"\"\"",
            ])
            .memory(2000, 4 << 20)
            .texts(|text| {
                let (suite, data) = text.split_once('|').unwrap_or((text, ""));
                let suite = match suite::read(suite) {
                    Ok(suite) => suite,
                    Err(problems) => {
                        assert!(!problems.is_empty(), "an error says something");
                        let lines = text.matches('\n').count() + 1;
                        assert!(problems.iter().all(|one| (1..=lines).contains(&one.line)));
                        return;
                    }
                };
                let table = Table::parse(data.as_bytes().to_vec());
                let findings = match &table {
                    Ok(table) => judge::judge(&suite, table),
                    Err(error) => judge::unreadable(&suite, error),
                };
                let verdict = report::verdict(&findings);
                assert!(!verdict.reason.contains('\n'), "{}", verdict.reason);
                let table = table.as_ref().ok();
                let report = report::Report::new(&verdict, "", "", &suite, table, &findings);
                let _ = (report.page(), output::json(&report));
            });
    }

    struct Validated {
        verdict: Verdict,
        report: serde_json::Value,
        page: String,
        digest: String,
    }

    fn validate(data: impl AsRef<[u8]>, suite: &str) -> Result<Validated, Error> {
        let folder = tempfile::tempdir().unwrap();
        let args = Args {
            data: fixture::file(folder.path(), "data.csv", data),
            suite: fixture::file(folder.path(), "suite.toml", suite),
        };
        let place = folder.path().join("report");
        let outputs = BTreeMap::from([("report".to_owned(), place.clone())]);
        let verdict = run(&args, &outputs, &mut std::io::sink())?;
        let json = std::fs::read(place.join("report.json")).unwrap();
        Ok(Validated {
            verdict,
            report: serde_json::from_slice(&json).unwrap(),
            page: std::fs::read_to_string(place.join("report.html")).unwrap(),
            digest: fixture::digest(&place),
        })
    }

    /// The outcome of one check of one column.
    fn outcome(validated: &Validated, column: Option<&str>, check: &str) -> String {
        let checks = validated.report["checks"].as_array().unwrap();
        let found = checks
            .iter()
            .find(|finding| finding["check"] == check && finding["column"].as_str() == column);
        let found = found.unwrap_or_else(|| panic!("no check {check} of {column:?}"));
        found["outcome"].as_str().unwrap().to_owned()
    }

    const PEOPLE: &str = "id,age,sex,joined\n1,34,f,2024-01-31\n2,,m,2024-02-01\n\
                          3,-4,x,2024-02-30\n3,abc,f,2023-01-01\n";

    #[test]
    fn each_check_finds_its_own_violations() {
        let suite = "[table]\nmin_rows = 5\nextra_columns = \"warn\"\n\
                     [columns.id]\ntype = \"integer\"\nunique = true\n\
                     [columns.age]\ntype = \"integer\"\nmin = 0\nmax_nulls = 0\n\
                     [columns.sex]\nallowed = [\"f\", \"m\"]\nseverity = \"warning\"\n\
                     [columns.joined]\ntype = \"date\"\nmin = \"2024-01-01\"\n\
                     [columns.hight]\nrequired = false\ntype = \"number\"\n";
        let validated = validate(PEOPLE, suite).unwrap();
        let expected = [
            (None, "format", "passed"),
            (None, "row_count", "failed"),
            (None, "extra_columns", "passed"),
            (Some("id"), "required", "passed"),
            (Some("id"), "type", "passed"),
            (Some("id"), "unique", "failed"),
            (Some("age"), "type", "failed"),
            (Some("age"), "nulls", "failed"),
            (Some("age"), "range", "failed"),
            (Some("sex"), "allowed", "failed"),
            (Some("joined"), "type", "failed"),
            (Some("joined"), "range", "failed"),
            (Some("hight"), "required", "passed"),
            (Some("hight"), "type", "skipped"),
        ];
        for (column, check, wanted) in expected {
            assert_eq!(outcome(&validated, column, check), wanted, "{column:?} {check}");
        }
        assert!(!validated.verdict.accepted);
        assert_eq!(
            validated.verdict.reason,
            "7 checks failed, 1 warning: expected at least 5 rows, found 4 rows; id: expected \
             every value once, found 1 of 4 repeated, first on line 5; age: expected values of \
             type integer, found 1 of 3 of another type, first on line 5; and 4 more"
        );
        let checks = validated.report["checks"].as_array().unwrap();
        let range = checks.iter().find(|check| check["check"] == "range").unwrap();
        assert_eq!(range["examples"], serde_json::json!([{"line": 4, "value": "-4"}]));
        assert_eq!(range["share"], serde_json::json!(1.0 / 3.0));
    }

    #[test]
    fn warnings_and_tolerated_violations_do_not_reject() {
        let suite = "[columns.sex]\nallowed = [\"f\", \"m\"]\nseverity = \"warning\"\n\
                     [columns.age]\ntype = \"integer\"\nmax_violations = \"34%\"\nmax_nulls = 1\n";
        let validated = validate(PEOPLE, suite).unwrap();
        assert!(validated.verdict.accepted);
        assert_eq!(validated.verdict.reason, "5 checks passed, 1 warning");
        assert_eq!(outcome(&validated, Some("sex"), "allowed"), "failed");
        let strict = suite.replace("34%", "33%");
        assert!(!validate(PEOPLE, &strict).unwrap().verdict.accepted);
    }

    #[test]
    fn a_missing_column_rejects_and_names_its_neighbour() {
        let reason = validate(PEOPLE, "[columns.joind]\ntype = \"date\"\n").unwrap().verdict.reason;
        assert_eq!(
            reason,
            "1 check failed: joind: expected a column of this name, found none, but there is \"joined\""
        );
    }

    #[test]
    fn a_file_that_is_no_table_is_rejected_with_its_line() {
        let validated = validate("a,b\n1\n", "[table]\nmin_rows = 1\n[columns.a]\n").unwrap();
        assert!(!validated.verdict.accepted);
        assert!(validated.verdict.reason.contains("line 2: this record has 1 field"));
        assert_eq!(outcome(&validated, None, "row_count"), "skipped");
        assert_eq!(outcome(&validated, Some("a"), "required"), "skipped");
    }

    #[test]
    fn numbers_are_compared_as_numbers_and_texts_as_texts() {
        let data = "n,t,u\n1.0,a,1\n+2, a,1.0\n";
        let suite = "[columns.n]\ntype = \"number\"\nallowed = [1, 2]\n\
                     [columns.t]\nallowed = [\"a\"]\n[columns.u]\ntype = \"number\"\nunique = true\n";
        let validated = validate(data, suite).unwrap();
        assert_eq!(outcome(&validated, Some("n"), "allowed"), "passed");
        assert_eq!(outcome(&validated, Some("t"), "allowed"), "failed");
        assert_eq!(outcome(&validated, Some("u"), "unique"), "failed");
    }

    #[test]
    fn the_page_escapes_what_the_data_holds() {
        let validated = validate("a\n<script>\n", "[columns.a]\ntype = \"number\"\n").unwrap();
        assert!(validated.page.contains("&lt;script&gt;"));
        assert!(!validated.page.contains("<script"));
    }

    #[test]
    fn a_suite_with_problems_is_refused_with_all_of_them() {
        let error = validate(PEOPLE, "[columns.a]\ntype = 3\nuniqe = true\n").err().unwrap();
        assert_eq!(
            error.to_string(),
            "`suite` has 2 problems:\n  2:8: `type` must be a string, but this is a TOML integer\n  \
             3:1: unknown key `uniqe` in `[columns.a]`; help: did you mean \"unique\"?"
        );
    }

    /// A change of this digest is a change of the output, so it needs a new `VERSION`.
    #[test]
    fn the_output_of_version_1_is_fixed() {
        assert_eq!(VERSION, 1);
        let suite = "[table]\nmin_rows = 5\n[columns.id]\nunique = true\n\
                     [columns.age]\ntype = \"integer\"\nmin = 0\nmax_nulls = \"10%\"\n";
        assert_eq!(validate(PEOPLE, suite).unwrap().digest, GOLDEN);
    }

    const GOLDEN: &str = "6b77d87e38064a36e2b86ccdb4afe92dfe5da51bf7f854b086d6a7068716c720";

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_data_gets_a_verdict(data in prop::collection::vec(
            prop_oneof![Just(b','), Just(b'\n'), Just(b'"'), Just(b'1'), any::<u8>()], 0..80,
        )) {
            let suite = "[table]\nextra_columns = \"reject\"\nmax_rows = 2\n\
                         [columns.\"1\"]\ntype = \"number\"\nmin = 0\nunique = true\n";
            prop_assert!(validate(data, suite).is_ok());
        }
    }
}
