//! Numbers near to and far from each other, in every format.

use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const BOUND: Bound = Bound { absolute: 1e-6, relative: 1e-3 };

fn files(
    name: &str,
    before: impl AsRef<[u8]>,
    after: impl AsRef<[u8]>,
) -> (TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (folder.path().join(format!("1{name}")), folder.path().join(name));
    fs::write(&one, before).unwrap();
    fs::write(&other, after).unwrap();
    (folder, one, other)
}

fn compared(name: &str, before: impl AsRef<[u8]>, after: impl AsRef<[u8]>) -> String {
    let (_folder, one, other) = files(name, before, after);
    match compare(Format::of(name).unwrap(), &one, &other, BOUND) {
        Ok(Comparison::Alike { worst: None, beyond: 0 }) => "the same".into(),
        Ok(Comparison::Alike { worst, beyond }) => {
            let worst = worst.unwrap();
            format!("{beyond} beyond, {}: {} → {}", worst.place, worst.before, worst.after)
        }
        Ok(Comparison::Unlike(what)) => format!("unlike: {what}"),
        Err(error) => error.to_string().replace(&*other.to_string_lossy(), name),
    }
}

#[test]
fn the_bound_is_the_wider_of_the_two() {
    let within = |before: f64, after: f64| BOUND.excess(before, after) <= 1.0;
    assert!(within(0.0, 1e-6) && !within(0.0, 1.1e-6));
    assert!(within(1000.0, 1000.9) && !within(1000.0, 1001.1));
    assert!(within(-1.0, -1.0005) && !within(1.0, -1.0));
    assert!(within(f64::NAN, f64::NAN) && !within(f64::NAN, 1.0) && !within(1.0, f64::NAN));
    assert!(within(f64::INFINITY, f64::INFINITY) && !within(f64::INFINITY, f64::NEG_INFINITY));
    assert!(!within(1e308, -1e308) && within(0.0, -0.0));
    let exact = Bound { absolute: 0.0, relative: 0.0 };
    assert!(exact.excess(1.0, 1.0 + f64::EPSILON) > 1.0);
}

