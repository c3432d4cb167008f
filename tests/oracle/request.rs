//! How a build is asked for.

use super::{chance::Chance, draft::Draft};

/// What stands on the command line.
#[derive(Clone, Debug)]
pub struct Request {
    pub targets: Vec<String>,
    pub number: Option<usize>,
    pub sandbox: &'static str,
    pub jobs: usize,
    pub keep_going: bool,
    pub again: Option<String>,
    pub check: bool,
    pub link: &'static str,
    pub status: bool,
    /// It is asked for in text first, where it may be answered without a build.
    pub text: bool,
}

impl Request {
    pub fn plain() -> Self {
        Self {
            targets: Vec::new(),
            number: None,
            sandbox: "full",
            jobs: 2,
            keep_going: true,
            again: None,
            check: false,
            link: "all",
            status: false,
            text: false,
        }
    }

    pub fn random(chance: &mut Chance, draft: &Draft) -> Self {
        let names: Vec<String> = draft.steps.iter().map(|step| step.name.clone()).collect();
        let some = chance.once_in(4);
        Self {
            targets: names.iter().filter(|_| some && chance.once_in(3)).cloned().collect(),
            number: chance.once_in(4).then(|| 1 + chance.below(3)),
            sandbox: if chance.once_in(6) { "off" } else { "full" },
            jobs: 1 + chance.below(3),
            keep_going: chance.once_in(2),
            again: chance.pick(&names).filter(|_| chance.once_in(8)).cloned(),
            check: chance.once_in(10),
            link: ["all", "asked", "none"][chance.below(3)],
            status: chance.once_in(2),
            text: chance.once_in(3),
        }
    }

    /// What `build` and `status` are given alike.
    pub fn common(&self) -> Vec<String> {
        let mut arguments = self.targets.clone();
        arguments.extend(self.number.map(|number| format!("--set=number={number}")));
        arguments.push(format!("--sandbox={}", self.sandbox));
        arguments
    }

    /// What `build` is given beside that, whether or not its answer is to be JSON.
    pub fn flow(&self) -> Vec<String> {
        let mut arguments = self.common();
        arguments.extend([format!("--jobs={}", self.jobs), format!("--link={}", self.link)]);
        arguments.extend(self.keep_going.then(|| "--keep-going".to_owned()));
        arguments
    }

    pub fn isolation(&self) -> u8 {
        u8::from(self.sandbox != "off")
    }
}
