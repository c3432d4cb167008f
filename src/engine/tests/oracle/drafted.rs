//! What a step of a draft reads: worked out from the draft, whatever the engine makes of its text.

use std::collections::BTreeMap;

use kiln_cache::{Digest, Object};

use crate::{
    draft::{Draft, Given, Link, RATES, StepDraft, Work, list_text},
    function::object,
    reading::{Piece, Reading},
};

impl Draft {
    /// What step number `at` reads.
    pub fn reading(&self, at: usize) -> Reading<Link> {
        let step = &self.steps[at];
        let alias = step.alias();
        let outputs = step.outputs().into_iter().enumerate().map(|(number, (name, file))| {
            let target = alias.filter(|(alias, _)| *alias == number);
            (name, file, target.map(|(_, link)| self.settled(link)))
        });
        let mut reading = Reading {
            builder: match &step.work {
                Work::Mix { .. } => "mix@1",
                Work::Gate { .. } => "gate@2",
                Work::Command { .. } => "command@1",
            }
            .to_owned(),
            nondeterministic: step.wobbles,
            salt: if self.salt > 0 { self.salt.to_string() } else { String::new() },
            host: matches!(step.work, Work::Command { .. }),
            outputs: outputs.collect(),
            files: BTreeMap::new(),
            facts: Vec::new(),
            fragile: false,
            keeps: BTreeMap::new(),
            limit: None,
        };
        match &step.work {
            Work::Mix { .. } => self.read_mix(step, &mut reading),
            Work::Gate { data, base } => {
                let limit = self.number(step);
                if let Some(base) = base {
                    reading.say("base", vec![self.input(*base)]);
                }
                reading.say("data", vec![self.input(*data)]);
                reading.say("limit", text(limit));
                reading.limit = Some(limit);
            }
            Work::Command { .. } => self.read_command(step, &mut reading),
        }
        reading
    }

    fn number(&self, step: &StepDraft) -> u64 {
        match step.number {
            Given::Own(number) => number,
            Given::Param(at) => self.params.numbers[at],
        }
    }

    fn input(&self, link: Link) -> Piece<Link> {
        Piece::In(self.settled(link))
    }

    /// Arguments in the order of their names; defaults count as said.
    fn read_mix(&self, step: &StepDraft, reading: &mut Reading<Link>) {
        let Work::Mix { inputs, keep, fragile, rate, weights } = &step.work else { return };
        reading.say("fragile", text(fragile));
        reading.count("inputs", inputs.len());
        for (at, &link) in inputs.iter().enumerate() {
            reading.say(format!("inputs[{at}]"), vec![self.input(link)]);
        }
        reading.say("number", text(self.number(step)));
        reading.count("parts", keep.len());
        for (at, keep) in keep.iter().enumerate() {
            reading.say(format!("parts.p{at}"), text(keep));
            reading.keeps.insert(format!("p{at}"), *keep);
        }
        if let Some(rate) = rate {
            let at = match rate {
                Given::Own(at) => *at,
                Given::Param(_) => self.params.rate,
            };
            reading.say("rate", text(RATES[at].1));
        }
        reading.say("text", text(""));
        if let Some(weights) = weights {
            let list = match weights {
                Given::Own(list) => list,
                Given::Param(_) => &self.params.list,
            };
            reading.count("weights", list.len());
            for (at, weight) in list.iter().enumerate() {
                reading.say(format!("weights[{at}]"), text(weight));
            }
        }
        reading.fragile = *fragile;
    }

    fn read_command(&self, step: &StepDraft, reading: &mut Reading<Link>) {
        let Work::Command { list, inputs, env, words, files, .. } = &step.work else { return };
        let mut words_of_run = vec![
            Piece::Text("work".into()),
            Piece::Text(format!("-{}", self.number(step))),
            Piece::Text(RATES[self.params.rate].1.into()),
        ];
        words_of_run.extend(inputs.iter().map(|&link| self.input(link)));
        words_of_run.extend(step.outputs().into_iter().map(|(name, _)| Piece::Out(name)));
        if *list {
            reading.count("run", words_of_run.len());
            for (at, word) in words_of_run.into_iter().enumerate() {
                reading.say(format!("run[{at}]"), vec![word]);
            }
        } else {
            let mut pieces = Vec::new();
            for word in words_of_run {
                if !pieces.is_empty() {
                    append(&mut pieces, " ");
                }
                match word {
                    Piece::Text(word) => append(&mut pieces, &word),
                    word => pieces.push(word),
                }
            }
            reading.say("run", pieces);
        }
        if *words {
            let all = format!("{} {}", self.params.word, list_text(&self.params.list));
            reading.say("variable ALL", text(all));
        }
        if let Some(link) = env {
            reading.say("variable WHERE", vec![Piece::Text("at ".into()), self.input(*link)]);
        }
        if let Some(at) = files {
            let files = self.sources[*at].paths();
            reading.files = files.map(|(path, file)| (path, object(file))).collect();
        }
    }

    /// Whether all that the step itself reads from the disk is there.
    pub fn is_readable(&self, at: usize) -> bool {
        let step = &self.steps[at];
        let brought = match &step.work {
            Work::Command { files: Some(source), .. } => Some(Link::Source(*source)),
            _ => None,
        };
        step.links().into_iter().chain(brought).all(|link| match link {
            Link::Source(source) => !self.sources[source].gone,
            Link::Step(..) | Link::Live | Link::Part => true,
        })
    }
}

/// Text follows text as one piece.
fn append(pieces: &mut Vec<Piece<Link>>, more: &str) {
    match pieces.last_mut() {
        Some(Piece::Text(text)) => text.push_str(more),
        _ => pieces.push(Piece::Text(more.to_owned())),
    }
}

fn text(value: impl ToString) -> Vec<Piece<Link>> {
    let text = value.to_string();
    if text.is_empty() { Vec::new() } else { vec![Piece::Text(text)] }
}

/// What a deployment's text is as an object.
pub fn released(text: &str) -> Object {
    Object::file(Digest::of(text.as_bytes()))
}
