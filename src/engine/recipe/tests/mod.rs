//! Recipes as users write them, against a small builder table.

pub(crate) mod builders;
mod fuzz;
mod graphs;
mod messages;
mod properties;
mod steps_messages;

use std::sync::Arc;

use crate::{
    diagnostic::{Diagnostic, SourceText},
    graph::Graph,
};

fn evaluated(text: &str, set: &[(&str, &str)]) -> Result<Graph, Vec<Diagnostic>> {
    let source = Arc::new(SourceText { name: "kiln.toml".into(), text: text.into() });
    let set: Vec<(String, String)> =
        set.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    super::evaluate(&source, &builders::CATALOGUE, &set)
}

/// The graph of a recipe that is right. A name is put in front.
fn graph(text: &str) -> Graph {
    match evaluated(&format!("name = \"t\"\n{text}"), &[]) {
        Ok(graph) => graph,
        Err(problems) => panic!("{}", rendered(&problems)),
    }
}

/// All problems of a recipe, as text; what stands under a caret is in « ».
fn problems(text: &str) -> String {
    problems_with(text, &[])
}

fn problems_with(text: &str, set: &[(&str, &str)]) -> String {
    match evaluated(text, set) {
        Ok(graph) => panic!("no problem was found: {graph:?}"),
        Err(problems) => rendered(&problems),
    }
}

/// All problems of a recipe that needs a name.
fn named(text: &str) -> String {
    problems(&format!("name = \"t\"\n{text}"))
}

fn rendered(problems: &[Diagnostic]) -> String {
    let mut text = String::new();
    for problem in problems {
        text.push_str(&format!("{problem}\n"));
        if let Some(at) = &problem.at {
            text.push_str(&format!("   at «{}»\n", &at.source.text[at.span.clone()]));
        }
        for (place, label) in &problem.related {
            let marked = &place.source.text[place.span.clone()];
            text.push_str(&format!("   see {place}: {label} «{marked}»\n"));
        }
        for note in &problem.notes {
            text.push_str(&format!("   note: {note}\n"));
        }
        for help in &problem.help {
            text.push_str(&format!("   help: {help}\n"));
        }
    }
    text
}
