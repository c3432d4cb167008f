//! A crate's modules, and which of them name which others.
//!
//! Modules are found as the compiler finds them, by `mod` declarations. A path counts for the module in which what it
//! names is defined: through `pub use`, as far as those go. Unaware of what is to be concluded.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use super::tokens::{self, Token};

/// A module's place in its crate: `["recipe", "parse"]`; the crate's root has none.
pub type Name = Vec<String>;

/// A path as it is written.
struct Written {
    segments: Vec<String>,
    in_use: bool,
}

/// The modules of one crate.
pub struct Modules {
    /// The paths that each one writes.
    modules: BTreeMap<Name, Vec<Written>>,
}

impl Modules {
    /// Reads a crate from its root file.
    pub fn read(root: &Path) -> Self {
        let mut found = Self { modules: BTreeMap::new() };
        let folder = root.parent().expect("a file stands in a folder");
        found.add(Vec::new(), root, folder);
        found
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.modules.len()
    }

    fn add(&mut self, name: Name, file: &Path, folder: &Path) {
        let text =
            fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let tokens = tokens::of_product(&text);
        for window in tokens.windows(3) {
            if let [keyword, Token::Word(child), Token::Mark(';')] = window
                && keyword.is("mod")
            {
                let (file, folder) = place(folder, child);
                self.add([&name[..], std::slice::from_ref(child)].concat(), &file, &folder);
            }
        }
        self.modules.insert(name, paths(&tokens));
    }

    /// Which other modules each module imports from.
    ///
    /// A module and those inside it are one thing cut into files: what one takes from those around it (`super::Thing`)
    /// is no import, and neither is a `mod` declaration.
    pub fn edges(&self) -> BTreeMap<Name, BTreeSet<Name>> {
        let edges = self.modules.iter().map(|(name, paths)| {
            let named = paths.iter().filter_map(|path| self.target(name, &path.segments, 0));
            (name.clone(), named.filter(|target| !name.starts_with(target)).collect())
        });
        edges.collect()
    }

    /// The module in which a path, written in `module`, ends; `None` if it leads out of the crate.
    fn target(&self, module: &Name, path: &[String], depth: usize) -> Option<Name> {
        let (mut at, mut rest) = (module.clone(), path);
        match path.first()?.as_str() {
            "crate" => (at, rest) = (Vec::new(), &path[1..]),
            "self" => rest = &path[1..],
            "super" => {}
            first => {
                let child = [&module[..], &[first.to_owned()]].concat();
                if !self.modules.contains_key(&child) {
                    return None;
                }
            }
        }
        while let Some(segment) = rest.first() {
            if segment == "super" {
                at.pop();
            } else {
                let child = [&at[..], std::slice::from_ref(segment)].concat();
                if !self.modules.contains_key(&child) {
                    break;
                }
                at = child;
            }
            rest = &rest[1..];
        }
        let item = rest.first().map(String::as_str);
        // A re-export stands for what it exports; a chain of them is short.
        match item.and_then(|item| self.exported(&at, item)) {
            Some(path) if depth < 8 => self.target(&at, &path, depth + 1).or(Some(at)),
            _ => Some(at),
        }
    }

    /// The path that a `use` in `module` gives this name to.
    fn exported(&self, module: &Name, item: &str) -> Option<Vec<String>> {
        let uses = self.modules.get(module)?.iter().filter(|path| path.in_use);
        let mut named = uses.filter(|path| path.segments.last().is_some_and(|last| last == item));
        named.next().map(|path| path.segments.clone())
    }
}

fn place(folder: &Path, child: &str) -> (PathBuf, PathBuf) {
    let (flat, own) = (folder.join(format!("{child}.rs")), folder.join(child));
    if flat.exists() { (flat, own) } else { (own.join("mod.rs"), own) }
}

