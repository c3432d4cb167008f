//! Mistakes in a step's arguments that no run could put right.
//!
//! Each check sees arguments of the right types; what depends on data is the builder's own to say. Unaware of
//! where anything stands in a recipe.

use std::collections::BTreeMap;

use kiln_engine::{
    catalogue::{
        Complaint,
        Inward::{self, Item},
    },
    graph::{Part, Value},
};

type Values = BTreeMap<String, Value>;

fn key(name: &str) -> Inward {
    Inward::Key(name.to_owned())
}

fn number(value: Option<&Value>) -> Option<f64> {
    match value {
        Some(Value::Float(number)) => Some(*number),
        _ => None,
    }
}

/// Shares that are none, or that miss 1.
pub(super) fn split(args: &Values) -> Vec<Complaint> {
    /// As far from 1 as the builder lets the sum be, so that 0.7 + 0.15 + 0.15 passes.
    const TOLERANCE: f64 = 1e-9;
    let Some(Value::Table(ratios)) = args.get("ratios") else { return Vec::new() };
    let shares: Vec<(&str, f64)> = ratios
        .iter()
        .filter_map(|(name, share)| Some((name.as_str(), number(Some(share))?)))
        .collect();
    let empty: Vec<Complaint> = shares
        .iter()
        .filter(|(_, share)| *share <= 0.0)
        .map(|(name, _)| Complaint {
            path: vec![key("ratios"), key(name)],
            message: format!("the part `{name}` would be empty"),
            why: "a ratio is greater than 0".to_owned(),
            help: "leave the part out, or give it a share".to_owned(),
        })
        .collect();
    let sum: f64 = shares.iter().map(|(_, share)| share).sum();
    if !empty.is_empty() || (sum - 1.0).abs() <= TOLERANCE {
        return empty;
    }
    let tidy = |number: f64| (number * 1e9).round() / 1e9;
    let help = shares
        .last()
        .map(|(name, share)| (name, tidy(1.0 - (sum - share))))
        .filter(|(_, fit)| *fit > 0.0)
        .map_or_else(
            || "make them smaller".to_owned(),
            |(name, fit)| format!("with `{name}` at {fit} they would"),
        );
    vec![Complaint {
        path: vec![key("ratios")],
        message: "the ratios do not add up to 1".to_owned(),
        why: format!("they add up to {}", tidy(sum)),
        help,
    }]
}

fn word(value: Option<&Value>) -> Option<&str> {
    match value {
        Some(Value::Text(parts)) => match parts.as_slice() {
            [Part::Text(text)] => Some(text),
            _ => None,
        },
        _ => None,
    }
}

/// The kind of model, and the backend, of a step of `train`.
fn kind_and_backend(args: &Values) -> (Option<&str>, Option<&str>) {
    let kind = match args.get("model") {
        Some(Value::Table(model)) => word(model.get("kind")),
        _ => None,
    };
    (kind, word(args.get("backend")))
}

/// Whether a step of `train` asks for a GPU.
pub(super) fn is_cuda(args: &Values) -> bool {
    kind_and_backend(args).1 == Some("cuda")
}

/// Whether a step of `train` takes a GPU where there is one.
pub(super) fn is_auto(args: &Values) -> bool {
    kind_and_backend(args) == (Some("mlp"), Some("auto"))
}

