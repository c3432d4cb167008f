//! The file is what the model is: checked by ONNX's own checker, and run by onnxruntime beside kiln's own inference.

use std::path::Path;
use std::process::Command;

use kiln_kernels::trees::Tree;
use kiln_kernels::{Cpu, Philox, Threads};

use super::*;
use crate::fixture;
use crate::model::{Document, GbdtSpec, ModelSpec, Preprocessing};
use crate::preprocess::narrowed;
use crate::table::Table;

fn uniform(count: usize, stream: u64, size: f32) -> Vec<f32> {
    let mut out = vec![0.0; count];
    Philox::new(17, stream).fill_uniform(&mut out, -size, size);
    out
}

/// A model of this shape with arbitrary weights.
fn model(features: usize, hidden: &[u32], classes: usize, activation: Activation) -> Model {
    let names = |prefix: &str, count: usize| -> Vec<String> {
        (0..count).map(|index| format!("{prefix}{index}")).collect()
    };
    let head = Head::of(classes);
    let sizes: Vec<usize> = [features]
        .into_iter()
        .chain(hidden.iter().map(|&units| units as usize))
        .chain([head.outputs()])
        .collect();
    let layer = |(index, pair): (usize, &[usize])| Layer {
        inputs: pair[0],
        outputs: pair[1],
        weight: uniform(pair[0] * pair[1], 2 * index as u64, (6.0 / pair[0] as f32).sqrt()),
        bias: uniform(pair[1], 2 * index as u64 + 1, 0.5),
    };
    let layers = sizes.windows(2).enumerate().map(layer).collect();
    let spec = match hidden {
        [] => ModelSpec::Logistic,
        hidden => ModelSpec::Mlp { hidden: hidden.to_vec(), activation, dropout: 0.0 },
    };
    let document = fixture::document(spec, names("class ü", classes), names("f", features));
    let mean = uniform(features, 90, 1e3).into_iter().map(f64::from).collect();
    let scale = uniform(features, 91, 1e2).into_iter().map(|x| f64::from(x).abs() + 0.5).collect();
    let standardisation = Standardisation::from_parts(mean, scale).unwrap();
    Model::new(document, standardisation, Network { layers, activation, head })
}

fn written(folder: &Path, model: &Model) -> Vec<u8> {
    let (place, out) = (folder.join("model"), folder.join("model.onnx"));
    model.save(&place).unwrap();
    let args = Args { model: fixture::tree(&place) };
    let outputs = BTreeMap::from([("out".to_owned(), out.clone())]);
    run(&args, &outputs, &mut io::sink()).unwrap();
    std::fs::read(out).unwrap()
}

#[test]
fn the_output_of_version_1_is_fixed() {
    assert_eq!(VERSION, 1);
    let folder = tempfile::tempdir().unwrap();
    let bytes = written(folder.path(), &model(3, &[4, 2], 3, Activation::Gelu));
    assert_eq!(blake3::hash(&bytes).to_hex()[..16], *"b5d1e13e12c6dbe6");
}

/// Reads rows as binary64, runs the model, and writes each row's label, its probabilities, and what trees add up to.
const RUN: &str = r#"
import sys, struct
import numpy, onnx, onnxruntime
path, table, out = sys.argv[1:]
model = onnx.load(path)
onnx.checker.check_model(model, full_check=True)
wanted = ["label", "probabilities"]
if any("scores" in node.output for node in model.graph.node):
    model.graph.output.append(onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, None))
    wanted.append("scores")
options = onnxruntime.SessionOptions()
options.log_severity_level = 3
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
(given,) = session.get_inputs()
assert given.name == "features" and given.type == "tensor(double)", given
x = numpy.fromfile(table).reshape(-1, given.shape[1])
label, *numbers = session.run(wanted, {"features": x})
with open(out, "w") as to:
    for name, *rows in zip(label, *numbers):
        to.write("\t".join([name] + [repr(float(p)) for row in rows for p in row]) + "\n")
"#;

