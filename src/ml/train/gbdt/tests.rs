//! What the trees promise: the same bytes everywhere, gaps in the data, and clear refusals.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use kiln_kernels::{Cpu, Isa, Philox, Threads};

use crate::fixture::{digest, file};
use crate::model::Model;
use crate::table::Table;
use crate::train::{Args, run, run_on};

/// Rows of five numbers, some of them missing, and a label that no line tells.
fn generated(rows: usize, classes: usize, seed: u64) -> String {
    let mut text = "id,a,b,c,d,e,weight,label\n".to_owned();
    for row in 0..rows {
        let mut x = [0.0_f32; 8];
        Philox::new(seed, row as u64).fill_uniform(&mut x, -1.0, 1.0);
        let score = x[0] * x[1] + if x[2] > 0.2 { 0.5 } else { x[3] * 0.5 } + 0.2 * x[5];
        let class = (((score + 1.2) / 2.4 * classes as f32) as usize).min(classes - 1);
        write!(text, "{row}").unwrap();
        for (index, value) in x[..5].iter().enumerate() {
            match (row + index) % 13 {
                0 => text.push(','),
                1 => text.push_str(",NaN"),
                _ => write!(text, ",{value}").unwrap(),
            }
        }
        writeln!(text, ",{},class_{class}", row % 3 + 1).unwrap();
    }
    text
}

fn args(folder: &Path, train: &str, valid: Option<&str>, model: &str, more: &str) -> Args {
    let input = |name: &str, text: &str| serde_json::to_value(file(folder, name, text)).unwrap();
    let mut args = serde_json::json!({
        "train": input("train.csv", train),
        "valid": valid.map(|text| input("valid.csv", text)),
        "label": "label",
        "positive": null,
        "ignore": ["id", "weight"],
        "epochs": 20,
        "model": serde_json::from_str::<serde_json::Value>(model).unwrap(),
    });
    let more: serde_json::Map<String, serde_json::Value> = serde_json::from_str(more).unwrap();
    args.as_object_mut().unwrap().extend(more);
    serde_json::from_value(args).unwrap()
}

fn outputs(folder: &Path) -> BTreeMap<String, PathBuf> {
    [("model", "model"), ("history", "history.csv")]
        .map(|(name, place)| (name.to_owned(), folder.join(place)))
        .into()
}

fn trained(args: impl Fn(&Path) -> Args) -> (Model, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let (outputs, mut log) = (outputs(folder.path()), Vec::new());
    run(args(folder.path()), &[], &outputs, 2, &mut log).unwrap();
    let history = std::fs::read_to_string(&outputs["history"]).unwrap();
    (Model::load(&outputs["model"]).unwrap(), history, String::from_utf8(log).unwrap())
}

fn refusal(train: &str, model: &str, more: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let args = args(folder.path(), train, None, model, more);
    let error = run(args, &[], &outputs(folder.path()), 1, &mut std::io::sink()).unwrap_err();
    error.to_string()
}

fn accuracy(model: &Model, text: &str) -> f64 {
    let table = Table::parse(text.as_bytes().to_vec()).unwrap();
    let rows = model.rows(&table).unwrap();
    let p = model.probabilities(&rows, 1).unwrap();
    let classes = model.classes();
    let label = table.column("label").unwrap();
    let hits = p.chunks_exact(classes.len()).enumerate().filter(|(row, p)| {
        let best =
            (0..p.len()).fold(0, |best, class| if p[class] > p[best] { class } else { best });
        classes[best] == table.text(*row, label)
    });
    hits.count() as f64 / table.rows() as f64
}

const PLAIN: &str = r#"{"kind":"gbdt"}"#;
const LEAFWISE: &str = r#"{"kind":"gbdt","growth":"leaf","leaves":11,"min_rows":5,"row_share":0.8,
    "column_share":0.7,"learning_rate":0.2,"bins":50}"#;

