//! What the builder promises: the same bytes everywhere, real optima, and clear refusals.

use std::fmt::Write as _;
use std::path::Path;

use kiln_kernels::{Isa, Philox};

use super::*;
use crate::fixture::{digest, file};
use crate::model::Activation;
use crate::preprocess::matrix;
use crate::table::Table;

/// `rows` rows of `features` numbers of different scales that share a few causes, an `id`, and a
/// label with `classes` values that depends on the causes, not always and not linearly.
fn generated(rows: usize, features: usize, classes: usize, seed: u64) -> String {
    let mut text = "id".to_owned();
    (0..features).for_each(|f| write!(text, ",f{f}").unwrap());
    text.push_str(",label\n");
    let mut mixing = vec![0.0f32; features * 4];
    Philox::new(99, 0).fill_uniform(&mut mixing, -1.0, 1.0);
    for row in 0..rows {
        let mut random = vec![0.0f32; features + 5];
        Philox::new(seed, row as u64).fill_uniform(&mut random, -1.0, 1.0);
        write!(text, "{row}").unwrap();
        let (causes, noise) = random.split_at(4);
        for f in 0..features {
            let shared: f32 = (0..4).map(|c| mixing[f * 4 + c] * causes[c]).sum();
            let value = (shared + 0.3 * noise[f]) * 10f32.powi(f as i32 % 7 - 3) + f as f32;
            write!(text, ",{value}").unwrap();
        }
        let score = causes[0] + 0.5 * causes[1] * causes[2] + 0.1 * noise[features] + 1.0;
        let class = ((score / 2.0 * classes as f32) as usize).min(classes - 1);
        writeln!(text, ",class_{class}").unwrap();
    }
    text
}

fn logistic(train: Input, valid: Option<Input>) -> Args {
    Args {
        train,
        valid,
        label: "label".to_owned(),
        positive: None,
        ignore: vec!["id".to_owned()],
        model: ModelSpec::Logistic,
        epochs: 200,
        batch: 32,
        learning_rate: 0.001,
        l2: 1.0,
        seed: 7,
        patience: None,
        optimizer: Optimizer::Adam,
        schedule: Schedule::Constant,
        weight: None,
        class_weights: None,
        balance: false,
        backend: None,
    }
}

fn perceptron(hidden: &[u32]) -> ModelSpec {
    ModelSpec::Mlp { hidden: hidden.to_vec(), activation: Activation::Relu, dropout: 0.0 }
}

fn mlp(train: Input, valid: Option<Input>, hidden: &[u32], epochs: u32) -> Args {
    let model = perceptron(hidden);
    Args { model, epochs, learning_rate: 0.01, ..logistic(train, valid) }
}

/// Where a test's outputs go.
fn outputs(folder: &Path, name: &str) -> BTreeMap<String, PathBuf> {
    let path = |output: &str| folder.join(format!("{name}.{output}"));
    [("model", path("model")), ("history", path("history.csv"))]
        .map(|(name, path)| (name.to_owned(), path))
        .into()
}

/// Trains on `cpu`; the digests of model and history.
fn digests(cpu: &Cpu, folder: &Path, args: &Args) -> [String; 2] {
    let outputs = outputs(folder, &format!("{cpu:?}"));
    run_on(cpu, None, args.clone(), &outputs, &mut io::sink()).unwrap();
    ["model", "history"].map(|name| digest(&outputs[name])[..16].to_owned())
}

fn trained(folder: &Path, args: Args) -> (Model, String, String) {
    let (outputs, mut log) = (outputs(folder, "out"), Vec::new());
    run(args, &[], &outputs, 2, &mut log).unwrap();
    let history = std::fs::read_to_string(&outputs["history"]).unwrap();
    (Model::load(&outputs["model"]).unwrap(), history, String::from_utf8(log).unwrap())
}

fn refusal(args: Args) -> String {
    let folder = tempfile::tempdir().unwrap();
    run(args, &[], &outputs(folder.path(), "out"), 1, &mut io::sink()).unwrap_err().to_string()
}

