//! Action keys: fixed vectors, and what does and what does not change them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use insta::assert_snapshot;
use kiln_cache::{Digest, Object};
use kiln_engine::{
    diagnostic::{Location, SourceText},
    graph::{
        Availability, BuilderId, Determinism, Output, Part, Reference, Resources, SourceId, Step,
        StepId, Tolerance, Toolchain, Value,
    },
    key::{Inputs, Manifest, ManifestItem, Subject, action_key, manifest},
};
use proptest::prelude::*;

/// Everything that a key can be made of, owned.
#[derive(Clone, Debug)]
struct Case {
    step: Step,
    contents: BTreeMap<Reference, Option<(Object, String)>>,
    labels: String,
    files: BTreeMap<String, Object>,
    passed: BTreeMap<String, Option<String>>,
    toolchain: Vec<(String, String)>,
    platform: String,
}

impl Inputs for Case {
    fn input(&self, reference: Reference) -> Option<(Object, &str)> {
        let content = self.contents.get(&reference)?.as_ref();
        content.map(|(object, extension)| (*object, extension.as_str()))
    }

    fn label(&self, reference: Reference) -> String {
        format!("{}{reference:?}", self.labels)
    }
}

impl Case {
    fn subject(&self) -> Subject<'_> {
        Subject {
            step: &self.step,
            inputs: self,
            files: &self.files,
            passed: &self.passed,
            toolchain: &self.toolchain,
            platform: &self.platform,
        }
    }

    fn key(&self) -> Digest {
        action_key(&self.subject()).0
    }

    fn manifest(&self) -> Manifest {
        manifest(&self.subject())
    }

    fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut case = self.clone();
        change(&mut case);
        case
    }
}

fn location(at: usize) -> Location {
    Location {
        source: Arc::new(SourceText { name: "kiln.toml".into(), text: " ".repeat(9) }),
        span: at..at + 1,
    }
}

fn file(text: &str) -> Object {
    Object::file(Digest::of(text.as_bytes()))
}

fn output(name: &str, file: &str) -> Output {
    Output { name: name.into(), file: file.into(), availability: Availability::Always, alias: None }
}

const SOURCE: Reference = Reference::Source(SourceId(0));
const UPSTREAM: Reference = Reference::Output(StepId(0), 1);
const KERNELS: Reference = Reference::Output(StepId(1), 0);

/// A step that runs a program.
fn command() -> Case {
    let text = |parts: &[Part]| Value::Text(parts.to_vec());
    let run = text(&[
        Part::Text("python3 plot.py ".into()),
        Part::Input(UPSTREAM),
        Part::Text(" 3 > ".into()),
        Part::Output(0),
    ]);
    Case {
        step: Step {
            name: "plot".into(),
            builder: BuilderId { name: "command".into(), version: 1 },
            args: BTreeMap::from([("run".to_owned(), run)]),
            implementation: BTreeMap::new(),
            files: vec![("plot.py".into(), location(1))],
            env: BTreeMap::from([
                ("DATA".to_owned(), text(&[Part::Text("at ".into()), Part::Input(SOURCE)])),
                ("MODE".to_owned(), Value::text("fast")),
            ]),
            pass_env: vec!["SEED".into(), "UNSET".into()],
            toolchain: Toolchain::Tools(vec!["python3".into()]),
            outputs: vec![output("png", "plot.png")],
            determinism: Determinism::Bitwise,
            network: false,
            salt: String::new(),
            platform: true,
            gate: false,
            resources: Resources::default(),
            params: BTreeSet::new(),
            inputs: vec![SOURCE, UPSTREAM],
            at: location(0),
        },
        contents: BTreeMap::from([
            (SOURCE, Some((Object::tree(Digest::of(b"tree")), String::new()))),
            (UPSTREAM, Some((file("report"), "json".into()))),
        ]),
        labels: String::new(),
        files: BTreeMap::from([("plot.py".to_owned(), Object::program(Digest::of(b"plot")))]),
        passed: BTreeMap::from([
            ("SEED".to_owned(), Some("7".to_owned())),
            ("UNSET".to_owned(), None),
        ]),
        toolchain: vec![("python3.version".into(), "3.12".into())],
        platform: "x86_64-linux".into(),
    }
}

