//! A recipe's TOML text.

use std::fmt::Write as _;

use super::{Draft, Given, Link, PART, RATES, Shape, StepDraft, Work, list_text};
use crate::chance::Chance;

impl Draft {
    /// The recipe's text.
    pub fn toml(&self) -> String {
        let mut chance = Chance::new(self.order);
        let mut shuffled = |mut lines: Vec<String>| {
            lines.sort_by_cached_key(|_| chance.next());
            lines.join("\n")
        };
        let mut sources: Vec<String> = self
            .sources
            .iter()
            .map(|source| match source.shape {
                Shape::File | Shape::Folder => format!("{} = \"{}\"", source.name, source.place),
                Shape::Glob => format!("{} = {{ glob = \"{}/*.txt\" }}", source.name, source.place),
            })
            .collect();
        sources.push("live = { deployment = \"production\", absent = \"accept\" }".into());
        sources.push(format!(
            "part = {{ deployment = \"staging\", output = \"{PART}\", absent = \"accept\" }}"
        ));
        let release = self.spelled(Link::Step(0, 0));
        let mut tables = vec![
            format!("[params]\n{}", shuffled(self.params.lines())),
            format!("[sources]\n{}", shuffled(sources)),
            format!("[deploy.production]\nrelease = \"${{{release}}}\""),
            format!("[deploy.staging]\nrelease = \"${{{release}}}\""),
        ];
        for step in &self.steps {
            let lines = shuffled(self.step_lines(step));
            tables.push(format!("[steps.{}]\n{lines}", step.name));
        }
        let mut text = String::from("name = \"oracle\"\n");
        if self.salt > 0 {
            let _ = writeln!(text, "salt = \"{}\"", self.salt);
        }
        text + &shuffled(tables) + "\n"
    }

    fn reference(&self, link: Link) -> String {
        format!("${{{}}}", self.spelled(link))
    }

    fn step_lines(&self, step: &StepDraft) -> Vec<String> {
        let mut lines = vec![format!("cpus = {} # comment {}", step.cpus, step.comment)];
        if step.retries > 0 {
            lines.push(format!("retries = {}", step.retries));
        }
        if step.wobbles {
            lines.push("determinism = \"none\"".into());
        }
        // A text that is a reference and nothing else is the parameter's value.
        let number = match step.number {
            Given::Own(number) => number.to_string(),
            Given::Param(at) => format!("\"${{params.k{at}}}\""),
        };
        match &step.work {
            Work::Mix { inputs, keep, fragile, rate, weights } => {
                let inputs: Vec<String> =
                    inputs.iter().map(|&link| format!("\"{}\"", self.reference(link))).collect();
                let parts: Vec<String> =
                    keep.iter().enumerate().map(|(at, keep)| format!("p{at} = {keep}")).collect();
                lines.push("builder = \"mix\"".into());
                lines.push(format!("inputs = [{}]", inputs.join(", ")));
                lines.push(format!("number = {number}"));
                lines.push(format!("parts = {{ {} }}", parts.join(", ")));
                lines.push(format!("how = \"comment {}\"", step.comment));
                lines.extend(fragile.then(|| "fragile = true".to_owned()));
                lines.extend(rate.as_ref().map(|rate| match rate {
                    Given::Own(at) => format!("rate = {}", RATES[*at].0),
                    Given::Param(_) => "rate = \"${params.rate}\"".to_owned(),
                }));
                lines.extend(weights.as_ref().map(|weights| match weights {
                    Given::Own(list) => format!("weights = {}", list_text(list)),
                    Given::Param(_) => "weights = \"${params.list}\"".to_owned(),
                }));
            }
            Work::Gate { data, base } => {
                lines.push("builder = \"gate\"".into());
                lines.push(format!("data = \"{}\"", self.reference(*data)));
                lines.push(format!("limit = {number}"));
                lines.extend(base.map(|base| format!("base = \"{}\"", self.reference(base))));
            }
            Work::Command { .. } => lines.extend(self.command_lines(step)),
        }
        lines
    }

    fn command_lines(&self, step: &StepDraft) -> Vec<String> {
        let Work::Command { list, inputs, env, words, files, named, outputs } = &step.work else {
            unreachable!("of commands only")
        };
        let mut lines = Vec::new();
        let number = match step.number {
            Given::Own(number) => number.to_string(),
            Given::Param(at) => format!("${{params.k{at}}}"),
        };
        let mut run = vec!["work".to_owned(), format!("-{number}"), "${params.rate}".into()];
        run.extend(inputs.iter().map(|&link| self.reference(link)));
        let names = step.outputs();
        for (name, _) in &names {
            run.push(if name == "out" { "${out}".into() } else { format!("${{out.{name}}}") });
        }
        lines.push(if *list {
            format!("run = {run:?}")
        } else {
            format!("run = {:?}", run.join(" "))
        });
        let mut variables: Vec<String> =
            env.iter().map(|&link| format!("WHERE = \"at {}\"", self.reference(link))).collect();
        if *words {
            variables.push("ALL = \"${params.word} ${params.list}\"".into());
        }
        if !variables.is_empty() {
            lines.push(format!("env = {{ {} }}", variables.join(", ")));
        }
        if let Some(at) = files {
            lines.push(format!("files = [\"{}\"]", self.sources[*at].place));
        }
        if *named {
            let named: Vec<String> =
                names.iter().map(|(name, file)| format!("{name} = \"{file}\"")).collect();
            lines.push(format!("outputs = {{ {} }}", named.join(", ")));
        } else if *outputs > 1 {
            let names: Vec<&String> = names.iter().map(|(name, _)| name).collect();
            lines.push(format!("outputs = {names:?}"));
        }
        lines
    }
}