/// A Python that has onnx and onnxruntime, if there is one.
fn python() -> Option<String> {
    let python = std::env::var("KILN_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let asked = Command::new(&python).args(["-c", "import numpy, onnx, onnxruntime"]).output();
    if asked.is_ok_and(|asked| asked.status.success()) {
        return Some(python);
    }
    println!("skipped: {python} has no onnx and onnxruntime (KILN_TEST_PYTHON names another)");
    None
}

/// What onnxruntime says of the rows: lines as [`RUN`] writes them.
fn theirs(python: &str, folder: &Path, rows: &[f64]) -> String {
    let bytes: Vec<u8> = rows.iter().flat_map(|value| value.to_le_bytes()).collect();
    let (table, out) = (folder.join("table"), folder.join("out"));
    std::fs::write(&table, bytes).unwrap();
    let ran = Command::new(python)
        .args(["-c", RUN])
        .args([&folder.join("model.onnx"), &table, &out])
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    std::fs::read_to_string(&out).unwrap()
}

#[test]
fn onnxruntime_gives_what_kiln_gives() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let shapes: [(usize, &[u32], usize, Activation); 6] = [
        (1, &[], 2, Activation::Relu),
        (7, &[], 5, Activation::Relu),
        (5, &[16], 2, Activation::Relu),
        (5, &[16], 2, Activation::Gelu),
        (9, &[32, 8, 3], 4, Activation::Gelu),
        (30, &[64, 32], 3, Activation::Relu),
    ];
    for (features, hidden, classes, activation) in shapes {
        let model = model(features, hidden, classes, activation);
        written(folder.path(), &model);
        // Rows as far out as data is, and then some that are not of this world.
        let (ordinary, wild) = (300, 100);
        let (standardisation, _) = model.network().unwrap();
        let mut rows: Vec<f64> = Vec::new();
        for (count, size, stream) in [(ordinary, 4.0, 100), (wild, 1e9, 101)] {
            for (index, value) in uniform(count * features, stream, size).into_iter().enumerate() {
                let feature = index % features;
                let (mean, scale) = (standardisation.mean(), standardisation.scale());
                rows.push(f64::from(value) * scale[feature] + mean[feature]);
            }
        }
        let told = theirs(&python, folder.path(), &rows);
        let own = model.probabilities(&rows, 1).unwrap();
        assert_eq!(told.lines().count(), own.len() / classes);
        for (row, (line, own)) in told.lines().zip(own.chunks_exact(classes)).enumerate() {
            let (label, theirs) = line.split_once('\t').unwrap();
            let theirs: Vec<f32> = theirs.split('\t').map(|p| p.parse().unwrap()).collect();
            assert!(theirs.iter().all(|p| p.is_finite()), "{line}");
            if row >= ordinary {
                continue;
            }
            for (theirs, own) in theirs.iter().zip(own) {
                assert!((theirs - own).abs() <= 1e-5, "{hidden:?} {activation:?}: {theirs} {own}");
            }
            let mut best = 0;
            (0..classes).for_each(|class| {
                if own[class] > own[best] {
                    best = class
                }
            });
            let close = own.iter().enumerate().any(|(c, p)| c != best && own[best] - p < 1e-4);
            assert!(close || label == model.classes()[best], "{line} {own:?}");
        }
    }
}

/// Trees of arbitrary shape: some nodes, of which some are single leaves.
fn forest(features: usize, classes: usize, rounds: usize) -> Model {
    let outputs = Head::of(classes).outputs();
    let mut next = 0;
    let mut below = |count: u32| {
        next += 1;
        Philox::new(23, 5).block(next)[0] % count
    };
    let edges = [0.0, -0.0, 1.5, -1e30, 1e-41, f32::MAX, f32::MIN, 1.0, -7.25];
    let tree = |below: &mut dyn FnMut(u32) -> u32| {
        let mut nodes = vec![Node::leaf(0.0)];
        let splits = below(9);
        for _ in 0..splits {
            let open: Vec<usize> = (0..nodes.len()).filter(|&at| nodes[at].is_leaf()).collect();
            // Children come after their parent.
            let at = open[below(open.len() as u32) as usize];
            let left = nodes.len() as u32;
            nodes[at] = Node {
                feature: below(features as u32),
                threshold: edges[below(edges.len() as u32) as usize],
                missing_left: below(2) == 0,
                left,
                value: 0.0,
            };
            nodes.extend([Node::leaf(0.0), Node::leaf(0.0)]);
        }
        for node in nodes.iter_mut().filter(|node| node.is_leaf()) {
            node.value = (below(4001) as f32 - 2000.0) / 8192.0;
        }
        Tree { nodes }
    };
    let trees = (0..rounds * outputs).map(|_| tree(&mut below)).collect();
    let start = (0..outputs).map(|output| output as f32 / 4.0 - 0.25).collect();
    let names = |prefix: &str, count: usize| -> Vec<String> {
        (0..count).map(|index| format!("{prefix}{index}")).collect()
    };
    let spec = ModelSpec::Gbdt(GbdtSpec::default());
    let document = fixture::document(spec, names("class ü", classes), names("f", features));
    let document = Document { preprocessing: Preprocessing::AsIs, ..document };
    Model::of_trees(document, Trees::new(start, trees, features).unwrap())
}