/// A step of a builder that kiln brings, a gate with an alias, an absent input and a hidden one.
fn gate() -> Case {
    let base = Reference::Source(SourceId(1));
    let rule = BTreeMap::from([
        ("metric".to_owned(), Value::text("f1")),
        ("min".to_owned(), Value::Float(0.92)),
        ("strict".to_owned(), Value::Bool(true)),
    ]);
    let mut case = command();
    case.step = Step {
        name: "quality".into(),
        builder: BuilderId { name: "evaluate".into(), version: 3 },
        args: BTreeMap::from([
            ("baseline".to_owned(), Value::Input(base)),
            ("gates".to_owned(), Value::List(vec![Value::Table(rule)])),
            ("model".to_owned(), Value::Input(UPSTREAM)),
            ("rows".to_owned(), Value::Int(60)),
        ]),
        implementation: BTreeMap::from([("kernels".to_owned(), Value::Input(KERNELS))]),
        files: Vec::new(),
        env: BTreeMap::new(),
        pass_env: Vec::new(),
        toolchain: Toolchain::Builtin,
        outputs: vec![
            Output {
                name: "model".into(),
                file: String::new(),
                availability: Availability::IfAccepted,
                alias: Some(UPSTREAM),
            },
            output("report", "report"),
        ],
        salt: "again".into(),
        platform: false,
        gate: true,
        inputs: vec![base, UPSTREAM],
        ..case.step
    };
    case.contents.insert(base, None);
    case.contents.insert(KERNELS, Some((file("kernels"), "ptx".into())));
    Case { files: BTreeMap::new(), passed: BTreeMap::new(), toolchain: Vec::new(), ..case }
}

/// A changed key here means that every result ever recorded is lost: raise `key::FORMAT`, and say so.
#[test]
fn golden_keys() {
    assert_snapshot!(command().key(), @"d4fb755ea5fbc9de7732ed681f7c1bf3f4d15d52fd30f010c7db2d4e9996e0bd");
    assert_snapshot!(gate().key(), @"c887ce32378f2f362503e13082375db003f9a210ecadd8ca8dd6a4d213bf32c3");
}

#[test]
fn how_wide_a_tolerance_is_changes_no_key() {
    let with = |absolute| {
        let mut case = command();
        case.step.determinism = Determinism::Tolerance(Tolerance { absolute, relative: 0.0 });
        case.key()
    };
    assert_eq!(with(1e-9), with(1.0));
}

