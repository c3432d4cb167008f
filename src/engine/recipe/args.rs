//! A builder's arguments, held against its table.
//!
//! Types, ranges, defaults. Unaware of what builders do and of how steps depend on each other.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
};

use toml::de::{DeArray, DeTable, DeValue};

use super::{
    fit::{fitting, literal},
    params::{self, Parameter, canonical, describe, describe_node},
    problems::{Problems, enumerate},
    read::{KeyNode, Node},
    scope::{Bit, Target, View},
};
use crate::{
    catalogue::{Arg, Presence, Type},
    graph::{Reference, StepId, Value},
};

/// Values that stand for arguments that are left out, by the place of the argument in the table.
#[derive(Default)]
pub(super) struct Defaults(HashMap<usize, Value>);

/// Checks arguments of one step.
pub(super) struct Checker<'c, 's, 'a> {
    pub(super) view: &'c mut View<'s, 'a>,
    pub(super) defaults: &'c mut Defaults,
    pub(super) problems: &'c mut Problems,
}

/// Where a value stands, and what it is called.
struct Slot<'k> {
    /// `hidden`, or `model.hidden` inside a table.
    name: &'k str,
    /// Whether it may be absent.
    optional: bool,
}

impl<'a> Checker<'_, '_, 'a> {
    /// The values of `fields` as written in `entries`, defaults filled in.
    ///
    /// `owner` is who has these fields, in messages; `prefix` stands before their names; `at` is where a missing one is missed.
    /// `None` where something is wrong and has been reported.
    pub(super) fn fields(
        &mut self,
        entries: &[(&'a KeyNode<'a>, &'a Node<'a>)],
        fields: &'static [Arg],
        owner: &str,
        prefix: &str,
        at: Range<usize>,
        advice: impl Fn(&str) -> Option<String>,
    ) -> Option<BTreeMap<String, Value>> {
        let mut values = BTreeMap::new();
        let mut sound = true;
        // A required field under a wrong name is one mistake, not two.
        let mut meant: Vec<&str> = Vec::new();
        for (key, node) in entries {
            let name = key.get_ref().as_ref();
            let Some(field) = fields.iter().find(|field| field.name == name) else {
                let mut known: Vec<&'static str> = fields.iter().map(|field| field.name).collect();
                if prefix.is_empty() {
                    known.extend(super::language::names(super::language::STEP));
                }
                let problem = self.problems.at(
                    key.span(),
                    format!("unknown key `{name}`"),
                    format!("{owner} has no such key"),
                );
                let problem = match advice(name) {
                    Some(advice) => problem.note(advice),
                    None => problem,
                };
                meant.extend(crate::diagnostic::nearest(name, known.iter().copied()));
                let problem = self.problems.suggest(problem, name, &known, "its keys");
                self.problems.push(problem);
                sound = false;
                continue;
            };
            let path = format!("{prefix}{name}");
            let slot = Slot { name: &path, optional: field.presence == Presence::Optional };
            match self.value(node, &field.ty, &slot) {
                Some(value) => {
                    values.insert(name.to_owned(), value);
                }
                None => sound = false,
            }
        }
        for field in fields {
            if entries.iter().any(|(key, _)| key.get_ref() == field.name) {
                continue;
            }
            match field.presence {
                Presence::Optional => {}
                Presence::Required if meant.contains(&field.name) => {}
                Presence::Required => {
                    let problem = self
                        .problems
                        .at(
                            at.clone(),
                            format!("{owner} lacks `{prefix}{}`", field.name),
                            format!("expected {}", field.ty.phrase()),
                        )
                        .note(format!("`{}`: {}", field.name, field.doc));
                    self.problems.push(problem);
                    sound = false;
                }
                Presence::Default(text) => match self.default(field, text) {
                    Some(value) => {
                        values.insert(field.name.to_owned(), value);
                    }
                    None => sound = false,
                },
            }
        }
        sound.then_some(values)
    }

    /// The default `text` of `field`, read once however many steps leave it out.
    fn default(&mut self, field: &'static Arg, text: &'static str) -> Option<Value> {
        let place = std::ptr::from_ref(field).addr();
        if let Some(value) = self.defaults.0.get(&place) {
            return Some(value.clone());
        }
        let value = match DeValue::parse(text) {
            Ok(node) => literal(&node, &field.ty),
            Err(error) => Err(error.message().to_owned()),
        };
        match value {
            Ok(value) => {
                self.defaults.0.insert(place, value.clone());
                Some(value)
            }
            Err(why) => {
                let problem = crate::diagnostic::Diagnostic::new(format!(
                    "the builder table's default `{text}` for `{}` cannot be used",
                    field.name
                ));
                self.problems.push(problem.note(why).note("this is a mistake in kiln"));
                None
            }
        }
    }

