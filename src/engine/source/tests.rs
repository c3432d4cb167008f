use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use super::*;
use crate::diagnostic::{Location, SourceText};

struct Nowhere;

impl Pointers for Nowhere {
    fn current(&self, _: &str, _: &str) -> Result<Option<Object>, String> {
        Ok(None)
    }
}

/// A recipe's folder, and a store beside it.
struct Fixture {
    root: tempfile::TempDir,
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("recipe")).unwrap();
        let store = Store::open(&root.path().join("store")).unwrap();
        Self { root, store }
    }

    fn folder(&self) -> std::path::PathBuf {
        self.root.path().join("recipe")
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.folder().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn with_reader<T>(&self, snapshot_limit: u64, read: impl FnOnce(&Reader<'_>) -> T) -> T {
        read(&Reader {
            store: &self.store,
            root: &self.folder(),
            recipe: "r",
            pointers: &Nowhere,
            trust: Trust::Cached,
            snapshot_limit,
            snapshot_files: 100,
        })
    }

    fn resolve(&self, origin: Origin, snapshot_limit: u64) -> Result<Resolved, Diagnostic> {
        let text = SourceText { name: "kiln.toml".into(), text: "s = 1".into() };
        let source = Source {
            name: "s".into(),
            origin,
            at: Location { source: Arc::new(text), span: 0..1 },
        };
        self.with_reader(snapshot_limit, |reader| reader.resolve(&source))
    }

    fn glob(&self, pattern: &str, snapshot_limit: u64) -> Resolved {
        self.resolve(Origin::Glob(pattern.into()), snapshot_limit).unwrap()
    }
}

fn path(path: &str) -> Origin {
    Origin::Path(path.into())
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_small_source_is_copied_and_a_large_one_read_where_it_lies() {
    let fixture = Fixture::new();
    fixture.write("a.csv.gz", "12345");
    let small = fixture.resolve(path("a.csv.gz"), 5).unwrap();
    assert_eq!((small.extension.as_str(), small.bytes, small.is_in_place()), ("csv.gz", 5, false));
    assert!(small.present(&fixture.store).unwrap().starts_with(fixture.store.home()));
    let large = fixture.resolve(path("a.csv.gz"), 4).unwrap();
    assert_eq!(large.object, small.object);
    assert_eq!(
        large.present(&fixture.store).unwrap(),
        fixture.folder().canonicalize().unwrap().join("a.csv.gz")
    );
}

#[test]
fn a_source_of_very_many_files_is_read_where_it_lies_however_small_they_are() {
    let fixture = Fixture::new();
    (0..100).for_each(|number| fixture.write(&format!("d/{number}.txt"), "x"));
    let found = || {
        let folder = fixture.resolve(path("d"), SNAPSHOT_LIMIT).unwrap();
        [folder.is_in_place(), fixture.glob("d/*.txt", SNAPSHOT_LIMIT).is_in_place()]
    };
    assert_eq!(found(), [false; 2], "as many as the fixture's reader copies");
    fixture.write("d/one.txt", "x");
    assert_eq!(found(), [true; 2]);
}

#[test]
fn a_large_glob_shows_the_files_that_match_and_no_others() {
    let fixture = Fixture::new();
    fixture.write("d/a.txt", "a");
    fixture.write("d/b.txt", "b");
    fixture.write("d/c.csv", "c");
    let glob = fixture.glob("d/*.txt", 0);
    let folder = glob.present(&fixture.store).unwrap();
    assert_eq!(names(&folder.join("d")), ["a.txt", "b.txt"]);
    assert_eq!(glob.changed(), None);
}

#[test]
fn readers_of_one_large_glob_at_once_do_not_disturb_each_other() {
    let fixture = Fixture::new();
    (0..20).for_each(|number| fixture.write(&format!("d/{number}.txt"), "words"));
    let glob = fixture.glob("d/*.txt", 0);
    let folders: Vec<_> = std::thread::scope(|scope| {
        let readers: Vec<_> =
            (0..4).map(|_| scope.spawn(|| glob.present(&fixture.store).unwrap())).collect();
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    });
    assert!(folders.iter().all(|folder| *folder == folders[0]), "{folders:?}");
    assert_eq!(glob.changed(), None);
}

#[test]
fn a_link_that_somebody_makes_is_no_change_and_another_content_is() {
    let fixture = Fixture::new();
    fixture.write("d/a.txt", "12345");
    let file = fixture.resolve(path("d/a.txt"), 0).unwrap();
    let whole = fixture.resolve(path("d"), 0).unwrap();
    fixture.glob("d/*.txt", 0).present(&fixture.store).unwrap();
    fs::hard_link(fixture.folder().join("d/a.txt"), fixture.root.path().join("link")).unwrap();
    assert_eq!((file.changed(), whole.changed()), (None, None));
    // As many bytes, and as old: only the content tells.
    let times = fs::metadata(fixture.folder().join("d/a.txt")).unwrap().modified().unwrap();
    fixture.write("d/a.txt", "54321");
    fs::File::options()
        .write(true)
        .open(fixture.folder().join("d/a.txt"))
        .unwrap()
        .set_modified(times)
        .unwrap();
    let changed = Some(fixture.folder().canonicalize().unwrap().join("d/a.txt"));
    assert_eq!((file.changed(), whole.changed()), (changed.clone(), changed));
}

#[test]
fn a_large_file_that_becomes_a_program_has_changed() {
    use std::os::unix::fs::PermissionsExt as _;
    let fixture = Fixture::new();
    fixture.write("a", "12345");
    let file = fixture.resolve(path("a"), 0).unwrap();
    fs::set_permissions(fixture.folder().join("a"), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(file.changed().is_some());
}

#[test]
fn a_file_more_in_a_large_folder_is_a_change() {
    let fixture = Fixture::new();
    fixture.write("d/a.txt", "a");
    let folder = fixture.resolve(path("d"), 0).unwrap();
    assert_eq!(folder.changed(), None);
    fixture.write("d/b.txt", "b");
    assert_eq!(folder.changed(), Some(fixture.folder().canonicalize().unwrap().join("d")));
}

#[test]
fn a_small_source_that_changes_before_it_is_copied_is_refused() {
    let fixture = Fixture::new();
    fixture.write("a", "1");
    let file = fixture.resolve(path("a"), SNAPSHOT_LIMIT).unwrap();
    fixture.write("a", "2");
    assert!(matches!(file.present(&fixture.store), Err(PresentError::Changed(_))));
}

#[test]
fn hidden_files_and_links_under_result_match_only_if_they_are_named() {
    let fixture = Fixture::new();
    for name in ["a.txt", ".hidden/b.txt", ".c.txt", "result/d.txt", "e/result/f.txt"] {
        fixture.write(name, name);
    }
    let listed = |pattern: &str| -> Vec<String> {
        let files = fixture.with_reader(0, |reader| reader.files(pattern)).unwrap();
        files.into_keys().collect()
    };
    assert_eq!(listed("**/*.txt"), ["a.txt", "e/result/f.txt"]);
    assert_eq!(listed("*.txt"), ["a.txt"]);
    assert_eq!(listed(".*.txt"), [".c.txt"]);
    assert_eq!(listed("e"), ["e/result/f.txt"]);
    assert_eq!(listed("a.txt"), ["a.txt"]);
}

#[test]
fn a_pattern_passes_over_links_that_lead_elsewhere_and_over_hidden_folders() {
    let fixture = Fixture::new();
    for name in ["a.csv", ".venv/bin/b.csv", "deep/c.csv"] {
        fixture.write(name, name);
    }
    std::os::unix::fs::symlink("/usr/bin/env", fixture.folder().join(".venv/bin/python")).unwrap();
    std::os::unix::fs::symlink("/usr/bin/env", fixture.folder().join("deep/python")).unwrap();
    let files = fixture.with_reader(0, |reader| reader.files("**/*.csv")).unwrap();
    assert_eq!(files.into_keys().collect::<Vec<_>>(), ["a.csv", "deep/c.csv"]);
}

#[test]
fn what_is_not_content_is_refused_with_a_reason() {
    let fixture = Fixture::new();
    fixture.write("data.csv", "1");
    fixture.write("loop/a", "1");
    let link = |target: &str, name: &str| {
        std::os::unix::fs::symlink(target, fixture.folder().join(name)).unwrap()
    };
    link("/etc/hostname", "outside");
    link("nothing", "dangling");
    link("../../recipe/data.csv", "loop/leaves");
    let refused = |origin: Origin| {
        let problem = fixture.resolve(origin, SNAPSHOT_LIMIT).unwrap_err();
        (problem.message.clone(), problem.help.join("; "))
    };
    let cases: BTreeMap<&str, (&str, &str)> = BTreeMap::from([
        ("date.csv", ("`date.csv` does not exist", "did you mean `data.csv`?")),
        ("outside", ("`outside` leaves the recipe's folder", "copy or move it")),
        ("dangling", ("`dangling` is a link that leads nowhere", "restore what it points at")),
        ("loop", ("the link `leaves` leaves its folder", "replace it by what it points at")),
    ]);
    for (name, (message, help)) in cases {
        let (found, advice) = refused(path(name));
        assert_eq!(found, format!("source `s`: {message}"));
        assert!(advice.contains(help), "{advice}");
    }
    let (nothing, advice) = refused(Origin::Glob("*.parquet".into()));
    assert_eq!(nothing, "source `s`: no file matches `*.parquet`");
    assert!(advice.contains("`**`"), "{advice}");
}

#[test]
fn many_sources_together_are_what_each_is_alone() {
    let fixture = Fixture::new();
    for name in ["a", "b.csv", "d/c.tar.gz", "d/e/f", "folder/x", "folder/y/z"] {
        fixture.write(name, name);
    }
    fs::create_dir(fixture.folder().join("folder/empty")).unwrap();
    let link = |target: &str, name: &str| {
        std::os::unix::fs::symlink(target, fixture.folder().join(name)).unwrap()
    };
    link("a", "link");
    link("d", "through");
    link("/etc", "outside");
    link("nothing", "dangling");
    let paths = [
        "a",
        "b.csv",
        "d/c.tar.gz",
        "d/e/f",
        "folder",
        "folder/x",
        "link",
        "through/e/f",
        "outside/hostname",
        "dangling",
        "absent",
        "absent/x",
        "a/b",
        ".",
        "./a",
        "d/../a",
        "d/",
        "..",
        "../recipe/a",
        "",
    ];
    let mut origins: Vec<Origin> = paths.into_iter().map(path).collect();
    origins.push(Origin::Glob("d/**".into()));
    origins.push(Origin::Glob("*.none".into()));
    let text = Arc::new(SourceText { name: "kiln.toml".into(), text: "s = 1".into() });
    let source = |origin: &Origin| Source {
        name: "s".into(),
        origin: origin.clone(),
        at: Location { source: Arc::clone(&text), span: 0..1 },
    };
    let sources: Vec<Source> = origins.iter().map(source).collect();
    for limit in [0, SNAPSHOT_LIMIT] {
        let told = |found: &Result<Resolved, Diagnostic>| match found {
            Ok(found) => Ok((
                found.object,
                found.extension.clone(),
                found.bytes,
                found.present(&fixture.store).unwrap().is_file(),
            )),
            Err(problem) => Err((problem.message.clone(), problem.help.clone())),
        };
        fixture.with_reader(limit, |reader| {
            let together = reader.resolve_all(&sources.iter().collect::<Vec<_>>());
            for (source, found) in sources.iter().zip(&together) {
                let alone = reader.resolve(source);
                assert_eq!(told(found), told(&alone), "{:?}", source.origin);
            }
        });
    }
}

#[test]
fn an_empty_folder_is_content_whether_a_step_reads_a_copy_or_the_original() {
    let fixture = Fixture::new();
    fixture.write("d/a", "a");
    let before = fixture.resolve(path("d"), 0).unwrap();
    fs::create_dir(fixture.folder().join("d/empty")).unwrap();
    let large = fixture.resolve(path("d"), 0).unwrap();
    let small = fixture.resolve(path("d"), SNAPSHOT_LIMIT).unwrap();
    assert!(large.is_in_place() && !small.is_in_place());
    assert_eq!(large.object, small.object);
    assert_ne!(large.object, before.object);
    assert!(before.changed().is_some());
    for source in [large, small] {
        assert_eq!(names(&source.present(&fixture.store).unwrap()), ["a", "empty"]);
    }
}

#[test]
fn a_large_source_is_captured_as_it_was_hashed_or_not_at_all() {
    let fixture = Fixture::new();
    fixture.write("d/a.txt", "12345");
    let sources = [path("d/a.txt"), path("d"), Origin::Glob("d/*.txt".into())].map(|origin| {
        let source = fixture.resolve(origin, 0).unwrap();
        source.present(&fixture.store).unwrap();
        source
    });
    for source in &sources {
        assert!(!fixture.store.contains(&source.object.unwrap()));
        source.capture(&fixture.store).unwrap();
        assert!(fixture.store.contains(&source.object.unwrap()));
    }
    fixture.write("d/a.txt", "54321");
    let later = fixture.resolve(path("d"), 0).unwrap();
    fixture.write("d/a.txt", "00000");
    assert!(matches!(later.capture(&fixture.store), Err(PresentError::Changed(_))));
    assert!(!fixture.store.contains(&later.object.unwrap()));
}
