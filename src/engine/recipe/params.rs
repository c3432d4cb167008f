//! Parameters: values with a type, a default in the recipe, and perhaps another value from outside.

use std::{collections::HashMap, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{names, problems::Problems};
use crate::{
    diagnostic::{Diagnostic, shortened},
    graph::{Part, Value},
};

/// A parameter, decided.
#[derive(Debug)]
pub(super) struct Parameter {
    /// A scalar or a list of scalars; texts have no references.
    pub(super) value: Value,
    /// Where the recipe gives the default.
    pub(super) default_at: Range<usize>,
    /// Whether the value comes from outside.
    pub(super) overridden: bool,
}

/// All parameters by name; `None` where the definition is wrong and has been reported.
pub(super) type Params<'a> = HashMap<&'a str, Option<Parameter>>;

/// Puts `overrides` (name and text) in the place of defaults. The last one of a name counts.
pub(super) fn override_with(
    params: &mut Params<'_>,
    overrides: &[(String, String)],
    problems: &mut Problems,
) {
    for (name, text) in overrides {
        let Some(parameter) = params.get_mut(name.as_str()) else {
            let mut known: Vec<&str> = params.keys().copied().collect();
            known.sort_unstable();
            let problem =
                Diagnostic::new(format!("--set names the unknown parameter `{}`", shortened(name)));
            let problem = match known.is_empty() {
                true => problem.help("this recipe has no [params]"),
                false => problems.suggest(problem, name, &known, "its parameters"),
            };
            problems.push(problem);
            continue;
        };
        let Some(parameter) = parameter else { continue };
        match read(text, &parameter.value) {
            Ok(value) => {
                parameter.value = value;
                parameter.overridden = true;
            }
            Err(why) => {
                let place = problems.place(parameter.default_at.clone());
                let problem = Diagnostic::new(format!(
                    "--set {}={} has the wrong type",
                    shortened(name),
                    shortened(text)
                ))
                .at(place, format!("its default, {}, gives the type", describe(&parameter.value)))
                .note(why)
                .help(format!("give it {}", type_name(&parameter.value)));
                problems.push(problem);
            }
        }
    }
}

/// Reads `text` as a value of the type that `default` has.
fn read(text: &str, default: &Value) -> Result<Value, String> {
    let wrong = || format!("expected {}, found `{}`", type_name(default), shortened(text));
    if let Value::Text(_) = default {
        return Ok(Value::text(text));
    }
    let node = DeValue::parse(text.trim()).map_err(|_| wrong())?;
    let value = plain(&node).map_err(|_| wrong())?;
    coerced(value, default).ok_or_else(wrong)
}

/// `value` if it has the type of `default`, whole numbers made floats where those are wanted.
fn coerced(value: Value, default: &Value) -> Option<Value> {
    match (value, default) {
        (Value::Int(number), Value::Float(_)) => Some(Value::Float(number as f64)),
        (Value::List(items), Value::List(wanted)) => match wanted.first() {
            // The type of an empty list is open.
            None => Some(Value::List(items)),
            Some(first) => items
                .into_iter()
                .map(|item| coerced(item, first))
                .collect::<Option<Vec<_>>>()
                .map(Value::List),
        },
        (value, default) => {
            (std::mem::discriminant(&value) == std::mem::discriminant(default)).then_some(value)
        }
    }
}

/// A scalar or a list of scalars of one type; the error says where and why it is none.
pub(super) fn plain(node: &Spanned<DeValue<'_>>) -> Result<Value, (Range<usize>, String)> {
    let refuse = |found: &str| {
        Err((
            node.span(),
            format!(
                "a parameter is a bool, a number, a text, or a list of one of these; found {found}"
            ),
        ))
    };
    match node.get_ref() {
        DeValue::Array(items) => {
            let mut values = Vec::with_capacity(items.len());
            for item in items.iter() {
                if item.get_ref().is_array() {
                    return Err((item.span(), "a list in a list is not supported".to_owned()));
                }
                values.push(plain(item)?);
            }
            let floats = values.iter().any(|value| matches!(value, Value::Float(_)));
            let first = match values.first() {
                Some(Value::Int(_)) if floats => Value::Float(0.0),
                Some(first) => first.clone(),
                None => return Ok(Value::List(values)),
            };
            let mut same = Vec::with_capacity(values.len());
            for (value, item) in values.into_iter().zip(items.iter()) {
                let found = describe(&value);
                match coerced(value, &first) {
                    Some(value) => same.push(value),
                    None => {
                        let expected = type_name(&first);
                        let why = format!("the list began with {expected}, found {found}");
                        return Err((item.span(), why));
                    }
                }
            }
            Ok(Value::List(same))
        }
        DeValue::Table(_) => refuse("a table"),
        DeValue::Datetime(_) => refuse("a date or time (write it as text, in quotes)"),
        _ => scalar(node),
    }
}

/// A bool, a number or a text without references.
pub(super) fn scalar(node: &Spanned<DeValue<'_>>) -> Result<Value, (Range<usize>, String)> {
    let out_of_range = || (node.span(), "the number does not fit into 64 bits".to_owned());
    match node.get_ref() {
        DeValue::Boolean(value) => Ok(Value::Bool(*value)),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(Value::Int)
            .map_err(|_| out_of_range()),
        DeValue::Float(number) => match number.as_str().parse::<f64>() {
            Ok(value) if value.is_nan() => Err((node.span(), "nan is not a number".to_owned())),
            Ok(value) if value.is_infinite() && !number.as_str().contains("inf") => {
                Err(out_of_range())
            }
            Ok(value) => Ok(Value::Float(value)),
            Err(_) => Err(out_of_range()),
        },
        DeValue::String(text) => Ok(Value::text(text.as_ref())),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            Err((node.span(), format!("found {}", describe_node(node))))
        }
    }
}