/// A network without hidden layers, a GPU for what has no kernels, and patience with nothing to wait for.
pub(super) fn train(args: &Values) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    if let Some(Value::Table(model)) = args.get("model")
        && matches!(model.get("hidden"), Some(Value::List(layers)) if layers.is_empty())
    {
        complaints.push(Complaint {
            path: vec![key("model"), key("hidden")],
            message: "an `mlp` needs a hidden layer".to_owned(),
            why: "`hidden` is empty".to_owned(),
            help: "write the units of each layer, such as `hidden = [64, 32]`, or take `kind = \"logistic\"`"
                .to_owned(),
        });
    }
    if let Some(Value::Table(model)) = args.get("model") {
        for name in ["learning_rate", "row_share", "column_share"] {
            if number(model.get(name)).is_some_and(|value| value <= 0.0) {
                complaints.push(Complaint {
                    path: vec![key("model"), key(name)],
                    message: format!("`{name}` is 0"),
                    why: "nothing would be learnt: it is greater than 0".to_owned(),
                    help: "leave it out, or write a number such as 0.5".to_owned(),
                });
            }
        }
    }
    if number(args.get("learning_rate")).is_some_and(|rate| rate <= 0.0) {
        complaints.push(Complaint {
            path: vec![key("learning_rate")],
            message: "`learning_rate` is 0".to_owned(),
            why: "nothing would be learnt: it is greater than 0".to_owned(),
            help: "leave it out, or write a number such as 0.001".to_owned(),
        });
    }
    if args.contains_key("class_weights") && args.get("balance") == Some(&Value::Bool(true)) {
        complaints.push(Complaint {
            path: vec![key("balance")],
            message: "`balance` beside `class_weights`".to_owned(),
            why: "both say how much each class counts".to_owned(),
            help: "leave one of them out".to_owned(),
        });
    }
    if let (Some(kind @ ("logistic" | "gbdt")), Some("cuda")) = kind_and_backend(args) {
        complaints.push(Complaint {
            path: vec![key("backend")],
            message: format!("`{kind}` on a GPU"),
            why: "only an `mlp` has kernels for one".to_owned(),
            help: "leave `backend` out, or write `\"auto\"`, which takes the CPU".to_owned(),
        });
    }
    if args.contains_key("patience") && !args.contains_key("valid") {
        complaints.push(Complaint {
            path: vec![key("patience")],
            message: "`patience` without `valid`".to_owned(),
            why: "it counts epochs without a better validation loss".to_owned(),
            help: "name the rows to choose by, such as `valid = \"${split.valid}\"`, or leave `patience` out"
                .to_owned(),
        });
    }
    complaints
}

/// Nothing to compile, no architecture, or flags that reach outside of the step.
pub(super) fn cuda(args: &Values) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let complain = |path: Vec<Inward>, message: String, why: &str, help: &str| Complaint {
        path,
        message,
        why: why.to_owned(),
        help: help.to_owned(),
    };
    if args.contains_key("kernels") == args.contains_key("sources") {
        complaints.push(complain(
            vec![key(if args.contains_key("sources") { "sources" } else { "arch" })],
            "one of `kernels` and `sources` says what to compile".to_owned(),
            if args.contains_key("kernels") { "both are there" } else { "neither is there" },
            "write `kernels = \"builtin:mlp\"`, or `sources = \"${sources.kernels}\"`",
        ));
    }
    let Some(Value::List(all)) = args.get("arch") else { return complaints };
    if all.is_empty() {
        complaints.push(complain(
            vec![key("arch")],
            "no architecture".to_owned(),
            "the list is empty",
            "name one, such as `arch = [\"sm_90\"]`",
        ));
    }
    for (index, own) in all.iter().enumerate() {
        let Some(own) = plain(own) else { continue };
        let number = own.strip_prefix("sm_").map(|rest| rest.trim_end_matches(['a', 'f']));
        if !number
            .is_some_and(|number| number.len() > 1 && number.bytes().all(|b| b.is_ascii_digit()))
        {
            complaints.push(complain(
                vec![key("arch"), Item(index)],
                format!("`{own}` is no architecture"),
                "machine code is made for one: `sm_` and its number",
                "write `sm_80` for A100, `sm_90` for H100 and H200, `sm_100` for B200",
            ));
        }
    }
    let Some(Value::List(flags)) = args.get("flags") else { return complaints };
    for (index, flag) in flags.iter().enumerate() {
        let Some(flag) = plain(flag) else { continue };
        let reaches = [
            "-I",
            "--include-path",
            "-include",
            "--pre-include",
            "-arch",
            "--gpu-architecture",
            "--generate-line-info-path",
        ];
        if reaches.iter().any(|own| flag.starts_with(own)) {
            complaints.push(complain(
                vec![key("flags"), Item(index)],
                format!("the flag `{flag}` is not the step's to set"),
                "what is included and the architecture are arguments, so that they are in the key",
                "use `include` and `arch`",
            ));
        }
    }
    complaints
}

