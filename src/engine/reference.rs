//! The reference of the recipe language, written from the tables that parsing uses.
//!
//! Text out, nothing else: where it is shown or stored is not known here.

use std::fmt::Write as _;

use crate::{
    catalogue::{Arg, Availability, Builder, Catalogue, Outputs, Presence, Role, Type},
    recipe::language::{self, Key},
};

/// Columns of plain text.
const WIDTH: usize = 96;

/// What `builder` is, takes and makes, as plain text of at most 96 columns.
pub fn builder_help(builder: &Builder) -> String {
    let mut text = format!("{}, version {}\n\n", builder.name, builder.version);
    fill(&mut text, builder.summary, 0);
    for paragraph in paragraphs(builder.details) {
        text.push('\n');
        fill(&mut text, &paragraph, 0);
    }
    text.push_str("\nArguments\n");
    help_args(&mut text, builder.args, 2);
    text.push_str("\nOutputs\n");
    for (name, doc) in outputs(builder) {
        let _ = writeln!(text, "  {name}");
        fill(&mut text, &doc, 6);
    }
    text.push_str("\nThe result depends on ");
    text.push_str(match builder.platform {
        true => "the arguments, the inputs, and the platform.\n",
        false => "the arguments and the inputs alone: it is the same on every machine.\n",
    });
    let _ = write!(text, "\nExample\n{}", indented(builder.example.trim(), 2));
    text
}

/// What a step that runs a program can say, as plain text of at most 96 columns.
pub fn command_help() -> String {
    let mut text = format!("command, version {}\n\n", language::COMMAND_VERSION);
    fill(&mut text, COMMANDS, 0);
    text.push_str("\nKeys\n");
    for key in language::COMMAND.iter().chain(language::STEP) {
        let _ = writeln!(text, "  {} ({})", key.name, presence(key.presence));
        fill(
            &mut text,
            &format!("{}. {}.", sentence(key.takes), sentence(key.doc.trim_end_matches('.'))),
            6,
        );
    }
    let example = COMMAND_EXAMPLE.trim().trim_start_matches("```toml").trim_end_matches("```");
    let _ = write!(text, "\nExample\n{}", indented(example.trim(), 2));
    text
}

fn help_args(text: &mut String, args: &[Arg], indent: usize) {
    for arg in args {
        let _ = writeln!(text, "{:indent$}{} ({})", "", arg.name, presence(arg.presence));
        let doc = arg_doc(arg);
        let doc = sentence(doc.trim_end_matches('.'));
        fill(text, &format!("{}. {doc}.", sentence(&arg.ty.phrase())), indent + 4);
        for (title, fields) in nested(&arg.ty) {
            if let Some(title) = title {
                fill(text, &title, indent + 4);
            }
            help_args(text, fields, indent + 6);
        }
    }
}

/// The whole reference, in Markdown.
pub fn markdown(catalogue: &Catalogue) -> String {
    let mut text = String::from(LANGUAGE);
    let section = |text: &mut String, title: &str, lead: &str, keys: &[Key]| {
        let _ = write!(text, "\n## {title}\n\n{lead}\n\n");
        key_table(text, keys);
    };
    section(&mut text, "The top of the file", TOP, language::TOP);
    section(&mut text, "`[sources]`", SOURCES, language::SOURCE);
    section(&mut text, "`[steps.NAME]`", STEPS, language::STEP);
    section(&mut text, "Steps that run a program", COMMANDS, language::COMMAND);
    text.push_str(COMMAND_EXAMPLE);
    section(&mut text, "`[deploy.NAME]`", DEPLOY, language::DEPLOY);
    text.push_str("\n## Builders that kiln brings\n");
    for builder in catalogue.builders {
        builder_section(&mut text, builder);
    }
    text
}

fn builder_section(text: &mut String, builder: &Builder) {
    let _ = write!(text, "\n### `{}`\n\n{}\n", builder.name, builder.summary);
    for paragraph in paragraphs(builder.details) {
        let _ = write!(text, "\n{paragraph}\n");
    }
    text.push_str("\n| argument | takes | default | meaning |\n|---|---|---|---|\n");
    arg_rows(text, builder.args, "");
    text.push_str("\n| output | holds |\n|---|---|\n");
    for (name, doc) in outputs(builder) {
        let _ = writeln!(text, "| {} | {} |", cell(&format!("`{name}`")), cell(&doc));
    }
    let _ = write!(text, "\n```toml\n{}\n```\n", builder.example.trim());
    let platform = match builder.platform {
        true => "The platform is in the key.",
        false => "The result is the same on every platform.",
    };
    let _ = write!(text, "\nVersion {}. {platform}\n", builder.version);
}

