//! Parameters: their values, how a recipe and a command line spell them, and their one text.

use crate::chance::Chance;

/// Numbers that are not whole: how they are spelled, and their one text. The first four are two values.
pub const RATES: [(&str, &str); 7] = [
    ("0.5", "0.5"),
    ("5e-1", "0.5"),
    ("2.0", "2.0"),
    ("0.2e1", "2.0"),
    ("1e-7", "1e-7"),
    ("1e16", "1e16"),
    ("-0.25", "-0.25"),
];

/// The value of every parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// `k0` and `k1`.
    pub numbers: [u64; 2],
    /// `rate`, as a place in [`RATES`].
    pub rate: usize,
    /// `list`.
    pub list: Vec<u64>,
    /// `word`.
    pub word: &'static str,
    /// `unused`: no step reads it.
    pub unused: u64,
}

/// A value of one parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    Number(usize, u64),
    Rate(usize),
    List(Vec<u64>),
    Word(&'static str),
    Unused(u64),
}

/// A list as its one text.
pub fn list_text(list: &[u64]) -> String {
    let items: Vec<String> = list.iter().map(u64::to_string).collect();
    format!("[{}]", items.join(", "))
}

/// A few numbers, or none.
pub fn random_list(chance: &mut Chance) -> Vec<u64> {
    (0..chance.below(3)).map(|_| chance.next() % 3).collect()
}

impl Params {
    /// Any values.
    pub fn random(chance: &mut Chance) -> Self {
        let mut params =
            Self { numbers: [0; 2], rate: 0, list: Vec::new(), word: "red", unused: 0 };
        for _ in 0..4 {
            let setting = Setting::random(chance);
            params.set(&setting);
        }
        params
    }

    /// Gives a parameter another value.
    pub fn set(&mut self, setting: &Setting) {
        match setting {
            Setting::Number(at, value) => self.numbers[*at] = *value,
            Setting::Rate(at) => self.rate = *at,
            Setting::List(list) => self.list.clone_from(list),
            Setting::Word(word) => self.word = word,
            Setting::Unused(value) => self.unused = *value,
        }
    }

    /// The lines of `[params]`.
    pub fn lines(&self) -> Vec<String> {
        vec![
            format!("k0 = {}", self.numbers[0]),
            format!("k1 = {}", self.numbers[1]),
            format!("rate = {}", RATES[self.rate].0),
            format!("list = {}", list_text(&self.list)),
            format!("word = \"{}\"", self.word),
            format!("unused = {}", self.unused),
        ]
    }
}

impl Setting {
    /// Any value for any parameter.
    pub fn random(chance: &mut Chance) -> Self {
        match chance.below(6) {
            0 | 1 => Self::Number(chance.below(2), chance.next() % 3),
            2 => Self::Rate(chance.below(RATES.len())),
            3 => Self::List(random_list(chance)),
            4 => Self::Word(["red", "green", "a/b:c,d=e+f@g%h-i_j"][chance.below(3)]),
            _ => Self::Unused(chance.next() % 3),
        }
    }

    /// As it is given with `--set`.
    pub fn pair(&self) -> (String, String) {
        match self {
            Self::Number(at, value) => (format!("k{at}"), value.to_string()),
            Self::Rate(at) => ("rate".into(), RATES[*at].0.into()),
            Self::List(list) => ("list".into(), list_text(list)),
            Self::Word(word) => ("word".into(), (*word).into()),
            Self::Unused(value) => ("unused".into(), value.to_string()),
        }
    }
}