/// The text of a value without references.
fn plain(value: &Value) -> Option<&str> {
    match value {
        Value::Text(parts) => match &parts[..] {
            [Part::Text(text)] => Some(text),
            _ => None,
        },
        _ => None,
    }
}

/// Gates that decide nothing, or that nothing could pass.
pub(super) fn evaluate(args: &Values) -> Vec<Complaint> {
    let Some(Value::List(gates)) = args.get("gates") else { return Vec::new() };
    let compares = args.contains_key("baseline");
    let mut complaints = Vec::new();
    for (index, gate) in gates.iter().enumerate() {
        let Value::Table(gate) = gate else { continue };
        let inside = |name: &str| vec![key("gates"), Item(index), key(name)];
        if !["min", "max", "max_drop", "min_gain"].iter().any(|name| gate.contains_key(*name)) {
            complaints.push(Complaint {
                path: vec![key("gates"), Item(index)],
                message: "the gate has no condition".to_owned(),
                why: "it would hold for every model".to_owned(),
                help: "give it `min`, `max`, `max_drop` or `min_gain`".to_owned(),
            });
        }
        for name in ["max_drop", "min_gain"] {
            if gate.contains_key(name) && !compares {
                complaints.push(Complaint {
                    path: inside(name),
                    message: "relative gate without a baseline".to_owned(),
                    why: format!("`{name}` compares with `baseline`, which the step has not"),
                    help: "add `baseline = \"${sources.base}\"`, where `base = { deployment = \"production\", output = \"model\", absent = \"accept\" }`"
                        .to_owned(),
                });
            }
            if let Some(amount) = number(gate.get(name)).filter(|amount| *amount < 0.0) {
                complaints.push(Complaint {
                    path: inside(name),
                    message: format!("`{name}` is negative"),
                    why: format!("expected at least 0, found {amount}"),
                    help: "`max_drop` allows a loss, `min_gain` demands a gain".to_owned(),
                });
            }
        }
        if let (Some(least), Some(most)) = (number(gate.get("min")), number(gate.get("max")))
            && least > most
        {
            complaints.push(Complaint {
                path: inside("max"),
                message: "no value passes the gate".to_owned(),
                why: format!("`max` is {most}, less than `min`, which is {least}"),
                help: "exchange them, or leave one out".to_owned(),
            });
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kiln_engine::{diagnostic::SourceText, recipe};

    use super::super::CATALOGUE;

    /// What is said of a recipe with these keys in the step of `builder`: place, marked text, message and advice.
    fn said(builder: &str, keys: &str) -> Vec<String> {
        let text = format!(
            "name = \"t\"\n[sources]\nd = \"d\"\nbase = {{ deployment = \"p\", absent = \"accept\" }}\n\
             [steps.r]\nrun = \"x ${{out}}\"\n[deploy.p]\nrelease = \"${{r}}\"\n\
             [steps.s]\nbuilder = \"{builder}\"\n{keys}"
        );
        let source = Arc::new(SourceText { name: "kiln.toml".into(), text });
        let Err(problems) = recipe::evaluate(&source, &CATALOGUE, &[]) else { return Vec::new() };
        let shown = problems.iter().map(|problem| {
            let at = problem.at.as_ref().unwrap();
            let marked = &source.text[at.span.clone()];
            format!("«{marked}» {problem}; {}", problem.help.join("; "))
        });
        shown.collect()
    }

    fn split(ratios: &str) -> Vec<String> {
        said("split", &format!("data = \"${{sources.d}}\"\nratios = {ratios}"))
    }

    #[test]
    fn ratios_that_miss_one_are_a_mistake_at_their_key() {
        assert!(split("{ a = 0.7, b = 0.15, c = 0.15 }").is_empty());
        assert!(split("{ a = 0.1, b = 0.2, c = 0.7 }").is_empty());
        assert_eq!(
            split("{ a = 0.6, b = 0.3 }"),
            ["«ratios» kiln.toml:12:1: the ratios do not add up to 1: they add up to 0.9; \
                 with `b` at 0.4 they would"]
        );
        assert!(split("{ a = 1.0, b = 0.5 }")[0].ends_with("up to 1.5; make them smaller"));
    }

    #[test]
    fn a_ratio_of_zero_is_a_mistake_at_its_part() {
        assert_eq!(
            split("{ a = 1, none = 0 }"),
            ["«none» kiln.toml:12:19: the part `none` would be empty: a ratio is greater than 0; \
                 leave the part out, or give it a share"]
        );
    }

    #[test]
    fn a_network_has_a_layer_and_patience_has_rows_to_choose_by() {
        let train = |keys: &str| {
            said("train", &format!("train = \"${{sources.d}}\"\nlabel = \"l\"\n{keys}"))
        };
        let right =
            "valid = \"${sources.d}\"\npatience = 3\nmodel = { kind = \"mlp\", hidden = [1] }";
        assert!(train(right).is_empty());
        let said = train("patience = 3\nmodel = { kind = \"mlp\", hidden = [] }");
        assert_eq!(said.len(), 2);
        assert!(train("model = { kind = \"logistic\" }\nlearning_rate = 0")[0].starts_with(
            "«learning_rate» kiln.toml:14:1: `learning_rate` is 0: nothing would be learnt"
        ));
        assert!(train("model = { kind = \"gbdt\", depth = 8, growth = \"leaf\" }").is_empty());
        let on = |kind: &str, backend: &str| {
            train(&format!("model = {{ kind = {kind} }}\nbackend = \"{backend}\""))
        };
        for backend in ["auto", "cpu", "cuda"] {
            assert!(on("\"mlp\", hidden = [1]", backend).is_empty());
            assert_eq!(on("\"gbdt\"", backend).is_empty(), backend != "cuda");
        }
        assert!(on("\"logistic\"", "cuda")[0].starts_with(
            "«backend» kiln.toml:14:1: `logistic` on a GPU: only an `mlp` has kernels for one;"
        ));
        assert!(
            train("model = { kind = \"gbdt\", row_share = 0 }")[0].starts_with(
                "«row_share» kiln.toml:13:26: `row_share` is 0: nothing would be learnt"
            )
        );
        assert!(said[0].starts_with("«patience» kiln.toml:13:1: `patience` without `valid`:"));
        assert!(said[1].starts_with("«hidden» kiln.toml:14:25: an `mlp` needs a hidden layer:"));
    }

    fn gates(baseline: &str, gates: &str) -> Vec<String> {
        let inputs = "model = \"${sources.d}\"\ntest = \"${sources.d}\"";
        said("evaluate", &format!("{inputs}\n{baseline}\ngates = [{gates}]"))
    }

    const BASE: &str = "baseline = \"${sources.base}\"";

    #[test]
    fn a_relative_gate_needs_a_baseline_and_may_have_an_absent_one() {
        let relative = "{ metric = \"f1\", min = 0.5, max_drop = \"2%\" }, { metric = \"f1\", min_gain = 0.1 }";
        assert!(gates(BASE, relative).is_empty());
        assert!(gates("", "{ metric = \"f1\", min = 0.5 }").is_empty());
        let said = gates("", relative);
        assert_eq!(said.len(), 2);
        assert_eq!(
            said[0],
            "«max_drop» kiln.toml:14:38: relative gate without a baseline: `max_drop` compares with \
             `baseline`, which the step has not; add `baseline = \"${sources.base}\"`, where `base = { \
             deployment = \"production\", output = \"model\", absent = \"accept\" }`"
        );
        assert!(said[1].starts_with("«min_gain» kiln.toml:14:74: relative gate without"));
    }

    #[test]
    fn a_gate_that_decides_nothing_or_passes_nothing_is_a_mistake() {
        let one = |gate: &str| gates(BASE, gate).join("\n");
        assert!(one("{ metric = \"f1\" }").starts_with(
            "«{ metric = \"f1\" }» kiln.toml:14:10: the gate has no condition: it would hold"
        ));
        assert!(one("{ metric = \"f1\", min = 0.9, max = 0.1 }").starts_with(
            "«max» kiln.toml:14:38: no value passes the gate: `max` is 0.1, less than `min`"
        ));
        assert!(one("{ metric = \"f1\", max_drop = -0.1 }").starts_with(
            "«max_drop» kiln.toml:14:27: `max_drop` is negative: expected at least 0, found -0.1"
        ));
        assert!(one("{ metric = \"f1\", min = 0.5, max = 0.5 }").is_empty());
    }
}