/// The canonical text of a parameter's value.
///
/// Bools are `true` and `false`; whole numbers decimal; other numbers the shortest decimal text that reads back
/// as the same number, with `.0` if whole and with an exponent below 1e-5 and from 1e16 on; lists are JSON's,
/// with one space after each comma.
pub(super) fn canonical(value: &Value) -> String {
    match value {
        Value::Bool(value) => value.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => format!("{number:?}"),
        Value::Text(parts) => parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.as_str(),
                Part::Input(_) | Part::Output(_) => "",
            })
            .collect(),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(quoted).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Table(_) | Value::Input(_) => String::new(),
    }
}

fn quoted(value: &Value) -> String {
    let Value::Text(_) = value else { return canonical(value) };
    let mut text = String::from("\"");
    for c in canonical(value).chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            c if c.is_control() => text.push_str(&format!("\\u{:04x}", c as u32)),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

/// A value in a message: `the text "x"`, `the number 3.5`.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::Bool(value) => format!("`{value}`"),
        Value::Int(_) | Value::Float(_) => format!("the number {}", canonical(value)),
        Value::Text(parts) => match parts.as_slice() {
            [] | [Part::Text(_)] => format!("the text {}", shortened(&quoted(value))),
            _ => "text with references".to_owned(),
        },
        Value::List(_) => format!("the list {}", shortened(&canonical(value))),
        Value::Table(_) => "a table".to_owned(),
        Value::Input(_) => "a reference".to_owned(),
    }
}

/// A value as it is written, in a message.
pub(super) fn describe_node(node: &Spanned<DeValue<'_>>) -> String {
    match node.get_ref() {
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
        DeValue::Datetime(_) => "a date or time".to_owned(),
        _ => scalar(node).map_or_else(|_| "a number".to_owned(), |value| describe(&value)),
    }
}

/// A type in a message.
fn type_name(value: &Value) -> String {
    match value {
        Value::Bool(_) => "`true` or `false`".to_owned(),
        Value::Int(_) => "a whole number".to_owned(),
        Value::Float(_) => "a number".to_owned(),
        Value::Text(_) => "a text".to_owned(),
        Value::List(items) => match items.first() {
            Some(Value::Bool(_)) => "a list of `true` and `false`, such as `[true]`".to_owned(),
            Some(Value::Int(_)) => "a list of whole numbers, such as `[1, 2]`".to_owned(),
            Some(Value::Float(_)) => "a list of numbers, such as `[0.5, 1.0]`".to_owned(),
            Some(Value::Text(_)) => "a list of texts, such as `[\"a\", \"b\"]`".to_owned(),
            _ => "a list, such as `[1, 2]`".to_owned(),
        },
        Value::Table(_) => "a table".to_owned(),
        Value::Input(_) => "a reference".to_owned(),
    }
}

/// Reads `[params]`.
pub(super) fn declared<'a>(table: &'a DeTable<'a>, problems: &mut Problems) -> Params<'a> {
    let mut params = Params::new();
    for (key, node) in table.iter() {
        let name = key.get_ref().as_ref();
        if !names::is_name(name) {
            problems.push(names::bad_name(problems, key, "parameter"));
        }
        let parameter = match plain(node) {
            Ok(value) => match with_reference(node) {
                Some(span) => {
                    let problem = problems
                        .at(
                            span,
                            format!("parameter `{name}` has a reference in it"),
                            "parameters are plain values",
                        )
                        .help("put the pieces together where they are used");
                    problems.push(problem);
                    None
                }
                None => Some(Parameter { value, default_at: node.span(), overridden: false }),
            },
            Err((span, why)) => {
                let problem =
                    problems.at(span, format!("parameter `{name}` has the wrong type"), why);
                problems.push(problem);
                None
            }
        };
        params.insert(name, parameter);
    }
    params
}

/// The first text in `node` that has `${` in it.
fn with_reference(node: &Spanned<DeValue<'_>>) -> Option<Range<usize>> {
    match node.get_ref() {
        DeValue::String(text) => text.contains("${").then(|| node.span()),
        DeValue::Array(items) => items.iter().find_map(with_reference),
        _ => None,
    }
}