/// The item that steps with a GPU have is new with them, and no step without has another key for it.
#[test]
fn the_number_of_gpus_is_in_no_key_and_for_exact_builders_not_even_that_there_are_any() {
    let with = |mut case: Case, gpus| {
        case.step.resources.gpus = gpus;
        case
    };
    assert_eq!(with(command(), 1).key(), with(command(), 8).key());
    assert_eq!(with(gate(), 0).key(), with(gate(), 1).key());
    assert_ne!(with(command(), 0).key(), with(command(), 1).key());
    assert_snapshot!(with(command(), 1).key(), @"56cf3d20ed8f8d36c49236bc9560609cd5eff2b46c624b5d0740f85a811fedcf");
    let items = with(command(), 2).manifest().to_text();
    assert!(items.contains(r#"{"at":["gpu"],"flag":true}"#), "{items}");
}

#[test]
fn golden_manifests() {
    assert_snapshot!(command().manifest().to_text(), @r#"
    [
    {"at":["format"],"int":1},
    {"at":["args"],"table":1},
    {"at":["args","run"],"parts":[{"text":"python3 plot.py "},{"in":0},{"text":" 3 > "},{"out":"png"}]},
    {"at":["builder"],"text":"command@1"},
    {"at":["determinism"],"text":"bitwise"},
    {"at":["env"],"table":4},
    {"at":["env","DATA"],"parts":[{"text":"at "},{"in":1}]},
    {"at":["env","MODE"],"text":"fast"},
    {"at":["env","SEED"],"text":"7"},
    {"at":["env","UNSET"],"absent":null},
    {"at":["files"],"table":1},
    {"at":["files","plot.py"],"object":{"kind":"file","digest":"8ac27753a253e4d9ae83c45d346037ed319dc89bf09a141cfbe66eed14a7ccd8","executable":true}},
    {"at":["network"],"flag":false},
    {"at":["outputs"],"table":1},
    {"at":["outputs","png"],"text":"plot.png"},
    {"at":["outputs","png"],"flag":false},
    {"at":["outputs","png"],"absent":null},
    {"at":["platform"],"text":"x86_64-linux"},
    {"at":["salt"],"text":""},
    {"at":["toolchain"],"text":"tools"},
    {"at":["toolchain"],"table":1},
    {"at":["toolchain","python3.version"],"text":"3.12"},
    {"at":["inputs"],"list":2},
    {"at":["inputs","0"],"text":"json"},
    {"at":["inputs","0"],"object":{"kind":"file","digest":"31f27cf7db1e7900e8f103eb795a37f48594a154ed8f604081fa2fc1f3d3e884","executable":false},"label":"Output(StepId(0), 1)"},
    {"at":["inputs","1"],"text":""},
    {"at":["inputs","1"],"object":{"kind":"tree","digest":"6baa6c9f461fe834a9da0ebb62e0f6fb8c11988a58cbc51b8da8040aea19bc3a","executable":false},"label":"Source(SourceId(0))"}
    ]
    "#);
    assert_snapshot!(gate().manifest().to_text(), @r#"
    [
    {"at":["format"],"int":1},
    {"at":["args"],"table":4},
    {"at":["args","baseline"],"place":0},
    {"at":["args","gates"],"list":1},
    {"at":["args","gates","0"],"table":3},
    {"at":["args","gates","0","metric"],"text":"f1"},
    {"at":["args","gates","0","min"],"float":"0.92"},
    {"at":["args","gates","0","strict"],"flag":true},
    {"at":["args","model"],"place":1},
    {"at":["args","rows"],"int":60},
    {"at":["builder"],"text":"evaluate@3"},
    {"at":["determinism"],"text":"bitwise"},
    {"at":["env"],"table":0},
    {"at":["files"],"table":0},
    {"at":["network"],"flag":false},
    {"at":["outputs"],"table":2},
    {"at":["outputs","model"],"text":""},
    {"at":["outputs","model"],"flag":true},
    {"at":["outputs","model"],"place":1},
    {"at":["outputs","report"],"text":"report"},
    {"at":["outputs","report"],"flag":false},
    {"at":["outputs","report"],"absent":null},
    {"at":["salt"],"text":"again"},
    {"at":["toolchain"],"text":"builtin"},
    {"at":["toolchain"],"table":0},
    {"at":["inputs"],"list":2},
    {"at":["inputs","0"],"absent":null,"label":"Source(SourceId(1))"},
    {"at":["inputs","1"],"text":"json"},
    {"at":["inputs","1"],"object":{"kind":"file","digest":"31f27cf7db1e7900e8f103eb795a37f48594a154ed8f604081fa2fc1f3d3e884","executable":false},"label":"Output(StepId(0), 1)"}
    ]
    "#);
}

/// Each entry changes one thing.
type Change = (&'static str, fn(&mut Case));

const IN_THE_KEY: &[Change] = &[
    ("builder", |case| case.step.builder.name = "other".into()),
    ("version", |case| case.step.builder.version += 1),
    ("a new argument", |case| drop(case.step.args.insert("new".into(), Value::Int(1)))),
    ("an argument gone", |case| drop(case.step.args.pop_first())),
    ("a variable", |case| drop(case.step.env.insert("NEW".into(), Value::text("")))),
    ("a variable passed", |case| drop(case.passed.insert("NEW".into(), None))),
    ("a variable passed with a value", |case| {
        drop(case.passed.insert("NEW".into(), Some("set".into())))
    }),
    ("a file", |case| case.files.extend([("new".to_owned(), file(""))])),
    ("an output", |case| case.step.outputs.push(output("zzz", "zzz"))),
    ("an output's name", |case| case.step.outputs[0].name = "other".into()),
    ("an output's file", |case| case.step.outputs[0].file = "other".into()),
    ("when an output exists", |case| {
        let availability = &mut case.step.outputs[0].availability;
        *availability = match availability {
            Availability::Always => Availability::IfAccepted,
            Availability::IfAccepted => Availability::Always,
        };
    }),
    ("an output's alias", |case| case.step.outputs[0].alias = Some(Reference::Source(SourceId(9)))),
    ("determinism", |case| case.step.determinism = Determinism::None),
    ("a determinism within a bound", |case| {
        case.step.determinism = Determinism::Tolerance(Tolerance::default());
    }),
    ("network", |case| case.step.network = true),
    ("salt", |case| case.step.salt.push('x')),
    ("kind of toolchain", |case| case.step.toolchain = Toolchain::Host),
    ("a toolchain fact", |case| case.toolchain.push(("cc".into(), "12".into()))),
    ("an input's bytes", |case| {
        drop(case.contents.insert(UPSTREAM, Some((file("other"), "json".into()))))
    }),
    ("an input's kind", |case| {
        drop(
            case.contents
                .insert(UPSTREAM, Some((Object::tree(Digest::of(b"report")), "json".into()))),
        );
    }),
    ("an input's executable bit", |case| {
        drop(
            case.contents
                .insert(UPSTREAM, Some((Object::program(Digest::of(b"report")), "json".into()))),
        );
    }),
    ("an input's extension", |case| {
        drop(case.contents.insert(UPSTREAM, Some((file("report"), "csv".into()))))
    }),
    ("an input's absence", |case| drop(case.contents.insert(UPSTREAM, None))),
];

const IN_THE_KEY_OF_COMMANDS: &[Change] = &[
    ("platform", |case| case.platform = "aarch64-linux".into()),
    ("whether the platform matters", |case| case.step.platform = false),
    ("a file's bytes", |case| {
        case.files.extend([("plot.py".to_owned(), Object::program(Digest::of(b"new")))])
    }),
    ("a file's executable bit", |case| case.files.extend([("plot.py".to_owned(), file("plot"))])),
    ("a file's path", |case| {
        case.files = BTreeMap::from([("a/plot.py".into(), Object::program(Digest::of(b"plot")))])
    }),
    ("a passed value", |case| drop(case.passed.insert("SEED".into(), Some("8".into())))),
    ("a passed variable unset", |case| drop(case.passed.insert("SEED".into(), None))),
    ("an unset variable set to nothing", |case| {
        drop(case.passed.insert("UNSET".into(), Some(String::new())))
    }),
    ("a variable's value", |case| drop(case.step.env.insert("MODE".into(), Value::text("slow")))),
    ("a toolchain fact's value", |case| case.toolchain[0].1 = "3.13".into()),
    ("a toolchain fact's name", |case| case.toolchain[0].0 = "python.version".into()),
    ("the order of inputs", |case| {
        let parts = [Part::Input(SOURCE), Part::Input(UPSTREAM), Part::Output(0)];
        drop(case.step.args.insert("run".into(), Value::Text(parts.to_vec())));
    }),
];

const NOT_IN_THE_KEY: &[Change] = &[
    ("step name", |case| case.step.name = "another".into()),
    ("labels", |case| case.labels = "sources.renamed ".into()),
    ("places in the text", |case| {
        case.step.at = location(5);
        case.step.files = vec![("p*.py".into(), location(6))];
    }),
    ("cpus", |case| case.step.resources.cpus = 64),
    ("memory", |case| case.step.resources.memory = Some(1 << 30)),
    ("retries", |case| case.step.resources.retries = 3),
    ("timeout", |case| case.step.resources.timeout = Some(Duration::from_secs(1))),
    ("sources that are not read", |case| {
        drop(
            case.contents
                .insert(Reference::Source(SourceId(77)), Some((file("unread"), "csv".into()))),
        );
    }),
    ("implementation arguments", |case| {
        drop(case.step.implementation.insert("backend".into(), Value::text("gpu")));
    }),
    ("numbers of sources and steps", |case| {
        let renumbered = |reference: Reference| match reference {
            Reference::Source(SourceId(number)) => Reference::Source(SourceId(number + 10)),
            Reference::Output(StepId(number), output) => {
                Reference::Output(StepId(number + 10), output + 3)
            }
        };
        case.step.args.values_mut().for_each(|value| map_references(value, &renumbered));
        case.step.env.values_mut().for_each(|value| map_references(value, &renumbered));
        case.step.implementation.values_mut().for_each(|value| map_references(value, &renumbered));
        case.step.outputs.iter_mut().for_each(|output| output.alias = output.alias.map(renumbered));
        case.contents = std::mem::take(&mut case.contents)
            .into_iter()
            .map(|(reference, content)| (renumbered(reference), content))
            .collect();
    }),
];

fn map_references(value: &mut Value, map: &dyn Fn(Reference) -> Reference) {
    match value {
        Value::Input(reference) => *reference = map(*reference),
        Value::Text(parts) => parts.iter_mut().for_each(|part| {
            if let Part::Input(reference) = part {
                *reference = map(*reference);
            }
        }),
        Value::List(values) => values.iter_mut().for_each(|value| map_references(value, map)),
        Value::Table(fields) => fields.values_mut().for_each(|value| map_references(value, map)),
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => {}
    }
}

#[test]
fn any_single_change_of_what_counts_changes_the_key() {
    let (command, gate) = (command(), gate());
    let lists = [(&command, IN_THE_KEY), (&gate, IN_THE_KEY), (&command, IN_THE_KEY_OF_COMMANDS)];
    for (case, changes) in lists {
        let mut seen = BTreeMap::from([(case.key(), "nothing")]);
        for (what, change) in changes {
            let key = case.with(change).key();
            let same = seen.insert(key, what);
            assert_eq!(same, None, "`{what}` gives `{}` the same key", case.step.name);
        }
    }
}

#[test]
fn no_change_of_what_does_not_count_changes_the_key() {
    for case in [command(), gate()] {
        for (what, change) in NOT_IN_THE_KEY {
            assert_eq!(
                case.with(change).key(),
                case.key(),
                "`{what}` changes the key of `{}`",
                case.step.name
            );
        }
    }
    let exact = gate();
    assert_eq!(exact.with(|case| case.platform = "aarch64-linux".into()).key(), exact.key());
    let hidden = |case: &mut Case| {
        drop(case.step.implementation.insert("kernels".into(), Value::text("builtin")))
    };
    let items = |case: &Case| {
        case.manifest().items.into_iter().map(|item| (item.at, item.value)).collect::<Vec<_>>()
    };
    assert_eq!(
        items(&exact.with(hidden)),
        items(&exact),
        "what an implementation reads is not in the key"
    );
    assert_eq!(
        exact.with(hidden).key(),
        exact.key(),
        "what an implementation reads is not in the key"
    );
}

/// Values that look alike to a careless encoding.
#[test]
fn values_that_look_alike_have_keys_of_their_own() {
    let text = Value::text;
    let list = Value::List;
    let table = |name: &str, value: Value| Value::Table(BTreeMap::from([(name.to_owned(), value)]));
    let parts = |parts: &[Part]| Value::Text(parts.to_vec());
    let values = [
        text(""),
        text("1"),
        text("1.0"),
        text("true"),
        text("0"),
        text("a"),
        text("ab"),
        text("a\0b"),
        text("absent"),
        Value::Int(1),
        Value::Int(0),
        Value::Int(-1),
        Value::Float(1.0),
        Value::Float(0.0),
        Value::Float(f64::from_bits(1)),
        Value::Float(f64::INFINITY),
        Value::Float(f64::NEG_INFINITY),
        Value::Bool(true),
        Value::Bool(false),
        list(vec![]),
        list(vec![text("")]),
        list(vec![text("a"), text("b")]),
        list(vec![text("ab")]),
        list(vec![text("b"), text("a")]),
        list(vec![list(vec![text("a")]), text("b")]),
        list(vec![list(vec![text("a"), text("b")])]),
        table("0", text("a")),
        table("a", table("b", text(""))),
        table("a\0b", text("")),
        Value::Table(BTreeMap::new()),
        Value::Input(UPSTREAM),
        parts(&[Part::Input(UPSTREAM)]),
        parts(&[Part::Output(0)]),
        parts(&[Part::Text("0".into()), Part::Input(UPSTREAM)]),
        parts(&[Part::Input(UPSTREAM), Part::Text("0".into())]),
        parts(&[Part::Input(UPSTREAM), Part::Output(0)]),
        parts(&[Part::Output(0), Part::Input(UPSTREAM)]),
        text("png"),
        text("/build/in/0"),
    ];
    let mut seen: BTreeMap<Digest, &Value> = BTreeMap::new();
    let plain = command().with(|case| case.step.args.clear());
    for value in &values {
        let case = plain.with(|case| drop(case.step.args.insert("x".into(), value.clone())));
        assert_eq!(case.manifest().key(), case.key());
        let same = seen.insert(case.key(), value);
        assert!(same.is_none(), "{value:?} and {same:?} have the same key");
    }
    let absent = plain.key();
    assert!(!seen.contains_key(&absent), "some value has the key of none at all");
}

#[test]
fn zero_has_one_key_whatever_its_sign() {
    let number = |value: f64| {
        command().with(|case| drop(case.step.args.insert("x".into(), Value::Float(value)))).key()
    };
    assert_eq!(number(-0.0), number(0.0));
}

#[test]
fn a_step_that_reads_one_thing_twice_differs_from_one_that_reads_equal_things() {
    let both = |first, second| {
        command()
            .with(|case| {
                let content = Some((file("same"), String::new()));
                case.contents = BTreeMap::from([(SOURCE, content.clone()), (UPSTREAM, content)]);
                case.step.env.clear();
                let inputs = Value::List(vec![Value::Input(first), Value::Input(second)]);
                case.step.args = BTreeMap::from([("inputs".to_owned(), inputs)]);
            })
            .key()
    };
    assert_ne!(both(SOURCE, SOURCE), both(SOURCE, UPSTREAM), "the second sees two files");
    assert_eq!(both(SOURCE, UPSTREAM), both(UPSTREAM, SOURCE), "equal contents in equal places");
}

fn reference() -> impl Strategy<Value = Reference> {
    prop_oneof![
        (0u32..3).prop_map(|number| Reference::Source(SourceId(number))),
        (0u32..3, 0u32..2).prop_map(|(step, output)| Reference::Output(StepId(step), output)),
    ]
}

fn short() -> impl Strategy<Value = String> {
    // Names cannot hold NUL; everything else may occur.
    prop_oneof![Just(String::new()), "[ab01./\"\\\\ä\n]{0,3}", "[^\0]{0,6}"]
}

fn texts() -> impl Strategy<Value = Value> {
    let part = prop_oneof![
        short().prop_map(Part::Text),
        reference().prop_map(Part::Input),
        (0u32..2).prop_map(Part::Output),
    ];
    prop::collection::vec(part, 0..4).prop_map(|parts| {
        // As the graph promises: no empty text, no two in a row.
        let mut tidy: Vec<Part> = Vec::new();
        for part in parts {
            match (tidy.last_mut(), part) {
                (Some(Part::Text(before)), Part::Text(text)) => before.push_str(&text),
                (_, Part::Text(text)) if text.is_empty() => {}
                (_, part) => tidy.push(part),
            }
        }
        Value::Text(tidy)
    })
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        prop_oneof![-2i64..3, any::<i64>()].prop_map(Value::Int),
        prop_oneof![Just(0.0), Just(1.0), any::<f64>()]
            .prop_filter("numbers are never NaN", |number: &f64| !number.is_nan())
            .prop_map(Value::Float),
        texts(),
        reference().prop_map(Value::Input),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::List),
            prop::collection::btree_map(short(), inner, 0..3).prop_map(Value::Table),
        ]
    })
}

fn object() -> impl Strategy<Value = Object> {
    (0u8..4, 0..3).prop_map(|(byte, kind)| {
        let digest = Digest::of(&[byte]);
        [Object::file(digest), Object::program(digest), Object::tree(digest)][kind as usize]
    })
}

prop_compose! {
    fn any_case()(
        args in prop::collection::btree_map("[a-c]{1,2}", value(), 0..4),
        env in prop::collection::btree_map("[A-C]", texts(), 0..3),
        implementation in prop::collection::btree_map("[a-c]", value(), 0..2),
        contents in prop::collection::btree_map(reference(), prop::option::of((object(), "[a-c]{0,2}")), 0..6),
        files in prop::collection::btree_map(short(), object(), 0..3),
        passed in prop::collection::btree_map("[A-D]", prop::option::of(short()), 0..3),
        toolchain in prop::collection::btree_map(short(), short(), 0..3),
        alias in prop::option::of(reference()),
        salt in short(),
        flags in any::<[bool; 4]>(),
    ) -> Case {
        let mut case = command();
        case.step.args = args;
        case.step.env = env;
        case.step.implementation = implementation;
        case.step.salt = salt;
        case.step.network = flags[0];
        case.step.platform = flags[1];
        case.step.determinism = if flags[2] { Determinism::None } else { Determinism::Bitwise };
        case.step.outputs = vec![
            Output { alias, ..output("a", "a.csv") },
            Output {
                availability: if flags[3] { Availability::IfAccepted } else { Availability::Always },
                ..output("b", "b")
            },
        ];
        Case { contents, files, passed, toolchain: toolchain.into_iter().collect(), ..case }
    }
}

/// Items as the key sees them: labels are for people.
fn unlabelled(manifest: &Manifest) -> Vec<ManifestItem> {
    manifest.items.iter().map(|item| ManifestItem { label: None, ..item.clone() }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_manifest_read_back_has_the_key(case in any_case()) {
        let manifest = case.manifest();
        let read = Manifest::from_text(&manifest.to_text()).unwrap();
        prop_assert_eq!(&read, &manifest);
        prop_assert_eq!(read.key(), case.key());
    }

    #[test]
    fn keys_are_equal_exactly_if_manifests_are(one in any_case(), two in any_case()) {
        let same = unlabelled(&one.manifest()) == unlabelled(&two.manifest());
        prop_assert_eq!(one.key() == two.key(), same);
    }

    #[test]
    fn any_step_keeps_its_key_when_something_changes_that_does_not_count(
        case in any_case(), index in any::<prop::sample::Index>()
    ) {
        let (what, change) = index.get(NOT_IN_THE_KEY);
        prop_assert_eq!(case.with(change).key(), case.key(), "{}", what);
    }

    #[test]
    fn any_step_gets_another_key_when_one_argument_changes(
        case in any_case(), name in "[a-c]{1,2}", new in value()
    ) {
        let old = case.step.args.get(&name);
        let key = case.with(|case| drop(case.step.args.insert(name.clone(), new.clone()))).key();
        let plain = |value: &Value| {
            let mut value = value.clone();
            map_references(&mut value, &|_| Reference::Source(SourceId(0)));
            value
        };
        let alike = old.is_some_and(|old| plain(old) == plain(&new));
        // Different references may stand for the same content; different shapes never do.
        prop_assert!(alike || key != case.key());
    }
}
