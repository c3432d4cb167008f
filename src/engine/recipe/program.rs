//! A step that runs a program: its texts, with references and parameters in them.
//!
//! Guards the shell from parameters that it could misread. Unaware of builders that kiln brings.

use std::{collections::BTreeMap, ops::Range};

use super::{
    command::{Command, Run},
    language::{COMMAND_NAME, COMMAND_VERSION},
    params::{Parameter, canonical, scalar},
    parse::StepDecl,
    problems::Problems,
    read::{Node, wrong_type},
    scope::{Bit, Target, View},
    step::{bare, inputs},
};
use crate::graph::{
    Availability, BuilderId, Output, Part, Reference, Step, StepId, Toolchain, Value,
};

/// Step number `number` of the recipe; `None` where something is wrong and has been reported.
pub(super) fn step<'a>(
    decl: &StepDecl<'_>,
    command: &Command<'a>,
    number: usize,
    view: &mut View<'_, 'a>,
    problems: &mut Problems,
) -> Option<Step> {
    let mut texts = Texts { command, number, view, problems };
    let run = match &command.run {
        None => None,
        Some(Run::Shell(node)) => texts.parts(node, Form::Shell),
        Some(Run::Exec(nodes)) => {
            let items: Vec<Option<Value>> =
                nodes.iter().map(|node| texts.parts(node, Form::Plain)).collect();
            items.into_iter().collect::<Option<Vec<_>>>().map(Value::List)
        }
    };
    let env: Vec<Option<(String, Value)>> = command
        .env
        .iter()
        .map(|(name, node)| Some(((*name).to_owned(), texts.variable(name, node)?)))
        .collect();
    let env = env.into_iter().collect::<Option<BTreeMap<_, _>>>();
    let outputs = command.outputs.as_ref()?.iter().map(|output| Output {
        name: output.name.clone(),
        file: output.file.clone(),
        availability: Availability::Always,
        alias: None,
    });
    let files = command.files.iter();
    let mut step = Step {
        builder: BuilderId { name: COMMAND_NAME.to_owned(), version: COMMAND_VERSION },
        args: BTreeMap::from([("run".to_owned(), run?)]),
        files: files.map(|(path, at)| (path.clone(), problems.place(at.clone()))).collect(),
        env: env?,
        pass_env: command.pass_env.clone(),
        toolchain: match &command.tools {
            Some(tools) => Toolchain::Tools(tools.clone()),
            None => Toolchain::Host,
        },
        outputs: outputs.collect(),
        network: command.network,
        platform: true,
        ..bare(decl, problems)
    };
    step.inputs = inputs(&step);
    Some(step)
}

/// Whether a shell will read the text.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Shell,
    Plain,
}

/// Texts of one `command` step.
struct Texts<'t, 's, 'a> {
    command: &'t Command<'a>,
    number: usize,
    view: &'t mut View<'s, 'a>,
    problems: &'t mut Problems,
}

impl<'a> Texts<'_, '_, 'a> {
    fn variable(&mut self, name: &str, node: &'a Node<'a>) -> Option<Value> {
        if node.get_ref().is_str() {
            return self.parts(node, Form::Plain);
        }
        // A variable is text: `1` and `"1"` are the same.
        match scalar(node) {
            Ok(value) => Some(Value::text(canonical(&value))),
            Err(_) => {
                let problem = wrong_type(
                    node,
                    &format!("env.{name}"),
                    "a text, a number or a bool",
                    self.problems,
                );
                self.problems.push(problem);
                None
            }
        }
    }

    fn parts(&mut self, node: &'a Node<'a>, form: Form) -> Option<Value> {
        let bits = self.view.bits(node, node.get_ref().as_str()?, self.problems)?;
        let mut parts: Vec<Part> = Vec::with_capacity(bits.len());
        let mut sound = true;
        for bit in bits {
            let (target, name, span) = match bit {
                Bit::Text(text) => {
                    push_text(&mut parts, &text);
                    continue;
                }
                Bit::Target { target, name, span } => (target, name, span),
            };
            match target {
                Target::Parameter(parameter) => {
                    let text = canonical(&parameter.value);
                    if form == Form::Shell
                        && let Some(flaw) = shell_flaw(&parameter.value, &text)
                    {
                        self.refuse_parameter(name, parameter, &flaw, span);
                        sound = false;
                    }
                    push_text(&mut parts, &text);
                }
                Target::Source(source) if source.optional => {
                    let problem = self
                        .problems
                        .at(
                            span,
                            format!("`{name}` may be absent, but a program must have its inputs"),
                            "its source says `absent = \"accept\"`",
                        )
                        .help("leave `absent` out of the source to make a missing one an error");
                    self.problems.push(problem);
                    sound = false;
                }
                Target::Source(source) => parts.push(Part::Input(Reference::Source(source.id))),
                Target::Output(step, output) => {
                    if step == self.number {
                        // Reported as a ring of one.
                        sound = false;
                    }
                    parts.push(Part::Input(Reference::Output(StepId(step as u32), output)));
                }
                Target::Own(output) => {
                    if form == Form::Shell {
                        sound &= self.safe_file(output, span);
                    }
                    parts.push(Part::Output(output));
                }
            }
        }
        sound.then_some(Value::Text(parts))
    }

    fn refuse_parameter(
        &mut self,
        name: &str,
        parameter: &Parameter,
        flaw: &str,
        span: Range<usize>,
    ) {
        let what = match parameter.overridden {
            true => "it is set by --set; its default stands here",
            false => "it has its value from here",
        };
        let problem = self
            .problems
            .at(span, format!("`{name}` cannot stand in a text for the shell"), flaw)
            .related(self.problems.place(parameter.default_at.clone()), what)
            .note("allowed are letters, digits and `_./:=,+@%-`")
            .help(format!(
                "write `run` as a list, `[\"program\", \"${{{name}}}\"]`, which no shell reads"
            ))
            .help(format!(
                "or set a variable, `env = {{ VALUE = \"${{{name}}}\" }}`, and use `\"$VALUE\"`"
            ));
        self.problems.push(problem);
    }

    /// Whether the shell takes the file name of this output as one word; if not, reports it.
    fn safe_file(&mut self, output: u32, span: Range<usize>) -> bool {
        let Some(decl) =
            self.command.outputs.as_ref().and_then(|outputs| outputs.get(output as usize))
        else {
            return false;
        };
        let Some(c) = decl.file.chars().find(|&c| !is_shell_safe(c)) else { return true };
        let problem = self
            .problems
            .at(
                span,
                format!("the file name {:?} cannot stand in a text for the shell", decl.file),
                format!("it has the character {c:?}"),
            )
            .help("choose another file name, or write `run` as a list");
        self.problems.push(problem);
        false
    }
}

fn is_shell_safe(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_./:=,+@%-".contains(c)
}

/// Why a shell could misread the parameter, if it could.
fn shell_flaw(value: &Value, text: &str) -> Option<String> {
    match value {
        Value::List(_) => Some(format!("it is the list {text}")),
        _ if text.is_empty() => Some("it is empty, and would vanish".to_owned()),
        _ => {
            text.chars().find(|&c| !is_shell_safe(c)).map(|c| format!("it has the character {c:?}"))
        }
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        _ if text.is_empty() => {}
        Some(Part::Text(before)) => before.push_str(text),
        _ => parts.push(Part::Text(text.to_owned())),
    }
}