#[test]
fn trees_are_the_same_bytes_on_every_cpu_and_thread_count() {
    let cases = [
        (2, PLAIN, r#"{"positive":"class_1"}"#, GOLDEN_TWO),
        (3, LEAFWISE, r#"{"weight":"weight","ignore":["id"],"balance":true}"#, GOLDEN_THREE),
    ];
    for (classes, model, more, want) in cases {
        let folder = tempfile::tempdir().unwrap();
        let (train, valid) = (generated(1500, classes, 1), generated(400, classes, 2));
        let args = args(folder.path(), &train, Some(&valid), model, more);
        for isa in Isa::ALL {
            for threads in [1, 2, 7] {
                let Some(cpu) = Cpu::with_isa(Threads(threads), isa) else { continue };
                let place = folder.path().join(format!("{cpu:?}"));
                std::fs::create_dir(&place).unwrap();
                run_on(&cpu, None, args.clone(), &outputs(&place), &mut std::io::sink()).unwrap();
                let digests = ["model", "history"].map(|name| digest(&outputs(&place)[name]));
                assert_eq!(digests.map(|digest| digest[..16].to_owned()), want, "{cpu:?}");
            }
        }
    }
}

const GOLDEN_TWO: [&str; 2] = ["d857a1f289eabae5", "c884e033b6b536ac"];
const GOLDEN_THREE: [&str; 2] = ["38ce6408679b2a02", "d9de985c167d468d"];

#[test]
fn trees_learn_what_no_line_tells_despite_gaps() {
    for (classes, least) in [(2, 0.85), (4, 0.6)] {
        let test = generated(2000, classes, 3);
        let (model, ..) =
            trained(|folder| args(folder, &generated(3000, classes, 1), None, PLAIN, "{}"));
        let reached = accuracy(&model, &test);
        assert!(reached > least, "{reached} with {classes} classes");
    }
}

#[test]
fn the_round_with_the_lowest_validation_loss_is_kept_and_patience_ends_growth() {
    let fast = r#"{"kind":"gbdt","learning_rate":0.8}"#;
    let more = r#"{"epochs":300,"patience":5}"#;
    let (model, history, log) = trained(|folder| {
        args(folder, &generated(300, 2, 1), Some(&generated(300, 2, 2)), fast, more)
    });
    let learned = model.learned();
    assert_eq!(learned.epochs_run, learned.epoch + 5);
    assert!(log.contains("stopped by `patience`"), "{log}");
    assert!(log.contains(&format!("{} trees", learned.epoch)), "{log}");
    let kept: Vec<&str> = history.lines().filter(|line| line.ends_with(",1")).collect();
    assert!(kept.len() == 1 && kept[0].starts_with(&format!("{},", learned.epoch)), "{history}");
    // The saved model, applied to the file, has the loss that the course saw.
    let valid = generated(300, 2, 2);
    let reached = accuracy(&model, &valid);
    assert!((reached - learned.valid_accuracy.unwrap()).abs() < 1e-12);
}

#[test]
fn data_at_the_edge_gives_a_defined_model_or_a_clear_error() {
    let model = |text: &'static str| {
        trained(move |folder| args(folder, text, None, PLAIN, r#"{"ignore":[]}"#)).0
    };
    // Constant and empty columns, fewer rows than features, numbers beyond 32 bits.
    let same = model("a,b,label\n1,,x\n1,,y\n1,,x\n");
    let p = same.probabilities(&[5.0, f64::NAN], 1).unwrap();
    assert!((p[0] - 2.0 / 3.0).abs() < 1e-6, "{p:?}");
    let wide = model("a,b,c,d,label\n1,2,3,1e300,x\n2,1,3,-1e300,y\n");
    assert!(wide.probabilities(&[1.0, 2.0, 3.0, 1e308], 1).unwrap().iter().all(|p| p.is_finite()));
    let at = |text: &str| refusal(text, PLAIN, r#"{"ignore":[]}"#);
    assert!(at("a,label\n1,x\n").contains("every row of `train` has \"label\" = \"x\""));
    assert!(at("a,label\n1,x\n2,\n").contains("line 3, column \"label\": the label is missing"));
    assert!(at("a,label\n1,x\ninf,y\n").contains("\"inf\" is not a finite number"));
    assert!(at("a,label\n1,x\ntall,y\n").contains("line 3, column \"a\": \"tall\""));
}

#[test]
fn senseless_settings_are_refused_by_name() {
    let data = generated(20, 2, 1);
    for (field, want) in [
        (r#""depth":0"#, "`model.depth` is 0; help: 1 to 16"),
        (r#""bins":256"#, "`model.bins` is 256"),
        (r#""leaves":1"#, "`model.leaves` is 1"),
        (r#""learning_rate":0"#, "`model.learning_rate` is 0"),
        (r#""row_share":1.5"#, "`model.row_share` is 1.5"),
        (r#""column_share":0"#, "`model.column_share` is 0"),
        (r#""min_rows":0"#, "`model.min_rows` is 0"),
    ] {
        let message = refusal(&data, &format!("{{\"kind\":\"gbdt\",{field}}}"), "{}");
        assert!(message.contains(want), "{message:?}");
    }
}

#[test]
fn a_damaged_file_of_trees_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let outputs = outputs(folder.path());
    let args = args(folder.path(), &generated(200, 2, 1), None, PLAIN, r#"{"epochs":2}"#);
    run(args, &[], &outputs, 1, &mut std::io::sink()).unwrap();
    let place = outputs["model"].join(crate::model::WEIGHTS_FILE);
    let bytes = std::fs::read(&place).unwrap();
    let model = Model::load(&outputs["model"]).unwrap();
    for index in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[index] ^= 0x81;
        std::fs::write(&place, &damaged).unwrap();
        // Either it is refused, or it is a model that answers.
        if let Ok(other) = Model::load(&outputs["model"]) {
            let _ = other.probabilities(&vec![0.5; model.features().len()], 1);
        }
    }
    std::fs::write(&place, &bytes[..bytes.len() - 1]).unwrap();
    assert!(Model::load(&outputs["model"]).is_err());
}
