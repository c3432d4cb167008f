//! What holds of the registry's documents, whatever their bytes.

use std::path::Path;

use kiln_cache::{Digest, Object};
use kiln_fuzzing::Fuzz;

use crate::{
    document::{Document, decode, encode},
    manifest::{DeploymentManifest, Lineage},
    name,
    record::{Generation, Pointer, Running, Switch, SwitchKind},
};

const JSON: [&str; 12] = [
    "{",
    "}",
    "[",
    "\"",
    ",",
    ":",
    "null",
    "-1",
    "1e999",
    "18446744073709551616",
    "\"\\ud800\"",
    "true",
];

fn holds<T: Document + PartialEq + std::fmt::Debug>(name: &'static str, sample: &T) {
    Fuzz::new(name).samples([encode(sample)]).words(JSON).bytes(|bytes| {
        match decode::<T>(Path::new("d"), bytes) {
            Ok(value) => {
                let again = decode::<T>(Path::new("d"), &encode(&value));
                assert_eq!(again.expect("what was written is read"), value);
            }
            Err(error) => assert!(!error.to_string().contains(['\n', '\u{1b}']), "{error}"),
        }
    });
}

#[test]
fn no_generation_makes_the_reader_break_its_word() {
    let object = Object::tree(Digest::of(b"release"));
    holds(
        "generation",
        &Generation {
            number: 2,
            recipe: "tumour".to_owned(),
            deployment: "production".to_owned(),
            release: object,
            model: Some(object),
            manifest: Object::file(Digest::of(b"manifest")),
            replaced: Some(1),
            keys: vec![Digest::of(b"key")],
            by: "ada".to_owned(),
            reason: None,
            at: 1_764_000_000,
        },
    );
}

#[test]
fn no_switch_makes_the_reader_break_its_word() {
    holds(
        "switch",
        &Switch {
            number: 3,
            previous: Some(2),
            kind: SwitchKind::Rollback,
            from: Some(2),
            to: 1,
            by: "ada".to_owned(),
            reason: Some("errors".to_owned()),
            at: 5,
        },
    );
}

#[test]
fn no_pointer_makes_the_reader_break_its_word() {
    holds("pointer", &Pointer { running: Some(Running { generation: 1, switch: 3 }) });
}

#[test]
fn no_manifest_makes_the_reader_break_its_word() {
    let digest = Digest::of(b"key");
    let lineage: Lineage = serde_json::from_value(serde_json::json!({
        "steps": [{
            "step": "quality", "builder": "evaluate@1", "action_key": digest.to_string(),
            "verdict": {"accepted": true, "reason": "f1 ok"}, "isolation": "full",
            "outputs": {"model": Object::tree(digest)},
        }],
        "sources": {"data": Object::file(digest)},
        "params": {"epochs": "60"},
    }))
    .expect("the sample is sound");
    holds(
        "deployment manifest",
        &DeploymentManifest {
            recipe: "r".to_owned(),
            deployment: "production".to_owned(),
            release: Object::tree(digest),
            model: None,
            after: Some("staging".to_owned()),
            lineage,
        },
    );
}

#[test]
fn a_name_that_is_taken_is_one_plain_part_of_a_path() {
    Fuzz::new("names").samples(["production", "a.b-c_d"]).words(["..", "/", "\0", "é", "-"]).texts(
        |text| {
            if name::check("recipe", text).is_ok() {
                let parts: Vec<_> = Path::new(text).components().collect();
                assert!(matches!(parts[..], [std::path::Component::Normal(part)] if part == text));
            }
        },
    );
}