fn assert_golden(args: impl Fn(&Path) -> Args, want: [&str; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let args = args(folder.path());
    for isa in Isa::ALL {
        for threads in [1, 2, 7] {
            if let Some(cpu) = Cpu::with_isa(Threads(threads), isa) {
                assert_eq!(digests(&cpu, folder.path(), &args), want, "{cpu:?}");
            }
        }
    }
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let train = || file(tempfile::tempdir().unwrap().path(), "train.csv", "label,x\n");
    let cases: [(Args, &str); 3] = [
        (
            Args { optimizer: Optimizer::Sgd { momentum: 1.0 }, ..logistic(train(), None) },
            "`optimizer.momentum` is 1",
        ),
        (
            Args {
                balance: true,
                class_weights: Some([("a".to_owned(), 1.0)].into()),
                ..logistic(train(), None)
            },
            "not both",
        ),
        (
            Args {
                model: ModelSpec::Mlp {
                    hidden: vec![2],
                    activation: Activation::Relu,
                    dropout: f64::NAN,
                },
                ..logistic(train(), None)
            },
            "`model.dropout` is NaN",
        ),
    ];
    for (args, told) in cases {
        let refusal = refusal(args);
        assert!(refusal.contains(told), "{refusal}");
    }
}

#[test]
fn a_small_perceptron_is_the_same_bytes_on_every_cpu_and_thread_count() {
    let args = |folder: &Path| {
        let train = file(folder, "train.csv", generated(150, 5, 2, 1));
        let valid = file(folder, "valid.csv", generated(50, 5, 2, 2));
        mlp(train, Some(valid), &[8], 10)
    };
    assert_golden(args, ["a60c4e84363ee406", "d499fc6b14759a84"]);
}

#[test]
fn gelu_dropout_weights_descent_and_a_cosine_are_the_same_bytes_on_every_cpu_and_thread_count() {
    let args = |folder: &Path| {
        let train = file(folder, "train.csv", generated(150, 5, 3, 1));
        let valid = file(folder, "valid.csv", generated(50, 5, 3, 2));
        let hidden = vec![16, 8];
        let model = ModelSpec::Mlp { hidden, activation: Activation::Gelu, dropout: 0.25 };
        Args {
            model,
            optimizer: Optimizer::Sgd { momentum: 0.9 },
            schedule: Schedule::Cosine,
            weight: Some("f4".to_owned()),
            class_weights: Some([("class_1".to_owned(), 0.5)].into()),
            ..mlp(train, Some(valid), &[1], 10)
        }
    };
    // Weights are 0 or more.
    let args = |folder: &Path| {
        let args = args(folder);
        for path in ["train.csv", "valid.csv"] {
            let path = folder.join(path);
            let text = std::fs::read_to_string(&path).unwrap().replace(",-", ",");
            std::fs::write(&path, text).unwrap();
        }
        args
    };
    assert_golden(args, ["5d0eb440eac8c43e", "c9e8826554216c0e"]);
}

/// The mean loss on rows of one class, and of all.
fn losses(model: &Model, text: &str, class: &str) -> (f64, f64) {
    let table = Table::parse(text.as_bytes().to_vec()).unwrap();
    let rows = matrix(&table, model.features()).unwrap();
    let probabilities = model.probabilities(&rows, 1).unwrap();
    let label = table.column("label").unwrap();
    let (mut own, mut count, mut all) = (0.0, 0.0, 0.0);
    for (row, given) in probabilities.chunks_exact(model.classes().len()).enumerate() {
        let text = table.text(row, label);
        let place = model.classes().iter().position(|name| name == text).unwrap();
        let loss = -f64::from(given[place]).ln();
        all += loss / table.rows() as f64;
        if text == class {
            own += loss;
            count += 1.0;
        }
    }
    (own / count, all)
}

#[test]
fn a_row_of_weight_two_counts_as_two_rows_and_a_class_of_weight_nought_as_none() {
    let folder = tempfile::tempdir().unwrap();
    let text = generated(120, 4, 2, 5);
    let (header, rows) = text.split_once('\n').unwrap();
    let (mut weighted, mut doubled) = (format!("{header},w\n"), format!("{header},w\n"));
    for (index, row) in rows.lines().enumerate() {
        let twice = index % 3 == 0;
        writeln!(weighted, "{row},{}", 1 + u8::from(twice)).unwrap();
        (0..=usize::from(twice)).for_each(|_| writeln!(doubled, "{row},7").unwrap());
    }
    let fitted = |name: &str, text: &str| {
        let args = logistic(file(folder.path(), name, text), None);
        // The penalty is the same for one and the other: l2 / rows.
        let rows = text.lines().count() - 1;
        trained(folder.path(), Args { weight: Some("w".into()), l2: rows as f64 / 100.0, ..args }).0
    };
    let (one, other) = (fitted("weighted.csv", &weighted), fitted("doubled.csv", &doubled));
    // Each was standardised by its own rows, so it is what they predict that is compared.
    let table = Table::parse(weighted.into_bytes()).unwrap();
    let rows = matrix(&table, one.features()).unwrap();
    assert!(!one.features().contains(&"w".to_owned()));
    let (one, other) =
        (one.probabilities(&rows, 1).unwrap(), other.probabilities(&rows, 1).unwrap());
    let apart = one.iter().zip(&other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart < 0.01, "{apart}");

    let lean = |weight: f64| {
        let args = logistic(file(folder.path(), "train.csv", text.clone()), None);
        let class_weights = Some([("class_0".to_owned(), weight)].into());
        trained(folder.path(), Args { class_weights, ..args }).0
    };
    let (heavy, _) = losses(&lean(50.0), &text, "class_0");
    let (light, _) = losses(&lean(0.02), &text, "class_0");
    assert!(heavy < 0.2 && light > 1.0, "{heavy} {light}");
}

#[test]
fn a_balanced_model_does_not_pass_over_the_rare_class() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = "id,f0,label\n".to_owned();
    let mut noise = vec![0.0f32; 400];
    Philox::new(3, 0).fill_uniform(&mut noise, -1.0, 1.0);
    for (row, noise) in noise.iter().enumerate() {
        let (centre, label) = if row % 20 == 0 { (0.6, "rare") } else { (0.0, "usual") };
        writeln!(text, "{row},{},{label}", centre + noise).unwrap();
    }
    let fitted = |balance: bool| {
        let args = logistic(file(folder.path(), "train.csv", text.clone()), None);
        trained(folder.path(), Args { balance, ..args }).0
    };
    let (plain, plain_all) = losses(&fitted(false), &text, "rare");
    let (balanced, balanced_all) = losses(&fitted(true), &text, "rare");
    assert!(balanced < 0.5 * plain && balanced_all > plain_all, "{balanced} {plain}");
}