fn arg_rows(text: &mut String, args: &[Arg], prefix: &str) {
    for arg in args {
        let _ = writeln!(
            text,
            "| `{prefix}{}` | {} | {} | {} |",
            arg.name,
            cell(&arg.ty.phrase()),
            cell(&default(arg.presence)),
            cell(&arg_doc(arg)),
        );
        for (title, fields) in nested(&arg.ty) {
            if let Some(title) = title {
                let _ = writeln!(text, "| `{prefix}{}` | *{}* | | |", arg.name, cell(&title));
            }
            let dot = match arg.ty {
                Type::List(_) => "[].",
                _ => ".",
            };
            arg_rows(text, fields, &format!("{prefix}{}{dot}", arg.name));
        }
    }
}

fn key_table(text: &mut String, keys: &[Key]) {
    text.push_str("| key | takes | default | meaning |\n|---|---|---|---|\n");
    for key in keys {
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            key.name,
            cell(key.takes),
            cell(&default(key.presence)),
            cell(key.doc),
        );
    }
}

/// The fields inside a type, each list with its title.
fn nested(ty: &Type) -> Vec<(Option<String>, &'static [Arg])> {
    match ty {
        Type::Table(fields) => vec![(None, fields)],
        Type::Kinds(kinds) => kinds
            .iter()
            .map(|(kind, fields)| {
                let more = if fields.is_empty() { ", which has no more fields" } else { ":" };
                (Some(format!("with `kind = \"{kind}\"`{more}")), *fields)
            })
            .collect(),
        Type::List(item) | Type::Map(item) => nested(item),
        Type::Bool
        | Type::Int { .. }
        | Type::Float { .. }
        | Type::Text
        | Type::Word(_)
        | Type::Amount
        | Type::Input => Vec::new(),
    }
}

/// Each output's name and what it holds.
fn outputs(builder: &Builder) -> Vec<(String, String)> {
    match builder.outputs {
        Outputs::Fixed(outputs) => outputs
            .iter()
            .map(|output| {
                let mut doc = output.doc.to_owned();
                if output.availability == Availability::IfAccepted {
                    doc.push_str(" There only if the verdict is `accepted`.");
                }
                if let Some(arg) = output.alias_of {
                    doc.push_str(&format!(" It is `{arg}` itself; nothing is copied."));
                }
                (output.name.to_owned(), doc)
            })
            .collect(),
        Outputs::FromMap { arg, doc, suffix } => {
            vec![(
                format!("each name in {arg}"),
                format!("{}. The file is NAME{suffix}.", doc.trim_end_matches('.')),
            )]
        }
    }
}

fn arg_doc(arg: &Arg) -> String {
    match arg.role {
        Role::Key => arg.doc.to_owned(),
        Role::Implementation => {
            format!("{} It says how, not what: it is not in the key.", arg.doc)
        }
    }
}

fn presence(presence: Presence) -> String {
    match presence {
        Presence::Required => "required".to_owned(),
        Presence::Optional => "optional".to_owned(),
        Presence::Default(value) => format!("default {value}"),
    }
}

fn default(presence: Presence) -> String {
    match presence {
        Presence::Required => "required".to_owned(),
        Presence::Optional => "–".to_owned(),
        Presence::Default(value) => format!("`{value}`"),
    }
}

/// `text` as it can stand in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// Paragraphs, each joined to one line; lines that begin with a space, a `-` or a `|` stay as they are.
fn paragraphs(text: &str) -> Vec<String> {
    text.split("\n\n")
        .filter(|paragraph| !paragraph.trim().is_empty())
        .map(|paragraph| {
            let mut joined = String::new();
            for line in paragraph.trim_matches('\n').lines() {
                if !joined.is_empty() {
                    joined.push(if line.starts_with([' ', '-', '|']) { '\n' } else { ' ' });
                }
                joined.push_str(line.trim_end());
            }
            joined
        })
        .collect()
}

