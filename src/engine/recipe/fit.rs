//! Values held against types, without places: what fits, and in which form it is kept.
//!
//! Unaware of references and of the recipe's text.

use std::collections::BTreeMap;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    params::{self, canonical, describe_node},
    quantity,
};
use crate::{
    catalogue::{Arg, Presence, Type},
    graph::Value,
};

/// `value` in the form that `ty` has in the graph, if it fits.
pub(super) fn fitting(value: Value, ty: &Type) -> Option<Value> {
    match (ty, value) {
        (Type::Bool, value @ Value::Bool(_)) => Some(value),
        (Type::Int { min, max }, Value::Int(number)) => {
            (*min..=*max).contains(&number).then_some(Value::Int(number))
        }
        (Type::Float { min, max }, Value::Int(number)) => {
            let number = number as f64;
            (*min <= number && number <= *max).then_some(Value::Float(number))
        }
        (Type::Float { min, max }, Value::Float(number)) => {
            (*min <= number && number <= *max).then_some(Value::Float(number))
        }
        (Type::Text, value @ Value::Text(_)) => Some(value),
        (Type::Word(words), value @ Value::Text(_)) => {
            words.contains(&canonical(&value).as_str()).then_some(value)
        }
        (Type::Amount, Value::Int(number)) => Some(Value::Float(number as f64)),
        (Type::Amount, Value::Float(number)) => number.is_finite().then_some(Value::Float(number)),
        (Type::Amount, value @ Value::Text(_)) => {
            quantity::share(&canonical(&value)).map(Value::text)
        }
        (Type::List(item), Value::List(values)) => values
            .into_iter()
            .map(|value| fitting(value, item))
            .collect::<Option<Vec<_>>>()
            .map(Value::List),
        _ => None,
    }
}

/// A value of the builder table itself: no references, no places.
///
/// The error says why it does not fit.
pub(super) fn literal(node: &Spanned<DeValue<'_>>, ty: &Type) -> Result<Value, String> {
    let wrong = || format!("expected {}, found {}", ty.phrase(), describe_node(node));
    match (node.get_ref(), ty) {
        (DeValue::Array(items), Type::List(item)) => items
            .iter()
            .map(|node| literal(node, item))
            .collect::<Result<Vec<_>, _>>()
            .map(Value::List),
        (DeValue::Table(table), Type::Map(inner)) if !table.is_empty() => table
            .iter()
            .map(|(key, node)| Ok((key.get_ref().as_ref().to_owned(), literal(node, inner)?)))
            .collect::<Result<BTreeMap<_, _>, _>>()
            .map(Value::Table),
        (DeValue::Table(table), Type::Table(fields)) => {
            literal_fields(table, fields, None).map(Value::Table)
        }
        (DeValue::Table(table), Type::Kinds(kinds)) => {
            let kind = table.get("kind").and_then(|node| node.get_ref().as_str());
            let (word, fields) =
                kinds.iter().find(|(word, _)| Some(*word) == kind).ok_or_else(wrong)?;
            literal_fields(table, fields, Some(word)).map(Value::Table)
        }
        (DeValue::Array(_) | DeValue::Table(_) | DeValue::Datetime(_), _) => Err(wrong()),
        _ => {
            let value = params::scalar(node).map_err(|(_, why)| why)?;
            fitting(value, ty).ok_or_else(wrong)
        }
    }
}

fn literal_fields(
    table: &DeTable<'_>,
    fields: &[Arg],
    kind: Option<&str>,
) -> Result<BTreeMap<String, Value>, String> {
    let mut values = BTreeMap::new();
    if let Some(kind) = kind {
        values.insert("kind".to_owned(), Value::text(kind));
    }
    for (key, _) in table.iter() {
        let name = key.get_ref().as_ref();
        let known =
            kind.is_some() && name == "kind" || fields.iter().any(|field| field.name == name);
        if !known {
            return Err(format!("`{name}` is not a field"));
        }
    }
    for field in fields {
        let value = match (table.get(field.name), field.presence) {
            (Some(node), _) => literal(node, &field.ty)?,
            (None, Presence::Optional) => continue,
            (None, Presence::Required) => return Err(format!("`{}` is missing", field.name)),
            (None, Presence::Default(text)) => {
                let node = DeValue::parse(text).map_err(|error| error.message().to_owned())?;
                literal(&node, &field.ty)?
            }
        };
        values.insert(field.name.to_owned(), value);
    }
    Ok(values)
}