    fn value(&mut self, node: &'a Node<'a>, ty: &'static Type, slot: &Slot<'_>) -> Option<Value> {
        match (node.get_ref(), ty) {
            (DeValue::String(text), _) => self.text(node, text, ty, slot),
            (DeValue::Array(items), Type::List(item)) => self.list(items, item, slot),
            (DeValue::Table(table), Type::Table(fields)) => {
                let entries: Vec<_> = table.iter().collect();
                let owner = format!("`{}`", slot.name);
                let prefix = format!("{}.", slot.name);
                self.fields(&entries, fields, &owner, &prefix, node.span(), |_| None)
                    .map(Value::Table)
            }
            (DeValue::Table(table), Type::Kinds(kinds)) => self.kinds(node, table, kinds, slot),
            (DeValue::Table(table), Type::Map(inner)) => self.map(node, table, inner, slot),
            (
                DeValue::Boolean(_) | DeValue::Integer(_) | DeValue::Float(_),
                Type::Bool
                | Type::Int { .. }
                | Type::Float { .. }
                | Type::Text
                | Type::Word(_)
                | Type::Amount,
            ) => match params::scalar(node) {
                Ok(value) => self.checked(value, ty, slot, node.span(), None),
                Err((span, why)) => {
                    self.refuse(span, ty, slot, why);
                    None
                }
            },
            _ => {
                let found = describe_node(node);
                self.refuse(node.span(), ty, slot, format!("found {found}"));
                None
            }
        }
    }

    fn list(
        &mut self,
        items: &'a DeArray<'a>,
        item: &'static Type,
        slot: &Slot<'_>,
    ) -> Option<Value> {
        let item_slot = Slot { name: slot.name, optional: false };
        let values: Vec<Option<Value>> =
            items.iter().map(|node| self.value(node, item, &item_slot)).collect();
        values.into_iter().collect::<Option<Vec<_>>>().map(Value::List)
    }

    fn map(
        &mut self,
        node: &Node<'_>,
        table: &'a DeTable<'a>,
        inner: &'static Type,
        slot: &Slot<'_>,
    ) -> Option<Value> {
        if table.is_empty() {
            self.refuse(node.span(), &Type::Map(inner), slot, "found an empty table".to_owned());
            return None;
        }
        let mut values = BTreeMap::new();
        let mut sound = true;
        for (key, node) in table.iter() {
            let name = key.get_ref().as_ref();
            if !super::names::is_output_name(name) {
                let problem = self.problems.at(
                    key.span(),
                    format!("{name:?} cannot be a name in `{}`", slot.name),
                    super::names::flaw(name, "a name is letters, digits, `_` and `-`"),
                );
                self.problems.push(problem);
                sound = false;
            }
            let path = format!("{}.{name}", slot.name);
            match self.value(node, inner, &Slot { name: &path, optional: false }) {
                Some(value) => {
                    values.insert(name.to_owned(), value);
                }
                None => sound = false,
            }
        }
        sound.then_some(Value::Table(values))
    }

    fn kinds(
        &mut self,
        node: &Node<'_>,
        table: &'a DeTable<'a>,
        kinds: &'static [(&'static str, &'static [Arg])],
        slot: &Slot<'_>,
    ) -> Option<Value> {
        let words: Vec<&str> = kinds.iter().map(|(word, _)| *word).collect();
        let Some(written) = table.get("kind") else {
            let problem = self.problems.at(
                node.span(),
                format!("`{}` has no `kind`", slot.name),
                format!("expected one of {}", enumerate(&words)),
            );
            self.problems.push(problem);
            return None;
        };
        let path = format!("{}.kind", slot.name);
        let kind = self.value(written, &Type::Text, &Slot { name: &path, optional: false })?;
        let word = canonical(&kind);
        let Some((word, fields)) = kinds.iter().find(|(known, _)| *known == word) else {
            let problem = self.problems.at(
                written.span(),
                format!("`{path}` cannot be {}", describe(&kind).trim_start_matches("the text ")),
                format!("expected one of {}", enumerate(&words)),
            );
            self.problems.push(problem.suggest(&word, words));
            return None;
        };
        let entries: Vec<_> =
            table.iter().filter(|(key, _)| key.get_ref().as_ref() != "kind").collect();
        let owner = format!("`{}` of kind `{word}`", slot.name);
        let prefix = format!("{}.", slot.name);
        let mut values = self.fields(&entries, fields, &owner, &prefix, node.span(), |_| None)?;
        values.insert("kind".to_owned(), Value::text(*word));
        Some(Value::Table(values))
    }