fn indented(text: &str, indent: usize) -> String {
    text.lines()
        .map(|line| match line.is_empty() {
            true => "\n".to_owned(),
            false => format!("{:indent$}{line}\n", ""),
        })
        .collect()
}

/// Appends `paragraph`, broken between words.
fn fill(text: &mut String, paragraph: &str, indent: usize) {
    for line in paragraph.lines() {
        let mut column = 0;
        for word in line.split_whitespace() {
            let length = word.chars().count();
            if column > 0 && column + 1 + length > WIDTH {
                text.push('\n');
                column = 0;
            }
            if column == 0 {
                text.push_str(&" ".repeat(indent));
                column = indent;
            } else {
                text.push(' ');
                column += 1;
            }
            text.push_str(word);
            column += length;
        }
        text.push('\n');
    }
}

const LANGUAGE: &str = r#"# Recipes

This page is generated from the tables that kiln parses recipes with.

A recipe is a TOML file, `kiln.toml`. It says where data comes from (`[sources]`), what is done with it
(`[steps]`), which values one may want to change (`[params]`) and where the result goes (`[deploy]`).
The order of keys, comments, descriptions, names of steps and unused parameters change no result, and
nothing reruns because of them.

All problems of a recipe are reported at once, each with its place, the reason and a way out. A key that
is not on this page is an error.

## References

A reference is a dependency; there is no second list of them to keep.

| reference | means | where |
|---|---|---|
| `${sources.NAME}` | a source: the path at which the step sees it | `run`, `env`, arguments |
| `${STEP}` | the output of a step that has one, called `out` | `run`, `env`, arguments, `release` |
| `${STEP.OUTPUT}` | an output of a step by its name | `run`, `env`, arguments, `release` |
| `${params.NAME}` | a parameter's value | `run`, `env`, arguments |
| `${out}` | where the step itself writes its output, if it has one, called `out` | `run`, `env` |
| `${out.OUTPUT}` | where the step itself writes this output | `run`, `env` |

`$${` is a literal `${`; `$NAME` and a lone `$` stay as they are. A reference stands on one line. Names of
steps, sources, parameters and deployments are letters, digits, `_` and `-`, and begin with a letter
or `_`; a step cannot be called `sources`, `params`, `out`, `in` or `env`. Steps that need each other in a
ring are an error.

## Parameters

`[params]` gives each parameter a default, which also fixes its type: a bool, a whole number, a number, a
text, or a list of one of these. `kiln build --set NAME=VALUE` gives another value of the same type:
`--set epochs=100`, `--set hidden='[64, 32]'`; text needs no quotes, and a whole number is taken where a
number is wanted.

A string that is only `${params.NAME}` has the parameter's type. Inside longer text, in `run` and in `env` a
parameter is text, always the same for the same value: `true` and `false`; whole numbers in decimal;
other numbers as the shortest decimal text that reads back as the same number, with `.0` if it is
whole (`0.1`, `2.0`, `1e-7`); lists as in JSON with a space after each comma (`[64, 32]`).

Where `run` is text for the shell, a parameter in it must consist of letters, digits and `_./:=,+@%-`, so
that the shell cannot read it as anything else. For other values write `run` as a list, or pass them
in `env`.

Only parameters that a step uses enter its key.

## Paths

Paths are relative to the recipe's folder and stay inside it; folders are separated by `/`. A path with `*`,
`?`, `[` or `{` is a pattern; a file whose name has one is a source by `{ path = "…" }`. The recipe's folder as a whole cannot be a source: results are linked there.
"#;

const TOP: &str = "Tables are described in the sections below.";

const SOURCES: &str = "A source is written as text, which is a path to a file or folder, or a pattern; or as a table \
with one of `path`, `glob` and `deployment`.\n\n\
```toml\n[sources]\ndata   = \"data/wdbc.csv\"\nimages = \"images/**/*.png\"\n\
base   = { deployment = \"production\", output = \"model\", absent = \"accept\" }\n```";

const STEPS: &str = "A step has a `builder`, with that builder's arguments beside these keys, or it runs a program.";

const COMMANDS: &str = "A step without `builder` runs any program, in a sandbox: it sees its inputs at `/build/in`, \
its files in the working folder, its tools, and nothing else; it writes its outputs to `/build/out`.";

