//! What the names in references mean.
//!
//! One lookup for each kind of name, built once per recipe. Unaware of types and of builders.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
    ops::Range,
};

use super::{
    params::{Parameter, Params},
    problems::{Problems, enumerate},
    read::Node,
    spans::Spelling,
    template::{self, Flaw, Mention, Piece},
};
use crate::{diagnostic::Diagnostic, graph::SourceId};

/// The names of one recipe.
pub(super) struct Scope<'a> {
    pub(super) params: &'a Params<'a>,
    pub(super) sources: HashMap<&'a str, SourceName>,
    /// Number of each step.
    pub(super) steps: HashMap<&'a str, usize>,
    /// The outputs of each step, sorted; `None` where they are wrong and have been reported.
    pub(super) outputs: Vec<Option<Vec<&'a str>>>,
}

/// A source as seen by references.
#[derive(Clone, Copy)]
pub(super) struct SourceName {
    pub(super) id: SourceId,
    /// Whether it can be absent.
    pub(super) optional: bool,
}

/// What a reference means. Steps are numbered as in [`Scope::steps`].
#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    Parameter(&'a Parameter),
    Source(SourceName),
    Output(usize, u32),
    /// An output of the step itself: where to write it.
    Own(u32),
}

/// A piece of text, resolved.
pub(super) enum Bit<'a> {
    Text(Cow<'a, str>),
    Target { target: Target<'a>, name: &'a str, span: Range<usize> },
}

/// From where references are resolved.
pub(super) struct View<'s, 'a> {
    pub(super) scope: &'s Scope<'a>,
    /// The step whose `${out}` can be named.
    pub(super) own: Option<usize>,
    /// Each step that was named, and where.
    pub(super) edges: Vec<(usize, Range<usize>)>,
    /// Each parameter that was named.
    pub(super) params: BTreeSet<&'a str>,
}

impl<'s, 'a> View<'s, 'a> {
    pub(super) fn new(scope: &'s Scope<'a>, own: Option<usize>) -> Self {
        Self { scope, own, edges: Vec::new(), params: BTreeSet::new() }
    }

    /// The pieces of the text `value` at `node`, or `None` where something is wrong and has been reported.
    pub(super) fn bits(
        &mut self,
        node: &Node<'_>,
        value: &'a str,
        problems: &mut Problems,
    ) -> Option<Vec<Bit<'a>>> {
        // Most texts have no reference; no other check is needed for them.
        if !value.contains("${") {
            let text = (!value.is_empty()).then_some(Bit::Text(Cow::Borrowed(value)));
            return Some(text.into_iter().collect());
        }
        let (pieces, flaws) = template::pieces(value);
        let mut sound = flaws.is_empty();
        let spelling = Spelling::new(problems.text(), node.span(), value);
        for flaw in flaws {
            let problem = flawed(&spelling, value, flaw, problems);
            problems.push(problem);
        }
        let mut bits = Vec::with_capacity(pieces.len());
        for piece in pieces {
            match piece {
                Piece::Text(text) => bits.push(Bit::Text(text)),
                Piece::Reference(mention) => {
                    let span = spelling.of(mention.range.clone());
                    match self.scope.resolve(&mention, self.own, span.clone(), problems) {
                        Some(target) => {
                            if let Target::Output(step, _) = target {
                                self.edges.push((step, span.clone()));
                            }
                            if let Target::Parameter(_) = target {
                                self.params.extend(mention.name.strip_prefix("params."));
                            }
                            bits.push(Bit::Target { target, name: mention.name, span });
                        }
                        None => sound = false,
                    }
                }
            }
        }
        sound.then_some(bits)
    }
}

fn flawed(spelling: &Spelling, value: &str, flaw: Flaw, problems: &Problems) -> Diagnostic {
    let dollar = "for a literal `${`, as in a shell variable, write `$${`; `$NAME` needs no care";
    match flaw {
        Flaw::Open(range) => problems
            .at(spelling.of(range), "a reference without an end", "no `}` follows on this line")
            .help(dollar),
        Flaw::NoName(range) => {
            let written = value[range.clone()].to_owned();
            problems
                .at(
                    spelling.of(range),
                    format!("`{written}` is not a reference"),
                    "expected names and dots, as in `${sources.data}`, `${step}`, `${step.output}`",
                )
                .help(dollar)
        }
    }
}