    /// A string: a lone parameter has the parameter's type, a lone reference is an input, all else is text.
    fn text(
        &mut self,
        node: &'a Node<'a>,
        text: &'a str,
        ty: &'static Type,
        slot: &Slot<'_>,
    ) -> Option<Value> {
        let bits = self.view.bits(node, text, self.problems)?;
        if let [Bit::Target { target, name, span }] = bits.as_slice() {
            match *target {
                Target::Parameter(parameter) => {
                    let value = parameter.value.clone();
                    return self.checked(value, ty, slot, span.clone(), Some((name, parameter)));
                }
                Target::Source(source) => {
                    if matches!(ty, Type::Input) && source.optional && !slot.optional {
                        let problem = self
                            .problems
                            .at(
                                span.clone(),
                                format!(
                                    "`{name}` may be absent, but `{}` must be there",
                                    slot.name
                                ),
                                "its source says `absent = \"accept\"`",
                            )
                            .help(
                                "leave `absent` out of the source to make a missing one an error",
                            );
                        self.problems.push(problem);
                        return None;
                    }
                    return self.input(Reference::Source(source.id), ty, slot, span.clone());
                }
                Target::Output(step, output) => {
                    let reference = Reference::Output(StepId(step as u32), output);
                    return self.input(reference, ty, slot, span.clone());
                }
                Target::Own(_) => {}
            }
        }
        let mut whole = String::new();
        for bit in &bits {
            match bit {
                Bit::Text(text) => whole.push_str(text),
                Bit::Target { target: Target::Parameter(parameter), .. } => {
                    whole.push_str(&canonical(&parameter.value));
                }
                Bit::Target { span, .. } => {
                    let why = "found a reference inside other text".to_owned();
                    self.refuse(span.clone(), ty, slot, why);
                    return None;
                }
            }
        }
        self.checked(Value::text(whole), ty, slot, node.span(), None)
    }

    fn input(
        &mut self,
        reference: Reference,
        ty: &Type,
        slot: &Slot<'_>,
        span: Range<usize>,
    ) -> Option<Value> {
        if matches!(ty, Type::Input) {
            return Some(Value::Input(reference));
        }
        self.refuse(span, ty, slot, "found a reference to a file or folder".to_owned());
        None
    }

    /// `value` as `ty` has it. `from` is the parameter that it comes from.
    fn checked(
        &mut self,
        value: Value,
        ty: &'static Type,
        slot: &Slot<'_>,
        span: Range<usize>,
        from: Option<(&str, &Parameter)>,
    ) -> Option<Value> {
        let word = match &value {
            Value::Text(_) => Some(canonical(&value)),
            _ => None,
        };
        let found = describe(&value);
        if let Some(value) = fitting(value, ty) {
            return Some(value);
        }
        let mut problem = self.mismatch(span, ty, slot, format!("found {found}"));
        if let (Type::Word(words), Some(word)) = (ty, word) {
            problem = problem.suggest(&word, words.iter().copied());
        }
        if let Some((name, parameter)) = from {
            let what = match parameter.overridden {
                true => format!("`{name}` is set by --set; its default stands here"),
                false => format!("`{name}` has its value from here"),
            };
            problem = problem.related(self.problems.place(parameter.default_at.clone()), what);
        }
        self.problems.push(problem);
        None
    }

    fn mismatch(
        &self,
        span: Range<usize>,
        ty: &Type,
        slot: &Slot<'_>,
        found: String,
    ) -> crate::diagnostic::Diagnostic {
        self.problems.at(
            span,
            format!("`{}` has the wrong type or value", slot.name),
            format!("expected {}, {found}", ty.phrase()),
        )
    }

    fn refuse(&mut self, span: Range<usize>, ty: &Type, slot: &Slot<'_>, found: String) {
        let problem = self.mismatch(span, ty, slot, found);
        self.problems.push(problem);
    }
}
