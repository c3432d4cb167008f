//! What a right recipe means.

use std::time::{Duration, Instant};

use insta::assert_snapshot;

use super::{builders::TUMOUR, evaluated, graph};
use crate::graph::{
    Absent, Availability, Determinism, Graph, Origin, Part, Reference, SourceId, StepId, Tolerance,
    Toolchain, Value,
};

/// Everything about a step that its key or its behaviour depends on, without names and places.
fn erased(graph: &Graph) -> Vec<String> {
    let mut steps: Vec<String> = graph
        .steps
        .iter()
        .map(|step| {
            let mut step = step.clone();
            step.name = String::new();
            step.params.clear();
            step.at.span = 0..0;
            for (_, at) in &mut step.files {
                at.span = 0..0;
            }
            format!("{step:?}")
        })
        .collect();
    steps.sort_unstable();
    steps
}

#[test]
fn the_tumour_pipeline_is_a_graph_in_order() {
    let graph = evaluated(TUMOUR, &[]).unwrap();
    let lines: Vec<String> = graph
        .steps
        .iter()
        .map(|step| {
            let inputs: Vec<String> = step.inputs.iter().map(|&input| graph.spell(input)).collect();
            let outputs: Vec<&str> =
                step.outputs.iter().map(|output| output.name.as_str()).collect();
            format!(
                "{} = {}({}) -> {}",
                step.name,
                step.builder,
                inputs.join(", "),
                outputs.join(", ")
            )
        })
        .chain(graph.deployments.iter().map(|deploy| {
            format!("{} <- {} after {:?}", deploy.name, graph.spell(deploy.release), deploy.after)
        }))
        .chain([format!("{:?}", graph.params)])
        .collect();
    assert_snapshot!(lines.join("\n"), @r###"
    check = validate@1(sources.checks, sources.data) -> data, report
    split = split@1(check.data) -> test, train, valid
    train = train@2(split.train, split.valid) -> curve, model
    quality = evaluate@3(sources.base, split.test, train.model) -> baseline, model, report
    plot = command@1(quality.report) -> png
    release = package@1(check.report, quality.model, quality.report) -> out
    staging <- release after None
    production <- release after Some("staging")
    {"epochs": "60", "hidden": "[64, 32]", "min_f1": "0.92"}
    "###);
}

#[test]
fn defaults_are_filled_in_and_writing_them_out_changes_nothing() {
    let short = graph(
        "sources.d = \"d\"\n[steps.t]\nbuilder = \"train\"\ntrain = \"${sources.d}\"\nlabel = \"y\"",
    );
    let long = graph(
        "sources.d = \"d\"\n[steps.t]\nbuilder = \"train\"\ntrain = \"${sources.d}\"\nlabel = \"y\"\n\
         ignore = []\nmodel = { kind = \"logistic\", c = 1 }\nepochs = 20\nrate = 0.1\nloss = \"log\"\n\
         shuffle = true\ncpus = 1\ndeterminism = \"bitwise\"",
    );
    assert_eq!(erased(&short), erased(&long));
    let args = &short.steps[0].args;
    assert_eq!(args["rate"], Value::Float(0.1));
    assert_eq!(args["epochs"], Value::Int(20));
    assert!(!args.contains_key("valid"), "an absent optional argument is left out");
    let Value::Table(model) = &args["model"] else { panic!("{args:?}") };
    assert_eq!(model["kind"], Value::text("logistic"));
    assert_eq!(model["c"], Value::Float(1.0));
}

#[test]
fn implementation_arguments_stand_apart_and_are_edges_all_the_same() {
    let graph = graph(
        "sources.d = \"d\"\nsources.k = \"k\"\n[steps.t]\nbuilder = \"train\"\ntrain = \"${sources.d}\"\n\
         label = \"y\"\nkernels = \"${sources.k}\"",
    );
    let step = &graph.steps[0];
    assert_eq!(step.implementation["kernels"], Value::Input(Reference::Source(SourceId(1))));
    assert!(!step.args.contains_key("kernels"));
    assert_eq!(step.inputs, [Reference::Source(SourceId(0)), Reference::Source(SourceId(1))]);
    assert!(step.platform);
}

#[test]
fn gate_outputs_alias_their_inputs_and_absent_ones_alias_nothing() {
    let graph = evaluated(TUMOUR, &[]).unwrap();
    let quality = graph.step(graph.find("quality").unwrap());
    let train = graph.find("train").unwrap();
    let model = graph.step(train).output("model").unwrap();
    let output = &quality.outputs[quality.output("model").unwrap() as usize];
    assert_eq!(output.alias, Some(Reference::Output(train, model)));
    assert_eq!(output.availability, Availability::IfAccepted);
    assert!(quality.gate && !quality.platform);
    assert_eq!(quality.toolchain, Toolchain::Builtin);

    let without = TUMOUR.replace("baseline = \"${sources.base}\"", "");
    let graph = evaluated(&without, &[]).unwrap();
    let quality = graph.step(graph.find("quality").unwrap());
    assert_eq!(quality.outputs[quality.output("baseline").unwrap() as usize].alias, None);
}

#[test]
fn amounts_and_numbers_have_one_form() {
    let graph = evaluated(&TUMOUR.replace("\"2%\"", "\"2.0 %\""), &[]).unwrap();
    let quality = graph.step(graph.find("quality").unwrap());
    let Value::List(gates) = &quality.args["gates"] else { panic!() };
    let Value::Table(gate) = &gates[1] else { panic!() };
    assert_eq!(gate["max_drop"], Value::text("2%"));
    assert_eq!(gate["severity"], Value::text("error"));
}

#[test]
fn sources_are_paths_patterns_or_pointers() {
    let graph = graph(
        "[sources]\na = \"./x//y/\"\nb = \"x/*.csv\"\nc = { deployment = \"p\", output = \"model/\" }\n\
         d = { glob = \"x\" }\ne = { path = \"z\" }\n[steps.r]\nrun = \"x\"\n[deploy.p]\nrelease = \"${r.out}\"",
    );
    let origins: Vec<&Origin> = graph.sources.iter().map(|source| &source.origin).collect();
    let pointer = Origin::Deployment {
        deployment: "p".into(),
        output: "model".into(),
        absent: Absent::Error,
    };
    let path = |text: &str| Origin::Path(text.into());
    let glob = |text: &str| Origin::Glob(text.into());
    assert_eq!(origins, [&path("x/y"), &glob("x/*.csv"), &pointer, &glob("x"), &path("z")]);
}

#[test]
fn a_program_gets_texts_with_places_in_them() {
    let graph = graph(
        r#"
[params]
n = 3
f = 2
r = 0.5
l = ["a", "b\"c"]
[sources]
d = "d.csv"
[steps.a]
run = "x $HOME $${Y} ${params.n}${params.r} ${sources.d} > ${out}"
cpus = 2
memory = "1GiB"
timeout = "2m"
retries = 2
gpus = 4
env = { L = "${params.l}", N = 1, B = true, D = "${sources.d}" }
pass_env = ["Z", "A"]
tools = ["sed", "awk"]
[steps.b]
run = ["x", "${params.f}", "", "${a}"]
network = true
outputs = ["z", "y"]
[steps.c]
run = "x"
determinism = "tolerance"
tolerance = { absolute = 1, relative = 1e-4 }
"#,
    );
    let a = graph.step(graph.find("a").unwrap());
    let source = Reference::Source(SourceId(0));
    assert_eq!(
        a.args["run"],
        Value::Text(vec![
            Part::Text("x $HOME ${Y} 30.5 ".into()),
            Part::Input(source),
            Part::Text(" > ".into()),
            Part::Output(0),
        ])
    );
    assert_eq!(a.env["L"], Value::text(r#"["a", "b\"c"]"#));
    assert_eq!((&a.env["N"], &a.env["B"]), (&Value::text("1"), &Value::text("true")));
    assert_eq!(a.env["D"], Value::Text(vec![Part::Input(source)]));
    assert_eq!(a.pass_env, ["A", "Z"]);
    assert_eq!(a.toolchain, Toolchain::Tools(vec!["awk".into(), "sed".into()]));
    assert_eq!((a.resources.cpus, a.resources.memory), (2, Some(1 << 30)));
    assert_eq!(a.resources.timeout, Some(Duration::from_secs(120)));
    assert_eq!((a.resources.retries, a.resources.gpus), (2, 4));
    assert_eq!((a.determinism, a.network, a.platform), (Determinism::Bitwise, false, true));

    let c = graph.step(graph.find("c").unwrap());
    let tolerance = Tolerance { absolute: 1.0, relative: 1e-4 };
    assert_eq!(c.determinism, Determinism::Tolerance(tolerance));

    let b = graph.step(graph.find("b").unwrap());
    let reads_a = Value::Text(vec![Part::Input(Reference::Output(StepId(0), 0))]);
    assert_eq!(
        b.args["run"],
        Value::List(vec![Value::text("x"), Value::text("2"), Value::text(""), reads_a])
    );
    assert_eq!((b.determinism, b.network), (Determinism::None, true));
    assert_eq!(b.toolchain, Toolchain::Host);
    let outputs: Vec<&str> = b.outputs.iter().map(|output| output.name.as_str()).collect();
    assert_eq!(outputs, ["y", "z"]);
}

#[test]
fn set_replaces_a_default_and_the_last_one_counts() {
    let set = [("epochs", "1"), ("epochs", "100"), ("hidden", "[8]"), ("min_f1", "1")];
    let graph = evaluated(TUMOUR, &set).unwrap();
    assert_eq!(graph.params["epochs"], "100");
    assert_eq!(graph.params["hidden"], "[8]");
    assert_eq!(graph.params["min_f1"], "1.0");
    assert_eq!(graph.step(graph.find("train").unwrap()).args["epochs"], Value::Int(100));
}

#[test]
fn set_takes_text_as_it_is() {
    let text = "name = \"t\"\n[params]\nx = \"a\"\n[steps.s]\nrun = [\"x\", \"${params.x}\"]";
    let graph = evaluated(text, &[("x", " \"${out}\" ")]).unwrap();
    assert_eq!(
        graph.steps[0].args["run"],
        Value::List(vec![Value::text("x"), Value::text(" \"${out}\" ")])
    );
}

#[test]
fn names_key_order_comments_and_descriptions_change_nothing_else() {
    let renamed = TUMOUR
        .replace("check.", "check_it.")
        .replace("steps.check]", "steps.check_it]")
        .replace("params.epochs", "params.passes")
        .replace("epochs = 60", "passes = 60 # more\nunused = 1")
        .replace("Malignant or benign", "Something else")
        .replace("seed    = 7\n", "")
        .replace("[steps.split]\n", "[steps.split]\nseed = 7\ndescription = \"cuts\"\n")
        .replace("\"tumour\"", "\"other\"");
    assert_ne!(renamed, TUMOUR);
    let (before, after) = (evaluated(TUMOUR, &[]).unwrap(), evaluated(&renamed, &[]).unwrap());
    assert_eq!(erased(&before), erased(&after));
}

#[test]
fn equal_steps_under_other_names_keep_their_edges() {
    let one = graph("[steps.a]\nrun = \"x\"\n[steps.b]\nrun = \"y ${a}\"");
    let two = graph("[steps.z]\nrun = \"x\"\n[steps.b]\nrun = \"y ${z}\"");
    assert_eq!(two.steps[0].name, "z");
    assert_eq!(one.steps[1].inputs, two.steps[1].inputs);
    assert_eq!(one.steps[1].args, two.steps[1].args);
}

#[test]
fn ten_thousand_steps_take_linear_time() {
    let recipe = |steps: usize| {
        let mut text =
            String::from("name = \"t\"\nsources.d = \"d\"\n[steps.s0]\nrun = \"x ${sources.d}\"\n");
        for step in 1..steps {
            let (before, half) = (step - 1, step / 2);
            text.push_str(&format!(
                "[steps.s{step}]\nrun = \"cat ${{s{before}}} ${{s{half}}} > ${{out}}\"\ntools = [\"cat\"]\n"
            ));
        }
        text
    };
    let measured = |steps: usize| {
        let text = recipe(steps);
        let start = Instant::now();
        assert_eq!(evaluated(&text, &[]).unwrap().steps.len(), steps);
        start.elapsed()
    };
    let (small, large) = (measured(1_000), measured(10_000));
    println!("1,000 steps: {small:?}; 10,000 steps: {large:?}");
    // Ten times the work; a quadratic step would make it a hundred.
    assert!(large < small * 50 + Duration::from_millis(100), "{small:?} → {large:?}");
}

#[test]
fn a_file_that_cannot_be_read_or_is_not_utf8_is_an_error_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kiln.toml");
    let missing = super::super::load(&path, "kiln.toml").unwrap_err();
    assert!(missing.to_string().contains("kiln.toml"), "{missing}");
    std::fs::write(&path, b"name = \"t\"\n# \xff").unwrap();
    let broken = super::super::load(&path, "kiln.toml").unwrap_err().to_string();
    assert!(broken.ends_with("byte 13 (line 2) begins no character"), "{broken}");
    std::fs::write(&path, "name = \"t\"").unwrap();
    let text = super::super::load(&path, "shown").unwrap();
    assert_eq!((text.name.as_str(), text.text.as_str()), ("shown", "name = \"t\""));
}

#[test]
fn a_path_in_a_table_is_literal_and_a_lone_text_is_a_pattern_by_its_look() {
    let graph = graph(
        "[sources]\na = { path = \"./we[ir]d*.txt\" }\nb = \"we[ir]d.txt\"\nc = { path = \"x[\" }\n\
         d = { glob = \"plain.txt\" }\n",
    );
    let origins: Vec<&Origin> = graph.sources.iter().map(|source| &source.origin).collect();
    assert_eq!(
        origins,
        [
            &Origin::Path("we[ir]d*.txt".into()),
            &Origin::Glob("we[ir]d.txt".into()),
            &Origin::Path("x[".into()),
            &Origin::Glob("plain.txt".into()),
        ]
    );
}