fn paths(tokens: &[Token]) -> Vec<Written> {
    let mut found = Vec::new();
    let mut at = 0;
    let mut in_use = false;
    while at < tokens.len() {
        match &tokens[at] {
            Token::Word(word) if word == "use" => in_use = true,
            Token::Mark(';') => in_use = false,
            Token::Word(_) => {
                let mut segments = Vec::new();
                let end = path(tokens, at, &[], &mut segments);
                let kept = segments.into_iter().filter(|segments| segments.len() > 1);
                found.extend(kept.map(|segments| Written { segments, in_use }));
                at = end;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Reads a path, with groups, that starts at `from`; gives where it ends.
fn path(tokens: &[Token], from: usize, before: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut segments = before.to_vec();
    let mut at = from;
    while let Some(Token::Word(word)) = tokens.get(at) {
        segments.push(word.clone());
        at += 1;
        if tokens.get(at) != Some(&Token::Path) {
            break;
        }
        at += 1;
    }
    if at == from
        || tokens.get(at.wrapping_sub(1)) != Some(&Token::Path)
        || tokens.get(at) != Some(&Token::Mark('{'))
    {
        // In a group, `self` is the group's own path.
        if segments.len() > 1 && segments.last().is_some_and(|last| last == "self") {
            segments.pop();
        }
        found.push(segments);
        return at.max(from + 1);
    }
    at += 1;
    while at < tokens.len() && tokens[at] != Token::Mark('}') {
        at = match &tokens[at] {
            Token::Word(word) if word == "as" => at + 2,
            Token::Word(_) => path(tokens, at, &segments, found),
            _ => at + 1,
        };
    }
    at + 1
}

/// The modules that stand in rings: groups of which each can be reached from each other.
pub fn rings(edges: &BTreeMap<Name, BTreeSet<Name>>) -> Vec<Vec<Name>> {
    let reach: BTreeMap<&Name, BTreeSet<Name>> =
        edges.keys().map(|name| (name, reachable(edges, name))).collect();
    let mut rings: BTreeSet<Vec<Name>> = BTreeSet::new();
    for (name, own) in &reach {
        if own.contains(*name) {
            let ring = own
                .iter()
                .filter(|other| reach.get(other).is_some_and(|back| back.contains(*name)));
            rings.insert(ring.cloned().collect());
        }
    }
    rings.into_iter().collect()
}

fn reachable(edges: &BTreeMap<Name, BTreeSet<Name>>, from: &Name) -> BTreeSet<Name> {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(name) = open.pop() {
        for next in edges.get(name).into_iter().flatten() {
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(files: &[(&str, &str)]) -> BTreeMap<Name, BTreeSet<Name>> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in files {
            let file = folder.path().join(name);
            fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
            fs::write(file, text).expect("a file");
        }
        Modules::read(&folder.path().join("lib.rs")).edges()
    }

    fn name(text: &str) -> Name {
        text.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn a_re_export_stands_for_what_it_exports() {
        let edges = edges(&[
            ("lib.rs", "mod a; mod b; pub use b::Thing;"),
            ("a.rs", "use crate::Thing; fn f(x: crate::b::Other) {}"),
            ("b.rs", "pub struct Thing;"),
        ]);
        assert_eq!(edges[&name("a")], BTreeSet::from([name("b")]));
        assert!(rings(&edges).is_empty());
    }

    #[test]
    fn a_ring_is_found_through_groups_parents_and_bare_paths() {
        let edges = edges(&[
            ("lib.rs", "mod a; mod b;"),
            ("a/mod.rs", "mod c; fn f() { c::g() }"),
            ("a/c.rs", "use std::{fmt, io}; use super::super::b::{self, Thing as Other};"),
            ("b.rs", "fn f() { crate::a::c::h() }"),
        ]);
        assert_eq!(rings(&edges), [vec![name("a::c"), name("b")]]);
    }

    #[test]
    fn what_tests_import_is_no_edge() {
        let edges = edges(&[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "#[cfg(test)] mod tests { use crate::b; }"),
            ("b.rs", "use crate::a::f;"),
        ]);
        assert!(rings(&edges).is_empty());
    }
}