const COMMAND_EXAMPLE: &str = r#"
```toml
[steps.plot]
run     = "python3 plot.py --report ${quality.report} --out ${out.png}"
outputs = { png = "plot.png" }
files   = ["plot.py"]
tools   = ["python3"]
```
"#;

const DEPLOY: &str = "A deployment is a place that a release goes to with `kiln deploy NAME`.";

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::recipe::tests::builders::CATALOGUE;

    fn help(name: &str) -> String {
        builder_help(CATALOGUE.get(name).unwrap())
    }

    #[test]
    fn help_shows_arguments_nested_fields_outputs_and_an_example() {
        assert_snapshot!(help("evaluate"), @r###"
    evaluate, version 3

    Measures a model and holds it against gates.

    Every metric is in the report.

    Gates decide.

    Arguments
      model (required)
          A reference to a file or folder, such as `"${sources.data}"`. The model.
      test (required)
          A reference to a file or folder, such as `"${sources.data}"`. Rows that training has not
          seen.
      baseline (optional)
          A reference to a file or folder, such as `"${sources.data}"`. A model to compare with.
      gates (default [])
          A list, each item a table with `metric`, `min`, `max_drop`, `severity`. What must hold.
            metric (required)
                One of `f1`, `accuracy`, `log_loss`. What is measured.
            min (optional)
                A number from 0 to 1. The least.
            max_drop (optional)
                A number, or a share such as `"2%"`. The most that it may lose.
            severity (default "error")
                One of `error`, `warning`. How bad.

    Outputs
      report
          Metrics.
      model
          The same, accepted. There only if the verdict is `accepted`. It is `model` itself; nothing
          is copied.
      baseline
          The same, accepted. There only if the verdict is `accepted`. It is `baseline` itself;
          nothing is copied.

    The result depends on the arguments and the inputs alone: it is the same on every machine.

    Example
      [steps.quality]
      builder = "evaluate"
      model = "${train.model}"
    "###);
        assert_snapshot!(help("split"), @r###"
    split, version 1

    Cuts a table into parts.

    Arguments
      data (required)
          A reference to a file or folder, such as `"${sources.data}"`. A table.
      label (optional)
          A text. The column whose classes are kept in proportion.
      ratios (required)
          A table from names to values, at least one, each a number from 0 to 1. The share of each
          part.
      seed (default 0)
          A whole number, at least 0. Any number.

    Outputs
      each name in ratios
          A part. The file is NAME.csv.

    The result depends on the arguments and the inputs alone: it is the same on every machine.

    Example
      [steps.split]
      builder = "split"
      ratios = { train = 0.8, test = 0.2 }
    "###);
    }

    #[test]
    fn every_builder_argument_field_output_and_key_is_in_the_reference() {
        let page = markdown(&CATALOGUE);
        for builder in CATALOGUE.builders {
            assert!(page.contains(&format!("\n### `{}`\n", builder.name)));
            for arg in builder.args {
                assert!(page.contains(&format!("| `{}` | ", arg.name)), "{}", arg.name);
            }
            assert!(page.contains(builder.example));
        }
        for keys in
            [language::TOP, language::SOURCE, language::STEP, language::COMMAND, language::DEPLOY]
        {
            for key in keys {
                assert!(page.contains(&format!("| `{}` | ", key.name)), "{}", key.name);
            }
        }
        for nested in ["`gates[].metric`", "`model.hidden`", "`model.c`", "with `kind = \"mlp\"`"] {
            assert!(page.contains(nested), "{nested}");
        }
    }

    #[test]
    fn every_row_of_a_table_has_as_many_cells_as_its_header() {
        let page = markdown(&CATALOGUE);
        let cells = |line: &str| line.replace("\\|", "").matches('|').count();
        let mut header = None;
        for line in page.lines() {
            header = match line.starts_with('|') {
                true => Some(*header.get_or_insert(cells(line))),
                false => None,
            };
            if let Some(header) = header {
                assert_eq!(cells(line), header, "{line}");
            }
        }
    }

    #[test]
    fn lines_are_broken_between_words_and_never_too_long() {
        let mut text = String::new();
        fill(&mut text, &"word ".repeat(100), 4);
        assert!(text.lines().all(|line| line.len() <= WIDTH && line.starts_with("    word")));
        assert_eq!(text.matches("word").count(), 100);
    }
}
