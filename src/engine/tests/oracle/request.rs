//! How a build is asked for.

use std::collections::BTreeSet;

use kiln_cache::Isolation;

use crate::{
    chance::Chance,
    draft::{Draft, Setting},
};

/// What stands on the command line, and how the machine is.
#[derive(Clone, Debug)]
pub struct Request {
    /// Steps by name; if empty, those that nothing depends on.
    pub targets: Vec<String>,
    pub sets: Vec<Setting>,
    pub again: Vec<String>,
    pub check: Vec<String>,
    pub keep_going: bool,
    pub jobs: u32,
    pub isolation: Isolation,
    /// Steps that fail this time.
    pub flaky: BTreeSet<String>,
    /// Steps that fail once, and are tried again.
    pub hiccups: BTreeSet<String>,
    /// Whether it is remembered what was built: a kiln that is killed does not come to that.
    pub remember: bool,
}

impl Request {
    /// Everything, on one processor.
    pub fn plain() -> Self {
        Self {
            targets: Vec::new(),
            sets: Vec::new(),
            again: Vec::new(),
            check: Vec::new(),
            keep_going: true,
            jobs: 1,
            isolation: Isolation::Full,
            flaky: BTreeSet::new(),
            hiccups: BTreeSet::new(),
            remember: true,
        }
    }

    /// Any request for steps of `draft`.
    pub fn random(chance: &mut Chance, draft: &Draft) -> Self {
        let some = |chance: &mut Chance, odds: usize| {
            let names = draft.steps.iter().map(|step| step.name.clone());
            if chance.once_in(odds) {
                names.filter(|_| chance.once_in(3)).collect()
            } else {
                Vec::new()
            }
        };
        Self {
            targets: some(chance, 4),
            sets: (0..chance.below(8).saturating_sub(5)).map(|_| Setting::random(chance)).collect(),
            again: some(chance, 8),
            check: some(chance, 8),
            keep_going: chance.once_in(2),
            jobs: 1 + chance.below(4) as u32,
            isolation: match chance.below(8) {
                0 => Isolation::Off,
                1 => Isolation::Partial,
                _ => Isolation::Full,
            },
            flaky: some(chance, 10).into_iter().collect(),
            hiccups: draft
                .steps
                .iter()
                .filter(|step| step.retries > 0 && !step.wobbles && chance.once_in(6))
                .map(|step| step.name.clone())
                .collect(),
            remember: !chance.once_in(6),
        }
    }

    /// What the recipe says with the parameters of this request.
    pub fn applied(&self, draft: &Draft) -> Draft {
        let mut draft = draft.clone();
        self.sets.iter().for_each(|setting| draft.params.set(setting));
        draft
    }

    /// The steps whose outputs have to be there.
    pub fn wanted(&self, draft: &Draft) -> BTreeSet<usize> {
        if self.targets.is_empty() { draft.ends() } else { named(draft, &self.targets) }
    }

    /// Those, and all others that were named.
    pub fn asked(&self, draft: &Draft) -> BTreeSet<usize> {
        let named = [&self.again, &self.check].map(|names| named(draft, names));
        named.into_iter().fold(self.wanted(draft), |all, more| &all | &more)
    }
}

fn named(draft: &Draft, names: &[String]) -> BTreeSet<usize> {
    names.iter().filter_map(|name| draft.find(name)).collect()
}
