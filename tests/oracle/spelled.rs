//! The recipe's text, and the scripts of its steps.

use super::{
    chance::Chance,
    draft::{Draft, Link, Shape, Step, Work},
};

/// What a step does with its inputs `@` and a number `#`: each maps many inputs to one output. The fifth fails if no
/// line has an `a`; the last has two outputs.
pub const SCRIPTS: [&str; 6] = [
    "cat @ | sort -u | head -n # > ${out}",
    "cat @ | wc -c | tr -d ' ' > ${out}",
    "cat @ | tr a-m A-M > ${out}; test -s ${out} || echo # > ${out}",
    "mkdir ${out}; cat @ | head -c # > ${out}/first; echo # > ${out}/second",
    "cat @ | grep -c a > ${out}; chmod +x ${out}",
    "cat @ | head -n 1 > ${out.a}; cat @ | wc -l | tr -d ' ' > ${out.b}; echo # >> ${out.b}",
];

impl Step {
    /// The names of its outputs.
    pub fn outputs(&self) -> &'static [&'static str] {
        match self.work {
            Work::Gate { .. } => &["data", "report"],
            Work::Shell { script: 5, .. } => &["a", "b"],
            Work::Shell { .. } => &["out"],
        }
    }
}

impl Draft {
    /// The output that a link means. Of gates nobody reads the report, whose bytes are not foretold.
    pub fn output(&self, at: usize, number: usize) -> &'static str {
        let outputs = self.steps[at].outputs();
        if matches!(self.steps[at].work, Work::Gate { .. }) {
            return outputs[0];
        }
        outputs[number % outputs.len()]
    }

    fn reference(&self, link: Link) -> String {
        match link {
            Link::Source(at) => format!("${{sources.w{at}}}"),
            Link::Rows => "${sources.rows}".into(),
            Link::Step(at, number) => match self.output(at, number) {
                "out" => format!("${{{}}}", self.steps[at].name),
                output => format!("${{{}.{output}}}", self.steps[at].name),
            },
        }
    }

    /// The files of an input, as the shell is given them.
    fn operands(&self, link: Link) -> String {
        let place = self.reference(link);
        match link {
            Link::Source(at) => match self.sources[at].shape {
                Shape::File => place,
                Shape::Folder => format!("{place}/a {place}/b/c"),
                Shape::Glob => format!("{place}/many{at}/*.txt"),
            },
            Link::Step(at, _) if matches!(self.steps[at].work, Work::Shell { script: 3, .. }) => {
                format!("{place}/first {place}/second")
            }
            Link::Rows | Link::Step(..) => place,
        }
    }

    /// The script of a step, its inputs written as the recipe does.
    pub fn script(&self, script: usize, inputs: &[Link], number: &str) -> String {
        let operands: Vec<String> = inputs.iter().map(|&link| self.operands(link)).collect();
        SCRIPTS[script].replace('@', &operands.join(" ")).replace('#', number)
    }

    pub fn suite(&self) -> String {
        format!("[columns.x]\ntype = \"integer\"\nmax = {}\n", self.limit)
    }

    pub fn table(&self) -> String {
        let rows: Vec<String> = self.rows.iter().map(|row| format!("{row}\n")).collect();
        format!("x\n{}", rows.concat())
    }

    pub fn toml(&self) -> String {
        let mut chance = Chance::new(self.order);
        let mut tables =
            vec![format!("[params]\nnumber = {}\nunused = {}", self.param, chance.below(100))];
        let mut sources = "rows = \"rows.csv\"\nsuite = \"suite.toml\"\n".to_owned();
        for (at, source) in self.sources.iter().enumerate() {
            sources += &match source.shape {
                Shape::File | Shape::Folder => format!("w{at} = \"data/w{at}.txt\"\n"),
                Shape::Glob => format!("w{at} = {{ glob = \"many{at}/*.txt\" }}\n"),
            };
        }
        tables.push(format!("[sources]\n{sources}"));
        for step in &self.steps {
            let body = match &step.work {
                Work::Gate { data } => format!(
                    "builder = \"validate\"\ndata = \"{}\"\nsuite = \"${{sources.suite}}\"",
                    self.reference(*data)
                ),
                Work::Shell { script, inputs } => {
                    let number = match step.uses_param {
                        true => "${params.number}".to_owned(),
                        false => step.number.to_string(),
                    };
                    let run = self.script(*script, inputs, &number);
                    let outputs = if *script == 5 { "outputs = [\"a\", \"b\"]\n" } else { "" };
                    format!("{outputs}run = \"{run}\"")
                }
            };
            tables.push(format!("[steps.{}]\n# {}\n{body}", step.name, chance.below(100)));
        }
        tables.sort_by_cached_key(|_| chance.next());
        format!("name = \"oracle\"\n\n{}\n", tables.join("\n\n"))
    }
}