#[test]
fn json_may_differ_in_numbers_only() {
    let json = |before: &str, after: &str| compared("a.json", before, after);
    assert_eq!(json(r#"{"a": [1, 2.0]}"#, "{\"a\":[1.0,\n2]}"), "the same");
    assert_eq!(
        json(r#"{"m": {"f1": 0.9, "loss": 1}}"#, r#"{"m": {"f1": 0.9005, "loss": 1.0001}}"#),
        "0 beyond, /m/f1: 0.9 → 0.9005"
    );
    assert_eq!(json(r#"[0, {"a/b": [5]}, 7]"#, r#"[0, {"a/b": [6]}, 9]"#), "2 beyond, /2: 7 → 9");
    assert_eq!(json(r#"{"a~/b": 1}"#, r#"{"a~/b": 2}"#), "1 beyond, /a~0~1b: 1 → 2");
    assert_eq!(json("[NaN, -Infinity]", "[NaN, -Infinity]"), "the same");
    assert_eq!(json("[NaN]", "[0]"), "1 beyond, /0: NaN → 0");
    assert_eq!(
        json("9007199254740993", "9007199254740992"),
        "0 beyond, the document: 9007199254740992 → 9007199254740992"
    );
    assert_eq!(json(r#"["1"]"#, r#"["2"]"#), r#"unlike: /0: "1" → "2""#);
    assert_eq!(json("[true]", "[false]"), "unlike: /0: true → false");
    assert_eq!(json("[1]", "[null]"), "unlike: /0: was a number, and is null");
    assert_eq!(json("[1, 2]", "[1]"), "unlike: the document: had more than 1 values");
    assert_eq!(json(r#""\u00e9""#, "\"é\""), "the same");
}

#[test]
fn the_order_of_keys_means_nothing() {
    let json = |before: &str, after: &str| compared("a.json", before, after);
    assert_eq!(
        json(
            r#"{"z": 0, "a": 1, "b": {"c": [1, {"x": 1, "y": 2}], "d": 2}}"#,
            r#"{"z": 0, "b": {"d": 2, "c": [1, {"y": 2, "x": 1.0001}]}, "a": 1}"#
        ),
        "0 beyond, /b/c/1/x: 1 → 1.0001"
    );
    assert_eq!(json(r#"{"a": 1, "b": 2}"#, r#"{"b": 2}"#), "unlike: /a: gone");
    assert_eq!(json(r#"{"b": 2}"#, r#"{"b": 2, "c": 3}"#), "unlike: /c: new");
    assert_eq!(
        json(r#"{"a": 1, "b": [1]}"#, r#"{"b": [1, 2], "a": 1}"#),
        "unlike: /b: has more than 1 values"
    );
}

#[test]
fn what_is_no_json_is_named_with_its_place() {
    let json = |after: &str| compared("a.json", "[1]", after);
    assert_eq!(json("[1"), "a.json is not what its name says: byte 3: expected ',', found the end");
    assert_eq!(
        json("[1] x"),
        "a.json is not what its name says: byte 5: expected the end, found 'x'"
    );
    assert!(json("[1.2.3]").contains("`1.2.3`"));
    assert!(
        json(&"[".repeat(10_000)).contains("was a number, and is a list")
            || json(&"[".repeat(10_000)).contains("nested")
    );
    let deep = "[".repeat(10_000);
    assert!(compared("a.json", &deep, &deep).contains("nested more than 256 deep"));
}

#[test]
fn tables_may_differ_in_numbers_only() {
    let csv = |before: &str, after: &str| compared("a.csv", before, after);
    assert_eq!(csv("id,loss\na,1\n", "id,loss\r\na,1.0\r\n"), "the same");
    assert_eq!(
        csv("id,loss\na,1\nb,2\n", "id,loss\na,1.0001\nb,2.5\n"),
        "1 beyond, row 3, column `loss`: 2 → 2.5"
    );
    assert_eq!(csv("1,2\n", "1,3\n"), "1 beyond, row 1, column 2: 2 → 3");
    assert_eq!(csv("x\n\"a,b\"\n", "x\n\"a,c\"\n"), "unlike: row 2, column `x`: \"a,b\" → \"a,c\"");
    assert_eq!(csv("x\n1\n", "x\n1\n2\n"), "unlike: row 3 is new");
    assert_eq!(csv("x,y\n1,2\n", "x,y\n1\n"), "unlike: row 2 had 2 fields, and has 1");
    assert_eq!(csv("x\nnan\n", "x\nNaN\n"), "the same");
    assert_eq!(csv("x\n1\n", "x\n\n"), "unlike: row 2 is gone");
    assert_eq!(
        compared("a.tsv", "a\tb\n1\t2\n", "a\tb\n1\t2.0001\n"),
        "0 beyond, row 2, column `b`: 2 → 2.0001"
    );
}

/// A safetensors file: name, type, shape, bytes.
fn tensors(all: &[(&str, &str, &[u64], Vec<u8>)], metadata: &str) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), serde_json::json!({ "by": metadata }));
    let mut data = Vec::new();
    for (name, dtype, shape, bytes) in all {
        let offsets = [data.len(), data.len() + bytes.len()];
        header.insert(
            (*name).into(),
            serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets }),
        );
        data.extend(bytes);
    }
    let header = serde_json::to_vec(&header).unwrap();
    [(header.len() as u64).to_le_bytes().as_slice(), &header, &data].concat()
}

fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn tensors_may_differ_in_the_values_of_numbers_that_are_not_whole() {
    let one = |values: &[f32]| tensors(&[("w", "F32", &[2, 2], f32s(values))], "x");
    let same = one(&[1.0, 2.0, f32::NAN, 4.0]);
    assert_eq!(compared("m.safetensors", &same, &same), "the same");
    assert_eq!(
        compared("m.safetensors", &same, one(&[1.0, 2.0, f32::NAN, 4.25])),
        "1 beyond, w[1, 1]: 4 → 4.25"
    );
    assert_eq!(
        compared("m.safetensors", &same, one(&[1.0, 2.000_976_6, f32::NAN, 4.0])),
        "0 beyond, w[0, 1]: 2 → 2.0009765625"
    );
    let unlike = |all: &[(&str, &str, &[u64], Vec<u8>)], metadata: &str| {
        compared("m.safetensors", &same, tensors(all, metadata))
    };
    let bytes = || f32s(&[1.0, 2.0, f32::NAN, 4.0]);
    assert_eq!(
        unlike(&[("w", "F32", &[4], bytes())], "x"),
        "unlike: tensor `w` was F32 [2, 2], and is F32 [4]"
    );
    assert_eq!(
        unlike(&[("w", "I32", &[2, 2], bytes())], "x"),
        "unlike: tensor `w` was F32 [2, 2], and is I32 [2, 2]"
    );
    assert_eq!(unlike(&[("v", "F32", &[2, 2], bytes())], "x"), "unlike: tensor `w` is gone");
    assert_eq!(unlike(&[("w", "F32", &[2, 2], bytes())], "y"), "unlike: `__metadata__` differs");
    let whole = |value: i32| tensors(&[("n", "I32", &[1], value.to_le_bytes().to_vec())], "x");
    assert_eq!(
        compared("m.safetensors", whole(1), whole(2)),
        "unlike: tensor `n` of I32: another value at byte 0"
    );
}

#[test]
fn halves_brains_and_doubles_are_read_as_what_they_are() {
    let one = |dtype: &str, bytes: Vec<u8>| tensors(&[("w", dtype, &[1], bytes)], "x");
    for (dtype, before, after, said) in [
        ("F16", vec![0x00, 0x3c], vec![0x00, 0xc0], "1 → -2"),
        ("F16", vec![0x01, 0x00], vec![0x00, 0x7c], "0.00000005960464477539063 → inf"),
        ("BF16", vec![0x80, 0x3f], vec![0x00, 0xc0], "1 → -2"),
        ("F64", 1f64.to_le_bytes().to_vec(), (-2f64).to_le_bytes().to_vec(), "1 → -2"),
    ] {
        let found = compared("m.safetensors", one(dtype, before), one(dtype, after));
        assert_eq!(found, format!("1 beyond, w[0]: {said}"), "{dtype}");
    }
}

#[test]
fn tensors_in_another_order_are_the_same_and_differences_behind_a_megabyte_are_found() {
    let many: Vec<f32> = (0..400_000).map(|value| value as f32).collect();
    let mut other = many.clone();
    other[399_999] = 0.0;
    let file = |first: &str, second: &str, w: &[f32], v: &[f32]| {
        let (w, v) = (f32s(w), f32s(v));
        let (a, b): (&[u64], &[u64]) = (&[400_000], &[1]);
        match first {
            "w" => tensors(&[(first, "F32", a, w), (second, "F32", b, v)], "x"),
            _ => tensors(&[(first, "F32", b, v), (second, "F32", a, w)], "x"),
        }
    };
    let before = file("w", "v", &many, &[1.0]);
    assert_eq!(compared("m.safetensors", &before, file("v", "w", &many, &[1.0])), "the same");
    assert_eq!(
        compared("m.safetensors", &before, file("v", "w", &other, &[1.0])),
        "1 beyond, w[399999]: 399999 → 0"
    );
}

#[test]
fn damaged_tensors_are_refused() {
    let good = tensors(&[("w", "F32", &[2], f32s(&[1.0, 2.0]))], "x");
    for (bad, said) in [
        (b"abc".to_vec(), "too short"),
        (u64::MAX.to_le_bytes().to_vec(), "cannot have"),
        (good[..good.len() - 1].to_vec(), "outside of the file"),
        (tensors(&[("w", "F32", &[3], f32s(&[1.0, 2.0]))], "x"), "size of its shape"),
        (tensors(&[("w", "F32", &[u64::MAX, 2], f32s(&[1.0]))], "x"), "size of its shape"),
    ] {
        let found = compared("m.safetensors", &good, bad);
        assert!(found.contains(said), "{found}");
    }
}

#[test]
fn formats_go_by_the_last_extension() {
    assert_eq!(Format::of("a/b.JSON"), Some(Format::Json));
    assert_eq!(Format::of("b.csv"), Some(Format::Table(b',')));
    assert_eq!((Format::of("b.csv.gz"), Format::of("json")), (None, None));
}

fn document() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        prop::num::f64::NORMAL.prop_map(Into::into),
        ".{0,6}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map(".{0,3}", inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

/// The same with every object's keys the other way round.
fn turned(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Object(map) => {
            let fields: Vec<String> = map
                .iter()
                .rev()
                .map(|(key, value)| {
                    format!("{}: {}", serde_json::Value::from(key.as_str()), turned(value))
                })
                .collect();
            format!("{{{}}}", fields.join(" ,\n"))
        }
        serde_json::Value::Array(values) => {
            format!("[ {} ]", values.iter().map(turned).collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_document_is_the_same_as_itself_in_any_order(value in document()) {
        prop_assert_eq!(compared("a.json", value.to_string(), turned(&value)), "the same");
    }

    #[test]
    fn any_bytes_end_in_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..64), name in 0usize..3) {
        let name = ["a.json", "a.csv", "a.safetensors"][name];
        let (_folder, one, other) = files(name, &bytes, &bytes);
        if let Ok(found) = compare(Format::of(name).unwrap(), &one, &other, BOUND) {
            prop_assert_eq!(found, Comparison::Alike { worst: None, beyond: 0 });
        }
    }

    #[test]
    fn halves_agree_with_their_definition(bits in any::<u16>()) {
        // Through binary32, by shifting, as most libraries do it.
        let (sign, exponent, fraction) = (u32::from(bits >> 15), u32::from(bits >> 10) & 31, u32::from(bits & 0x3ff));
        let wanted = match exponent {
            0 => f32::from_bits(sign << 31 | 0x3880_0000 | fraction << 13) - f32::from_bits(sign << 31 | 0x3880_0000),
            31 => f32::from_bits(sign << 31 | 0x7f80_0000 | fraction << 13),
            _ => f32::from_bits(sign << 31 | (exponent + 112) << 23 | fraction << 13),
        };
        let one = tensors(&[("w", "F16", &[1], bits.to_le_bytes().to_vec())], "x");
        let other = tensors(&[("w", "F16", &[1], (bits ^ 0x8000).to_le_bytes().to_vec())], "x");
        let (_folder, one, other) = files("m.safetensors", one, other);
        let found = compare(Format::Safetensors, &one, &other, BOUND).unwrap();
        let Comparison::Alike { worst, .. } = found else { panic!("{found:?}") };
        match worst {
            Some(worst) => prop_assert_eq!(worst.before, f64::from(wanted)),
            None => prop_assert!(wanted == 0.0 || wanted.is_nan()),
        }
    }
}