#[test]
fn every_way_of_training_learns() {
    let folder = tempfile::tempdir().unwrap();
    let text = generated(600, 6, 2, 8);
    for activation in [Activation::Relu, Activation::Gelu] {
        for optimizer in [Optimizer::Adam, Optimizer::Sgd { momentum: 0.9 }] {
            for schedule in [Schedule::Constant, Schedule::Cosine] {
                for dropout in [0.0, 0.2] {
                    let model = ModelSpec::Mlp { hidden: vec![24, 12], activation, dropout };
                    let train = file(folder.path(), "train.csv", text.clone());
                    let args = Args { model, optimizer, schedule, ..mlp(train, None, &[1], 30) };
                    let learned = trained(folder.path(), args).0.learned().train_accuracy;
                    assert!(
                        learned > 0.85,
                        "{activation:?} {optimizer:?} {schedule:?} {dropout}: {learned}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_perceptron_on_thirty_measurements_is_the_same_bytes_on_every_cpu_and_thread_count() {
    let args = |folder: &Path| {
        let train = file(folder, "train.csv", generated(400, 30, 2, 3));
        let valid = file(folder, "valid.csv", generated(85, 30, 2, 4));
        let args = mlp(train, Some(valid), &[64, 32], 3);
        Args { positive: Some("class_1".to_owned()), ..args }
    };
    assert_golden(args, ["298253c4a0f696a2", "972a82ba581b3c7f"]);
}

#[test]
fn a_batch_large_enough_for_threads_is_the_same_bytes_on_every_cpu_and_thread_count() {
    let args = |folder: &Path| {
        let train = file(folder, "train.csv", generated(700, 12, 3, 5));
        let args = mlp(train, None, &[96, 64], 1);
        Args { batch: 700, ..args }
    };
    assert_golden(args, ["c7abeeade22545dd", "c149e25418e236a2"]);
}

#[test]
fn logistic_regression_is_the_same_bytes_on_every_cpu_and_thread_count() {
    let two = |folder: &Path| {
        let train = file(folder, "train.csv", generated(400, 30, 2, 6));
        logistic(train, Some(file(folder, "valid.csv", generated(85, 30, 2, 7))))
    };
    assert_golden(two, ["8e57e90c4dfc4c56", "90bc95260773e573"]);
    let four = |folder: &Path| logistic(file(folder, "t.csv", generated(300, 6, 4, 8)), None);
    assert_golden(four, ["03bca26f50bae8e7", "7e932e392782306f"]);
}

/// The optimum is where the objective's gradient vanishes; computed here in 64 bits, apart from the
/// trainer, from the probabilities that the saved model gives.
#[test]
fn logistic_regression_reaches_the_optimum_of_its_objective() {
    for classes in [2, 4] {
        let folder = tempfile::tempdir().unwrap();
        let text = generated(300, 8, classes, 9);
        let train = file(folder.path(), "train.csv", &text);
        let (model, _, log) = trained(folder.path(), logistic(train, None));
        assert!(log.contains("converged (largest gradient"), "{log}");
        let table = Table::parse(text.into_bytes()).unwrap();
        let rows = matrix(&table, model.features()).unwrap();
        let p = model.probabilities(&rows, 1).unwrap();
        let x = Standard::of(&rows, 8);
        let label = table.column("label").unwrap();
        let weights = Weights::read(&outputs(folder.path(), "out")["model"]);
        for output in 0..weights.outputs {
            // With two classes there is one output, for the second.
            let class = if classes == 2 { 1 } else { output };
            let residual = |row: usize| {
                let is = table.text(row, label) == model.classes()[class];
                f64::from(p[row * classes + class]) - f64::from(u8::from(is))
            };
            let mean = |f: &dyn Fn(usize) -> f64| (0..300).map(f).sum::<f64>() / 300.0;
            assert!(mean(&residual).abs() < 5e-6);
            for feature in 0..8 {
                let data = mean(&|row| residual(row) * x.0[row * 8 + feature]);
                let penalty = weights.at(feature, output) / 300.0;
                assert!((data + penalty).abs() < 5e-6, "{data} {penalty}");
            }
        }
    }
}

/// Columns moved to mean 0 and deviation 1.
struct Standard(Vec<f64>);

impl Standard {
    fn of(rows: &[f64], width: usize) -> Standard {
        let mut out = rows.to_vec();
        let count = (rows.len() / width) as f64;
        for f in 0..width {
            let mean = rows.iter().skip(f).step_by(width).sum::<f64>() / count;
            let squares = rows.iter().skip(f).step_by(width).map(|v| (v - mean).powi(2));
            let deviation = (squares.sum::<f64>() / count).sqrt();
            out.iter_mut().skip(f).step_by(width).for_each(|v| *v = (*v - mean) / deviation);
        }
        Standard(out)
    }
}

/// The first layer's weights as the file has them: what another program would read.
struct Weights {
    outputs: usize,
    values: Vec<f32>,
}

impl Weights {
    fn read(model: &Path) -> Weights {
        let bytes = std::fs::read(model.join(crate::model::WEIGHTS_FILE)).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let view = file.tensor("layers.0.weight").unwrap();
        let values = view.data().chunks(4).map(|c| f32::from_le_bytes(c.try_into().unwrap()));
        Weights { outputs: view.shape()[1], values: values.collect() }
    }

    fn at(&self, input: usize, output: usize) -> f64 {
        f64::from(self.values[input * self.outputs + output])
    }
}

#[test]
fn a_perceptron_learns_what_no_line_separates() {
    let xor = |seed: u64, rows: usize| {
        let mut text = "a,b,label\n".to_owned();
        for row in 0..rows {
            let mut at = [0.0f32; 2];
            Philox::new(seed, row as u64).fill_uniform(&mut at, -1.0, 1.0);
            let label = if (at[0] > 0.0) == (at[1] > 0.0) { "same" } else { "other" };
            writeln!(text, "{},{},{label}", at[0], at[1]).unwrap();
        }
        text
    };
    let folder = tempfile::tempdir().unwrap();
    let parts = || {
        let valid = file(folder.path(), "valid.csv", xor(2, 200));
        (file(folder.path(), "train.csv", xor(1, 400)), Some(valid))
    };
    let (train, valid) = parts();
    let args = Args { ignore: vec![], ..mlp(train, valid, &[16], 60) };
    let (model, history, log) = trained(folder.path(), args);
    assert!(model.learned().valid_accuracy.unwrap() > 0.95, "{:?}", model.learned());
    assert_eq!(history.lines().count(), 61);
    assert_eq!(log.lines().filter(|line| line.starts_with("epoch ")).count(), 60);
    let (train, valid) = parts();
    let (model, ..) = trained(folder.path(), Args { ignore: vec![], ..logistic(train, valid) });
    assert!(model.learned().valid_accuracy.unwrap() < 0.7, "{:?}", model.learned());
}

#[test]
fn the_best_validation_epoch_is_kept_and_patience_ends_training() {
    let folder = tempfile::tempdir().unwrap();
    // Few rows and many units: it learns them by heart, and the validation loss turns up again.
    let train = file(folder.path(), "train.csv", generated(30, 10, 2, 10));
    let valid = file(folder.path(), "valid.csv", generated(200, 10, 2, 11));
    let args = Args { patience: Some(5), l2: 0.0, ..mlp(train, Some(valid), &[64], 500) };
    let (model, history, log) = trained(folder.path(), args);
    let learned = model.learned();
    assert!(learned.epochs_run < 500 && learned.epochs_run == learned.epoch + 5, "{learned:?}");
    assert!(log.contains("stopped by `patience`: no validation loss since epoch"), "{log}");
    let valid_loss = |line: &str| line.split(',').nth(3).unwrap().parse::<f64>().unwrap();
    let kept: Vec<&str> = history.lines().filter(|line| line.ends_with(",1")).collect();
    assert_eq!(kept.len(), 1, "{history}");
    assert!(kept[0].starts_with(&format!("{},", learned.epoch)));
    let loss = valid_loss(kept[0]);
    assert!(history.lines().skip(1).all(|line| loss <= valid_loss(line)), "{history}");
    assert!((loss - learned.valid_loss.unwrap()).abs() < 1e-6);
}

#[test]
fn the_seed_decides_and_the_inputs_place_does_not() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let cpu = Cpu::new(Threads(1));
    let train = |folder: &Path, seed: u64| {
        let train = file(folder, &format!("{seed}.csv"), generated(60, 4, 3, 12));
        digests(&cpu, folder, &Args { seed, ..mlp(train, None, &[4], 2) })
    };
    let [here, there] = [0, 1].map(|index: usize| train(folders[index].path(), 1));
    assert_eq!(here, there);
    assert_ne!(here, train(folders[0].path(), 2));
}

#[test]
fn a_step_size_that_explodes_is_named_with_its_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let train = file(folder.path(), "train.csv", generated(60, 4, 2, 13));
    let message = refusal(Args { learning_rate: 1e30, ..mlp(train, None, &[8, 8], 5) });
    assert!(message.contains("diverged in epoch 1"), "{message}");
    assert!(message.contains("help: lower learning_rate (it is 1"), "{message}");
}

#[test]
fn data_that_cannot_be_learned_from_is_refused_with_place_and_help() {
    let folder = tempfile::tempdir().unwrap();
    let input = |text: &str| file(folder.path(), "train.csv", text);
    let good = "id,a,label\n1,2,x\n2,3,y\n";
    let with = |text: &str| refusal(logistic(input(text), None));
    let valid =
        |text: &str| refusal(logistic(input(good), Some(file(folder.path(), "valid.csv", text))));
    let named = |label: &str| Args { label: label.to_owned(), ..logistic(input(good), None) };
    let positive = |text: &str, name: &str| Args {
        positive: Some(name.to_owned()),
        ..logistic(input(text), None)
    };
    let ignoring = |names: &[&str]| Args {
        ignore: names.iter().map(|&name| name.to_owned()).collect(),
        ..logistic(input(good), None)
    };
    let cases = [
        (
            refusal(named("lable")),
            "in `train`: there is no column \"lable\"; help: did you mean \"label\"?",
        ),
        (with("id,a,label\n"), "`train` has a header and no rows"),
        (with("id,a,label\n1,2,x\n2,3,x\n"), "every row of `train` has \"label\" = \"x\"; help:"),
        (
            with("id,a,label\n1,2,x\n2,,y\n"),
            "in `train`: line 3, column \"a\": the value is missing",
        ),
        (
            with("id,a,label\n1,2,x\n2,tall,y\n"),
            "line 3, column \"a\": \"tall\" is not a finite number",
        ),
        (
            with("id,a,label\n1,2,x\n2,3, \n"),
            "in `train`: line 3, column \"label\": the label is missing",
        ),
        (refusal(ignoring(&["id", "label"])), "`ignore` names the label"),
        (refusal(ignoring(&["id", "a"])), "`train` has no features"),
        (refusal(ignoring(&["ib"])), "`ignore` names a column that `train` has not"),
        (refusal(positive(good, "z")), "`positive` is \"z\", which \"label\" never is; help:"),
        (
            refusal(positive("id,a,label\n1,2,x\n2,3,y\n3,4,z\n", "x")),
            "`positive` is for two classes",
        ),
        (
            valid("id,a,label\n1,2,x\n2,3,w\n"),
            "in `valid`: line 3, column \"label\": \"w\" does not occur",
        ),
        (valid("id,b,label\n1,2,x\n"), "`valid` has a column \"b\" that `train` has not"),
        (valid("id,label\n1,x\n"), "in `valid`: there is no column \"a\""),
        (valid("id,a,label\n"), "`valid` has a header and no rows"),
    ];
    for (message, want) in cases {
        assert!(message.contains(want), "{message:?} does not contain {want:?}");
    }
    let mut ids = "id,a,label\n".to_owned();
    (0..50).for_each(|row| writeln!(ids, "{row},{row},{row}").unwrap());
    assert!(with(&ids).contains("50 different values in 50 rows"));
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let text = generated(20, 2, 2, 14);
    let args = || {
        let train = file(folder.path(), "train.csv", &text);
        mlp(train, None, &[4], 5)
    };
    let hidden = perceptron;
    let cases = [
        (Args { epochs: 0, ..args() }, "`epochs` is 0"),
        (Args { batch: 0, ..args() }, "`batch` is 0"),
        (Args { learning_rate: -1.0, ..args() }, "`learning_rate` is -1"),
        (Args { learning_rate: f64::NAN, ..args() }, "`learning_rate` is NaN"),
        (Args { l2: -0.5, ..args() }, "`l2` is -0.5"),
        (Args { patience: Some(3), ..args() }, "`patience` watches the validation loss"),
        (Args { model: hidden(&[]), ..args() }, "`model.hidden` is []"),
        (Args { model: hidden(&[4, 0]), ..args() }, "`model.hidden` is [4, 0]"),
        (Args { model: hidden(&[u32::MAX, u32::MAX]), ..args() }, "fewer units"),
    ];
    for (args, want) in cases {
        let message = refusal(args);
        assert!(message.contains(want), "{message:?} does not contain {want:?}");
    }
}

#[test]
fn arguments_parse_from_json_and_unknown_ones_are_refused() {
    let input = r#"{"path":"t.csv","kind":"file","digest":"00","executable":false}"#;
    let parse = |rest: &str| {
        let text = format!(r#"{{"train":{input},"label":"y","epochs":3,{rest}}}"#);
        serde_json::from_str::<Args>(&text)
    };
    let args =
        parse(r#""valid":null,"patience":null,"model":{"kind":"mlp","hidden":[4]}"#).unwrap();
    assert_eq!((args.batch, args.learning_rate, args.l2, args.seed), (32, 0.001, 1.0, 0));
    assert_eq!(parse(r#""model":{"kind":"logistic"}"#).unwrap().model, ModelSpec::Logistic);
    assert!(parse(r#""model":{"kind":"logistic"},"epoch":4"#).is_err());
    assert!(parse(r#""model":{"kind":"forest"}"#).is_err());
}

/// The kernels' own sources, on a device that is this CPU: the same model, curve and all, as the CPU trainer makes.
#[test]
fn training_on_a_device_is_the_same_bytes_as_on_a_cpu() {
    use kiln_kernels::emulator::{Emulator, EmulatorError};
    use kiln_kernels::launch::SOURCES;
    let folder = tempfile::tempdir().unwrap();
    let mut emulator = match Emulator::compile(folder.path(), &SOURCES) {
        Ok(emulator) => emulator,
        Err(EmulatorError::NoCompiler) => {
            println!("skipped: there is no C++ compiler on this machine");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let part = |name: &str, rows: usize, classes: usize, seed: u64| {
        // Weights are 0 or more.
        file(folder.path(), name, generated(rows, 5, classes, seed).replace(",-", ","))
    };
    let two = || mlp(part("t2.csv", 150, 2, 1), Some(part("v2.csv", 50, 2, 2)), &[8], 4);
    let three = || mlp(part("t3.csv", 150, 3, 1), Some(part("v3.csv", 50, 3, 2)), &[16, 8], 3);
    let gelu = ModelSpec::Mlp { hidden: vec![16, 8], activation: Activation::Gelu, dropout: 0.25 };
    let relu = ModelSpec::Mlp { hidden: vec![9], activation: Activation::Relu, dropout: 0.5 };
    let cases = [
        two(),
        Args { model: relu, batch: 150, ..two() },
        Args { batch: 1000, valid: None, ..three() },
        Args {
            model: gelu,
            optimizer: Optimizer::Sgd { momentum: 0.9 },
            schedule: Schedule::Cosine,
            weight: Some("f4".to_owned()),
            class_weights: Some([("class_1".to_owned(), 0.5)].into()),
            ..three()
        },
    ];
    let cpu = Cpu::new(Threads(1));
    for (args, multiprocessors) in cases.iter().zip([1, 4, 132, 132]) {
        emulator = emulator.with_multiprocessors(multiprocessors);
        let outputs = outputs(folder.path(), "device");
        run_on(&cpu, Some(&emulator), args.clone(), &outputs, &mut io::sink()).unwrap();
        let found = ["model", "history"].map(|name| digest(&outputs[name])[..16].to_owned());
        assert_eq!(found, digests(&cpu, folder.path(), args), "{:?}", args.model);
        std::fs::remove_dir_all(&outputs["model"]).unwrap();
        std::fs::remove_dir_all(
            &super::tests::outputs(folder.path(), &format!("{cpu:?}"))["model"],
        )
        .unwrap();
    }
}

#[test]
fn a_backend_that_cannot_be_used_is_an_error_and_auto_takes_the_cpu_and_says_so_once() {
    let folder = tempfile::tempdir().unwrap();
    let data = || file(folder.path(), "train.csv", generated(60, 4, 2, 1));
    let cuda = |args: Args| refusal(Args { backend: Some(Backend::Cuda), ..args });
    assert!(cuda(logistic(data(), None)).contains("`logistic` is trained on the CPU only"));
    let on = |backend| {
        let args = Args { backend, ..mlp(data(), None, &[4], 2) };
        let (model, _, log) = trained(folder.path(), args);
        let digest = digest(&outputs(folder.path(), "out")["model"]);
        std::fs::remove_dir_all(&outputs(folder.path(), "out")["model"]).unwrap();
        drop(model);
        (digest, log)
    };
    let (plain, quiet) = on(None);
    let (named, _) = on(Some(Backend::Cpu));
    let (auto, log) = on(Some(Backend::Auto));
    assert_eq!((&plain, &plain), (&named, &auto));
    assert!(!quiet.contains("backend"), "{quiet}");
    // Without a library a step never takes a GPU, whatever this machine has.
    assert_eq!(log.matches("backend: cpu, since ").count(), 1, "{log}");
    let told = cuda(mlp(data(), None, &[4], 2));
    assert!(told.starts_with("`backend` is \"cuda\""), "{told}");
    if kiln_kernels::gpu::count().is_err() {
        assert!(told.contains("help: "), "{told}");
    }
}
