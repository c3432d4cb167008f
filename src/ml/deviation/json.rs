//! JSON documents, read side by side.
//!
//! Objects are equal whatever the order of their keys. As long as both files have them in one order nothing has to be
//! remembered; of an object that has them in another, both sides are held in memory.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufReader, Read as _},
    path::Path,
};

use super::{DeviationError, Found, Source, Stop};

/// How deep a document may be nested.
const DEEPEST: usize = 256;

pub(super) fn compare(before: &Path, after: &Path, found: &mut Found) -> Result<(), Stop> {
    let mut old = Reader::open(Source(before))?;
    let mut new = Reader::open(Source(after))?;
    let mut walk = Walk { found, path: Vec::new() };
    walk.values(&mut old, &mut new)?;
    old.end()?;
    new.end()?;
    Ok(())
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Object,
    List,
    Text,
    Number,
    Truth,
    Null,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Object => "an object",
            Self::List => "a list",
            Self::Text => "a text",
            Self::Number => "a number",
            Self::Truth => "a truth value",
            Self::Null => "null",
        }
    }
}

/// A value in memory.
#[derive(Debug)]
enum Node {
    Object(BTreeMap<String, Node>),
    List(Vec<Node>),
    Text(String),
    Number(String),
    Truth(bool),
    Null,
}

impl Node {
    fn kind(&self) -> Kind {
        match self {
            Self::Object(_) => Kind::Object,
            Self::List(_) => Kind::List,
            Self::Text(_) => Kind::Text,
            Self::Number(_) => Kind::Number,
            Self::Truth(_) => Kind::Truth,
            Self::Null => Kind::Null,
        }
    }
}

struct Walk<'f> {
    found: &'f mut Found,
    path: Vec<String>,
}

impl Walk<'_> {
    /// The JSON pointer of where the walk is.
    fn place(&self) -> String {
        if self.path.is_empty() {
            return "the document".to_owned();
        }
        let escaped = self.path.iter().map(|key| key.replace('~', "~0").replace('/', "~1"));
        escaped.map(|key| format!("/{key}")).collect()
    }

    fn unlike<T>(&self, what: &str) -> Result<T, Stop> {
        Err(Stop::Unlike(format!("{}: {what}", self.place())))
    }

    fn at<T>(
        &mut self,
        key: String,
        work: impl FnOnce(&mut Self) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        self.path.push(key);
        let done = work(self)?;
        self.path.pop();
        Ok(done)
    }

    fn kinds(&self, one: Kind, other: Kind) -> Result<(), Stop> {
        if one == other {
            return Ok(());
        }
        self.unlike(&format!("was {}, and is {}", one.word(), other.word()))
    }

    fn numbers(&mut self, one: &str, other: &str) {
        if one != other {
            let place = self.place();
            // Both were found to be numbers when they were read.
            self.found.texts(one, other, || place);
        }
    }

    fn scalars<T: PartialEq + std::fmt::Debug>(&self, one: &T, other: &T) -> Result<(), Stop> {
        if one == other {
            return Ok(());
        }
        let shown = |value: &T| format!("{value:?}").chars().take(40).collect::<String>();
        self.unlike(&format!("{} → {}", shown(one), shown(other)))
    }

    fn values(&mut self, old: &mut Reader<'_>, new: &mut Reader<'_>) -> Result<(), Stop> {
        let kind = old.kind()?;
        self.kinds(kind, new.kind()?)?;
        match kind {
            Kind::Number => self.numbers(&old.number()?, &new.number()?),
            Kind::Text => self.scalars(&old.text()?, &new.text()?)?,
            Kind::Truth => self.scalars(&old.truth()?, &new.truth()?)?,
            Kind::Null => {
                old.null()?;
                new.null()?;
            }
            Kind::List => self.lists(old, new)?,
            Kind::Object => self.objects(old, new)?,
        }
        Ok(())
    }

    fn lists(&mut self, old: &mut Reader<'_>, new: &mut Reader<'_>) -> Result<(), Stop> {
        old.open_with(b'[')?;
        new.open_with(b'[')?;
        for number in 0usize.. {
            match (old.another(number == 0, b']')?, new.another(number == 0, b']')?) {
                (false, false) => break,
                (true, true) => {
                    self.at(number.to_string(), |walk| walk.values(old, new))?;
                }
                (true, false) => return self.unlike(&format!("had more than {number} values")),
                (false, true) => return self.unlike(&format!("has more than {number} values")),
            }
        }
        Ok(())
    }

    fn objects(&mut self, old: &mut Reader<'_>, new: &mut Reader<'_>) -> Result<(), Stop> {
        old.open_with(b'{')?;
        new.open_with(b'{')?;
        let mut is_first = true;
        loop {
            let one = old.key(is_first)?;
            let other = new.key(is_first)?;
            is_first = false;
            match (one, other) {
                (None, None) => return Ok(()),
                (Some(one), Some(other)) if one == other => {
                    self.at(one, |walk| walk.values(old, new))?;
                }
                (one, other) => {
                    let (one, other) = (old.rest(one)?, new.rest(other)?);
                    return self.maps(&one, &other);
                }
            }
        }
    }

    fn maps(
        &mut self,
        one: &BTreeMap<String, Node>,
        other: &BTreeMap<String, Node>,
    ) -> Result<(), Stop> {
        for (key, value) in one {
            self.at(key.clone(), |walk| match other.get(key) {
                Some(another) => walk.nodes(value, another),
                None => walk.unlike("gone"),
            })?;
        }
        match other.keys().find(|key| !one.contains_key(*key)) {
            Some(key) => self.at(key.clone(), |walk| walk.unlike("new")),
            None => Ok(()),
        }
    }

    fn nodes(&mut self, one: &Node, other: &Node) -> Result<(), Stop> {
        match (one, other) {
            (Node::Object(one), Node::Object(other)) => self.maps(one, other),
            (Node::List(one), Node::List(other)) => {
                for (number, (value, another)) in one.iter().zip(other).enumerate() {
                    self.at(number.to_string(), |walk| walk.nodes(value, another))?;
                }
                match one.len().cmp(&other.len()) {
                    std::cmp::Ordering::Equal => Ok(()),
                    std::cmp::Ordering::Greater => {
                        self.unlike(&format!("had more than {} values", other.len()))
                    }
                    std::cmp::Ordering::Less => {
                        self.unlike(&format!("has more than {} values", one.len()))
                    }
                }
            }
            (Node::Number(one), Node::Number(other)) => {
                self.numbers(one, other);
                Ok(())
            }
            (Node::Text(one), Node::Text(other)) => self.scalars(one, other),
            (Node::Truth(one), Node::Truth(other)) => self.scalars(one, other),
            (one, other) => self.kinds(one.kind(), other.kind()),
        }
    }
}

