//! What holds for any bytes: changed recipes, values on the command line, amounts, manifests.

use std::sync::Arc;

use kiln_cache::{Digest, Object};
use kiln_fuzzing::Fuzz;

use super::{
    super::{quantity, template},
    builders::{CATALOGUE, TUMOUR},
    properties::{PIECES, showable},
};
use crate::{
    diagnostic::SourceText,
    key::{KeyPart, Manifest, ManifestItem, ManifestValue},
};

/// A recipe of programs, with every key that a program's step may have.
const PROGRAMS: &str = r#"name = "t"
salt = "1"
[params]
x = 1
names = ["a", "b"]
[sources]
d = "data"
g = { glob = "data/**/*.csv" }
p = { deployment = "live", output = "model", absent = "accept" }
[steps.a]
run = "cat ${sources.d} ${sources.g} > ${out.one}; echo $${x} ${params.x} > ${out.two}"
outputs = { one = "one.txt", two = "two" }
files = ["a.py", "lib/*.py"]
env = { X = "${params.x}", Y = 2 }
pass_env = ["HOME_2"]
tools = ["python3"]
cpus = 2
memory = "1.5GiB"
timeout = "1h30m"
determinism = "none"
network = true
[steps.b]
run = ["python3", "-c", "print(1)", "${a.one}", "${out}"]
[steps.c]
run = """
set -e
cat ${b} \
  > ${out}
"""
[deploy.live]
release = "${c}"
[deploy.next]
release = "${c}"
after = "live"
"#;

fn evaluate(text: &str, set: &[(String, String)]) {
    let source = Arc::new(SourceText { name: "kiln.toml".into(), text: text.to_owned() });
    if let Err(problems) = crate::recipe::evaluate(&source, &CATALOGUE, set) {
        showable(&problems);
    }
}

#[test]
fn no_text_makes_the_recipe_reader_break_its_word() {
    let crlf = PROGRAMS.replace('\n', "\r\n");
    let bom = format!("\u{feff}{PROGRAMS}");
    Fuzz::new("recipe")
        .samples([TUMOUR, PROGRAMS, &crlf, &bom])
        .words(PIECES)
        .memory(2000, 4 << 20)
        .texts(|text| evaluate(text, &[]));
}

#[test]
fn deep_and_wide_recipes_end() {
    let nested = format!("name = \"t\"\n[params]\nx = {}", "[".repeat(3000));
    let tables = format!("name = \"t\"\nx.{} = 1", "a.".repeat(3000) + "b");
    let references = format!("name = \"t\"\n[steps.a]\nrun = \"{}\"", "${".repeat(3000));
    let chain: String = (0..600)
        .map(|n| format!("[steps.s{n}]\nrun = \"cat ${{s{}}} > ${{out}}\"\n", n + 1))
        .collect();
    let ring = format!("name = \"t\"\n{chain}[steps.s600]\nrun = \"cat ${{s0}} > ${{out}}\"");
    let same =
        format!("name = \"t\"\n[steps.a]\nrun = \"x\"\noutputs = [{}]", "\"o\",".repeat(1000));
    Fuzz::new("deep recipe")
        .samples([nested, tables, references, ring, same])
        .memory(2000, 64 << 20)
        .texts(|text| evaluate(text, &[]));
}

#[test]
fn no_value_on_the_command_line_makes_the_reader_break_its_word() {
    let deep = "[".repeat(2000);
    Fuzz::new("--set")
        .samples(["1", "[1, 2]", "\"text\"", "1e5", "0x10", "2024-01-01", "{a = 1}", "nan", &deep])
        .words(PIECES)
        .memory(2000, 4 << 20)
        .texts(|text| {
            for name in ["x", "names", "y"] {
                evaluate(PROGRAMS, &[(name.to_owned(), text.to_owned())]);
            }
            if let Some((name, value)) = text.split_once('=') {
                evaluate(PROGRAMS, &[(name.to_owned(), value.to_owned())]);
            }
        });
}

#[test]
fn no_text_makes_the_readers_of_amounts_break_their_word() {
    Fuzz::new("amounts")
        .samples(["512MiB", "1.5 GB", "1h30m", "90s", "2%", "0.5 %", "1d2h3m4s"])
        .words(["é", "%", "KiB", "TB", "d", "m", ".", " ", "+", "-", "e9", "٣"])
        .texts(|text| {
            let _ = quantity::memory(text);
            let _ = quantity::time(text);
            if let Some(share) = quantity::share(text) {
                assert_eq!(quantity::share(&share).as_ref(), Some(&share), "a share has one text");
            }
        });
}

#[test]
fn every_template_is_cut_at_its_characters() {
    Fuzz::new("template").samples(["a ${x.y} $${z} ${é}", "${"]).words(PIECES).texts(|text| {
        let (pieces, flaws) = template::pieces(text);
        for piece in pieces {
            if let template::Piece::Reference(mention) = piece {
                assert_eq!(text[mention.range], format!("${{{}}}", mention.name));
            }
        }
        for flaw in flaws {
            let (template::Flaw::Open(range) | template::Flaw::NoName(range)) = flaw;
            assert!(text[range].starts_with("${"));
        }
    });
}

#[test]
fn no_text_makes_the_reader_of_manifests_break_its_word() {
    let item = |at: &str, value| ManifestItem {
        at: at.split('.').map(str::to_owned).collect(),
        value,
        label: at.starts_with("inputs").then(|| "sources.d".to_owned()),
    };
    let parts = [KeyPart::Text("cat ".into()), KeyPart::In(0), KeyPart::Out("out".into())];
    let sample = Manifest {
        items: vec![
            item("format", ManifestValue::Int(1)),
            item("args.run", ManifestValue::Parts(parts.into())),
            item("args.l", ManifestValue::List(1)),
            item("args.f", ManifestValue::Float("0.1".into())),
            item("args.t", ManifestValue::Table(0)),
            item("network", ManifestValue::Flag(true)),
            item("inputs.0", ManifestValue::Object(Object::file(Digest::of(b"x")))),
            item("inputs.1", ManifestValue::Place(1)),
            item("env.X", ManifestValue::Absent),
        ],
    };
    let text = sample.to_text();
    assert_eq!(Manifest::from_text(&text).expect("what was written is read"), sample);
    Fuzz::new("manifest")
        .samples([text])
        .words(["1e999", "nan", "\"\\u0000\"", "{", "[", "null", "-1"])
        .texts(|text| {
            if let Ok(manifest) = Manifest::from_text(text) {
                let again =
                    Manifest::from_text(&manifest.to_text()).expect("what was written is read");
                assert_eq!(again.key(), manifest.key());
                assert_eq!(again.to_text(), manifest.to_text());
            }
        });
}