#[test]
fn the_trees_of_version_1_are_fixed() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = written(folder.path(), &forest(3, 3, 4));
    assert_eq!(blake3::hash(&bytes).to_hex()[..16], *"645357ea6725e547");
}

#[test]
fn onnxruntime_reaches_the_same_leaves_from_whatever_a_row_holds() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    // Thresholds, what lies beside them, and what is no ordinary number at all.
    let odd = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        0.0,
        -0.0,
        1.5,
        1.500_000_1,
        1.5 + 1e-12,
        -1e30,
        -7.25,
        -7.3,
        1e-41,
        1.1e-41,
        5e-324,
        1e300,
        -1e300,
        f64::from(f32::MAX),
        f64::from(f32::MIN),
        1.0,
        1.0 - 1e-9,
        0.3,
    ];
    for (features, classes, rounds) in [(1, 2, 1), (4, 2, 60), (6, 3, 25), (9, 5, 40)] {
        let model = forest(features, classes, rounds);
        written(folder.path(), &model);
        let count = 600;
        let rows: Vec<f64> = (0..count * features)
            .map(|at| odd[Philox::new(29, 6).block(at as u64)[0] as usize % odd.len()])
            .collect();
        agrees(&python, folder.path(), &model, &rows);
    }
}

#[test]
fn onnxruntime_gives_what_trained_trees_give() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| (name.to_owned(), folder.path().join(name));
    let table = serde_json::json!({"table": "fraud", "rows": 4000, "seed": 3});
    let table = serde_json::from_value(table).unwrap();
    let outputs = BTreeMap::from(["data", "optimum", "probabilities"].map(place));
    crate::generate::run(&table, &outputs, 1, &mut io::sink()).unwrap();
    let data = fixture::file(folder.path(), "data.csv", std::fs::read(&outputs["data"]).unwrap());
    let args = serde_json::json!({
        "train": data, "label": "fraud", "model": {"kind": "gbdt", "depth": 6}, "epochs": 25,
    });
    let outputs = BTreeMap::from(["model", "history"].map(place));
    crate::train::run(serde_json::from_value(args).unwrap(), &[], &outputs, 1, &mut io::sink())
        .unwrap();
    let model = Model::load(&outputs["model"]).unwrap();
    let args = Args { model: fixture::tree(&outputs["model"]) };
    let out = BTreeMap::from([("out".to_owned(), folder.path().join("model.onnx"))]);
    run(&args, &out, &mut io::sink()).unwrap();
    let rows = model.rows(&Table::read_csv(&data.path).unwrap()).unwrap();
    assert!(rows.iter().any(|value| value.is_nan()), "some values are missing");
    agrees(&python, folder.path(), &model, &rows);
}

/// Holds onnxruntime's scores, probabilities and labels of the rows to the trees' own. A score is near only if the leaves are
/// the same.
fn agrees(python: &str, folder: &Path, model: &Model, rows: &[f64]) {
    let classes = model.classes().len();
    let told = theirs(python, folder, rows);
    let own = model.probabilities(rows, 1).unwrap();
    let trees = model.trees().unwrap();
    let outputs = trees.start().len();
    let scores = trees.scores(&Cpu::new(Threads(1)), &narrowed(rows), model.features().len());
    assert_eq!(told.lines().count(), own.len() / classes);
    let own = own.chunks_exact(classes).zip(scores.chunks_exact(outputs));
    for (line, (own, scores)) in told.lines().zip(own) {
        let (label, theirs) = line.split_once('\t').unwrap();
        let theirs: Vec<f32> = theirs.split('\t').map(|number| number.parse().unwrap()).collect();
        assert_eq!(theirs.len(), classes + outputs, "{line}");
        for (theirs, own) in theirs.iter().zip(own.iter().chain(scores)) {
            assert!((theirs - own).abs() <= 1e-5, "{line} {own:?} {scores:?}");
        }
        let best = (1..classes).fold(0, |best, at| if own[at] > own[best] { at } else { best });
        let close = own.iter().enumerate().any(|(at, p)| at != best && own[best] - p < 1e-5);
        assert!(close || label == model.classes()[best], "{line} {own:?}");
    }
}