/// Reads a document value by value.
struct Reader<'a> {
    source: Source<'a>,
    bytes: std::io::Bytes<BufReader<File>>,
    next: Option<u8>,
    at: u64,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn open(source: Source<'a>) -> Result<Self, DeviationError> {
        let file = File::open(source.0).map_err(|error| source.unread(error))?;
        let mut reader = Self {
            source,
            bytes: BufReader::with_capacity(256 << 10, file).bytes(),
            next: None,
            at: 0,
            depth: 0,
        };
        reader.step()?;
        Ok(reader)
    }

    fn step(&mut self) -> Result<(), DeviationError> {
        self.next = self.bytes.next().transpose().map_err(|error| self.source.unread(error))?;
        self.at += 1;
        Ok(())
    }

    fn wrong<T>(&self, expected: &str) -> Result<T, DeviationError> {
        let found = match self.next {
            Some(byte) => format!("{:?}", char::from(byte)),
            None => "the end".to_owned(),
        };
        Err(self.source.wrong(format!("byte {}: expected {expected}, found {found}", self.at)))
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Result<Option<u8>, DeviationError> {
        while matches!(self.next, Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.step()?;
        }
        Ok(self.next)
    }

    fn expect(&mut self, byte: u8) -> Result<(), DeviationError> {
        if self.peek()? != Some(byte) {
            return self.wrong(&format!("{:?}", char::from(byte)));
        }
        self.step()
    }

    fn end(&mut self) -> Result<(), DeviationError> {
        match self.peek()? {
            None => Ok(()),
            Some(_) => self.wrong("the end"),
        }
    }

    fn kind(&mut self) -> Result<Kind, DeviationError> {
        match self.peek()? {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::List),
            Some(b'"') => Ok(Kind::Text),
            Some(b'-' | b'0'..=b'9' | b'N' | b'I') => Ok(Kind::Number),
            Some(b't' | b'f') => Ok(Kind::Truth),
            Some(b'n') => Ok(Kind::Null),
            _ => self.wrong("a value"),
        }
    }

    fn open_with(&mut self, bracket: u8) -> Result<(), DeviationError> {
        self.expect(bracket)?;
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.source.wrong(format!("it is nested more than {DEEPEST} deep")));
        }
        Ok(())
    }

    /// Whether there is another value before `bracket`, which is passed over if not.
    fn another(&mut self, is_first: bool, bracket: u8) -> Result<bool, DeviationError> {
        if self.peek()? == Some(bracket) {
            self.depth -= 1;
            self.step()?;
            return Ok(false);
        }
        if !is_first {
            self.expect(b',')?;
        }
        Ok(true)
    }

    /// The next key of an object; nothing at its end.
    fn key(&mut self, is_first: bool) -> Result<Option<String>, DeviationError> {
        if !self.another(is_first, b'}')? {
            return Ok(None);
        }
        let key = self.text()?;
        self.expect(b':')?;
        Ok(Some(key))
    }

    /// What is left of an object; `key` was read already, and is nothing at its end.
    fn rest(&mut self, key: Option<String>) -> Result<BTreeMap<String, Node>, DeviationError> {
        let mut fields = BTreeMap::new();
        let mut next = key;
        while let Some(key) = next {
            let value = self.node()?;
            fields.insert(key, value);
            next = self.key(false)?;
        }
        Ok(fields)
    }

    fn node(&mut self) -> Result<Node, DeviationError> {
        Ok(match self.kind()? {
            Kind::Number => Node::Number(self.number()?),
            Kind::Text => Node::Text(self.text()?),
            Kind::Truth => Node::Truth(self.truth()?),
            Kind::Null => {
                self.null()?;
                Node::Null
            }
            Kind::List => {
                self.open_with(b'[')?;
                let mut values = Vec::new();
                while self.another(values.is_empty(), b']')? {
                    values.push(self.node()?);
                }
                Node::List(values)
            }
            Kind::Object => {
                self.open_with(b'{')?;
                let first = self.key(true)?;
                Node::Object(self.rest(first)?)
            }
        })
    }

    fn text(&mut self) -> Result<String, DeviationError> {
        self.expect(b'"')?;
        let mut raw = vec![b'"'];
        let mut is_escaped = false;
        loop {
            let Some(byte) = self.next else { return self.wrong("the end of a text") };
            raw.push(byte);
            self.step()?;
            match byte {
                b'"' if !is_escaped => break,
                b'\\' => is_escaped = !is_escaped,
                _ => is_escaped = false,
            }
        }
        serde_json::from_slice(&raw).map_err(|error| {
            self.source.wrong(format!("the text before byte {}: {error}", self.at))
        })
    }

    /// A number as it is written, in a form that [`str::parse`] takes.
    fn number(&mut self) -> Result<String, DeviationError> {
        let mut text = String::new();
        self.peek()?;
        while let Some(byte) = self.next {
            if !(byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')) {
                break;
            }
            text.push(char::from(byte));
            self.step()?;
        }
        let is_word = matches!(text.as_str(), "NaN" | "Infinity" | "-Infinity");
        let is_number = is_word
            || (text
                .bytes()
                .all(|byte| !byte.is_ascii_alphabetic() || matches!(byte, b'e' | b'E'))
                && text.parse::<f64>().is_ok());
        if is_number {
            Ok(text)
        } else {
            Err(self.source.wrong(format!("`{text}` before byte {} is no number", self.at)))
        }
    }

    fn word(&mut self) -> Result<String, DeviationError> {
        let mut text = String::new();
        self.peek()?;
        while let Some(byte) = self.next.filter(u8::is_ascii_alphabetic) {
            text.push(char::from(byte));
            self.step()?;
        }
        Ok(text)
    }

    fn truth(&mut self) -> Result<bool, DeviationError> {
        match self.word()?.as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => self.wrong("`true` or `false` before this"),
        }
    }

    fn null(&mut self) -> Result<(), DeviationError> {
        if self.word()? == "null" { Ok(()) } else { self.wrong("`null` before this") }
    }
}