impl<'a> Scope<'a> {
    /// What `mention` means, or `None`: reported here, or where the thing it means is defined.
    fn resolve(
        &self,
        mention: &Mention<'a>,
        own: Option<usize>,
        span: Range<usize>,
        problems: &mut Problems,
    ) -> Option<Target<'a>> {
        let (first, rest) = match mention.name.split_once('.') {
            Some((first, rest)) => (first, Some(rest)),
            None => (mention.name, None),
        };
        match (first, rest) {
            ("in" | "env", _) => {
                let problem = problems.at(
                    span,
                    format!("`${{{}}}` means nothing", mention.name),
                    format!("the name `{first}` is reserved"),
                );
                let problem = match (first, rest) {
                    ("env", Some(name)) => problem.help(format!(
                        "in `run`, write `${name}`; to take it from the caller, list it in `pass_env`"
                    )),
                    _ => problem.help("name the source or step that is read"),
                };
                problems.push(problem);
                None
            }
            ("out", name) => self.own_output(name, own, span, problems),
            ("params", Some(name)) => match self.params.get(name) {
                Some(parameter) => parameter.as_ref().map(Target::Parameter),
                None => {
                    let known = problems.known(self.params.keys().copied());
                    self.unknown("parameter", name, &known, span, problems);
                    None
                }
            },
            ("sources", Some(name)) => match self.sources.get(name) {
                Some(source) => Some(Target::Source(*source)),
                None => {
                    let known = problems.known(self.sources.keys().copied());
                    self.unknown("source", name, &known, span, problems);
                    None
                }
            },
            ("params" | "sources", None) => {
                let problem = problems.at(
                    span,
                    format!("`${{{first}}}` is not a reference"),
                    format!("which one? `${{{first}.NAME}}`"),
                );
                problems.push(problem);
                None
            }
            (step, output) => self.output(step, output, span, problems),
        }
    }

    fn own_output(
        &self,
        name: Option<&str>,
        own: Option<usize>,
        span: Range<usize>,
        problems: &mut Problems,
    ) -> Option<Target<'a>> {
        let Some(own) = own else {
            let problem = problems
                .at(
                    span,
                    "`${out}` has no meaning here",
                    "only `run` and `env` of a `command` step can name the step's own outputs",
                )
                .help("a builder that kiln brings knows where to write");
            problems.push(problem);
            return None;
        };
        let outputs = self.outputs[own].as_ref()?;
        let found = match name {
            Some(name) => outputs.iter().position(|output| *output == name),
            None => (outputs.as_slice() == ["out"]).then_some(0),
        };
        if let Some(found) = found {
            return Some(Target::Own(found as u32));
        }
        let spelled: Vec<String> =
            outputs.iter().map(|output| format!("${{out.{output}}}")).collect();
        let spelled: Vec<&str> = spelled.iter().map(String::as_str).collect();
        let problem = match name {
            Some(name) => {
                let problem = problems.at(
                    span,
                    format!("this step has no output `{name}`"),
                    "no such output",
                );
                problems.suggest(problem, name, outputs, "its outputs")
            }
            None => problems
                .at(span, "`${out}` does not say which output", "the step names its outputs")
                .help(format!("write {}", enumerate(&spelled))),
        };
        problems.push(problem);
        None
    }

    fn output(
        &self,
        step: &str,
        output: Option<&str>,
        span: Range<usize>,
        problems: &mut Problems,
    ) -> Option<Target<'a>> {
        let Some(&number) = self.steps.get(step) else {
            self.unknown_step(step, output, span, problems);
            return None;
        };
        let outputs = self.outputs[number].as_ref()?;
        let found = match output {
            Some(output) => outputs.iter().position(|known| *known == output),
            None => (outputs.as_slice() == ["out"]).then_some(0),
        };
        if let Some(found) = found {
            return Some(Target::Output(number, found as u32));
        }
        let problem = match output {
            Some(output) => {
                let problem = problems.at(
                    span,
                    format!("step `{step}` has no output `{output}`"),
                    "no such output",
                );
                problems.suggest(problem, output, outputs, "its outputs")
            }
            None => {
                let spelled: Vec<String> =
                    outputs.iter().map(|output| format!("${{{step}.{output}}}")).collect();
                let spelled: Vec<&str> = spelled.iter().map(String::as_str).collect();
                problems
                    .at(
                        span,
                        format!("`${{{step}}}` does not say which output"),
                        format!("`{step}` names its outputs"),
                    )
                    .help(format!("write {}", enumerate(&spelled)))
            }
        };
        problems.push(problem);
        None
    }

    fn unknown_step(
        &self,
        step: &str,
        output: Option<&str>,
        span: Range<usize>,
        problems: &mut Problems,
    ) {
        let known = problems.known(self.steps.keys().copied());
        let problem = problems.at(
            span,
            format!("unknown step `{step}`"),
            "the recipe has no step of this name",
        );
        let problem = if output.is_none() && self.sources.contains_key(step) {
            problem.help(format!("`{step}` is a source: write `${{sources.{step}}}`"))
        } else if output.is_none() && self.params.contains_key(step) {
            problem.help(format!("`{step}` is a parameter: write `${{params.{step}}}`"))
        } else if output.is_some()
            && crate::diagnostic::nearest(step, ["sources", "params"]).is_some()
        {
            problem.suggest(step, ["sources", "params"])
        } else {
            let problem = problems.suggest(problem, step, &known, "its steps");
            match output {
                None => problem.note("a shell variable is written `$${NAME}` or `$NAME`"),
                Some(_) => problem,
            }
        };
        problems.push(problem);
    }

    fn unknown(
        &self,
        what: &str,
        name: &str,
        known: &[&str],
        span: Range<usize>,
        problems: &mut Problems,
    ) {
        let problem = problems.at(
            span,
            format!("unknown {what} `{name}`"),
            format!("the recipe has no {what} of this name"),
        );
        let problem = problems.suggest(problem, name, known, &format!("its {what}s"));
        problems.push(problem);
    }
}
