use std::{fs, sync::atomic::AtomicU32};

use kiln_cache::{
    Cost, Determinism, GcOptions, Ingest, Isolation, Item, Output, Precedence, Realisation,
};
use tempfile::TempDir;

use super::*;

const RECIPE: &str = "tumour";
const NAME: &str = "production";

struct Fixture {
    home: TempDir,
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        Self { home, store }
    }

    /// A release with a model that says `model` and evidence that says `evidence`.
    fn release(&self, model: &str, evidence: &str) -> NewGeneration {
        let scratch = self.store.scratch_dir().unwrap();
        let folder = scratch.path().join("release");
        fs::create_dir_all(folder.join("model")).unwrap();
        fs::write(folder.join("model/weights"), model).unwrap();
        fs::write(folder.join("evidence"), evidence).unwrap();
        let release = self.store.ingest(&folder, Ingest::Copy).unwrap().object;
        let model = Deployments::new(&self.store).model_of(&release).unwrap();
        assert!(model.is_some());
        NewGeneration {
            release,
            model,
            manifest: self.store.put_bytes(format!("manifest of {release}").as_bytes()).unwrap(),
            keys: Vec::new(),
            by: "ada".to_owned(),
            reason: None,
            at: 7,
            force: false,
        }
    }

    fn deployments(&self) -> Deployments<'_> {
        Deployments::new(&self.store)
    }

    fn deploy(&self, model: &str) -> Generation {
        self.deploy_to(NAME, model)
    }

    fn deploy_to(&self, name: &str, model: &str) -> Generation {
        let new = self.release(model, "good");
        match self.deployments().deploy(RECIPE, name, new).unwrap() {
            Deployed::Switched(generation) => generation,
            Deployed::AlreadyRuns(running) => panic!("{} runs already", running.number),
        }
    }

    fn rollback(&self, to: Option<u64>) -> Result<u64, RegistryError> {
        let switched = self.deployments().rollback(RECIPE, NAME, to, "ada", None, 9)?;
        Ok(switched.to.number)
    }

    fn current(&self) -> Option<u64> {
        self.deployments().current(RECIPE, NAME).unwrap().map(|generation| generation.number)
    }

    fn file(&self, rel: &str) -> PathBuf {
        self.home.path().join("deployments").join(RECIPE).join(NAME).join(rel)
    }
}

#[test]
fn generations_are_numbered_from_one_and_the_last_one_runs() {
    let f = Fixture::new();
    assert_eq!(f.current(), None);
    assert_eq!(f.deployments().generations(RECIPE, NAME).unwrap(), []);
    assert_eq!(f.deployments().names(RECIPE).unwrap(), [""; 0]);
    let first = f.deploy("a");
    let second = f.deploy("b");
    assert_eq!((first.number, first.replaced), (1, None));
    assert_eq!((second.number, second.replaced), (2, Some(1)));
    assert_eq!(f.current(), Some(2));
    assert_eq!(f.deployments().generations(RECIPE, NAME).unwrap(), [first.clone(), second]);
    assert_eq!(f.deployments().generation(RECIPE, NAME, 1).unwrap(), Some(first));
    assert_eq!(f.deployments().generation(RECIPE, NAME, 3).unwrap(), None);
    assert_eq!(f.deploy_to("staging", "a").number, 1);
    assert_eq!(f.deployments().names(RECIPE).unwrap(), [NAME, "staging"]);
}

#[test]
fn looking_writes_nothing() {
    let f = Fixture::new();
    assert_eq!(f.current(), None);
    assert!(matches!(f.rollback(None), Err(RegistryError::NothingDeployed(_))));
    assert!(!f.file("").exists());
}

#[test]
fn the_model_that_runs_is_not_deployed_again_unless_forced() {
    let f = Fixture::new();
    let first = f.deploy("a");
    let again = f.release("a", "other evidence");
    assert_ne!(again.release, first.release);
    let done = f.deployments().deploy(RECIPE, NAME, again.clone()).unwrap();
    assert_eq!(done, Deployed::AlreadyRuns(first));
    assert_eq!(f.deployments().history(RECIPE, NAME).unwrap().len(), 1);
    let forced = NewGeneration { force: true, ..again };
    let done = f.deployments().deploy(RECIPE, NAME, forced).unwrap();
    assert!(matches!(done, Deployed::Switched(generation) if generation.number == 2));
}

#[test]
fn rollbacks_walk_back_and_never_turn_in_a_circle() {
    let f = Fixture::new();
    f.deploy("a");
    f.deploy("b");
    f.deploy("c");
    assert_eq!(f.rollback(None).unwrap(), 2);
    assert_eq!(f.rollback(None).unwrap(), 1);
    let error = f.rollback(None).unwrap_err();
    assert!(matches!(error, RegistryError::NothingEarlier { current: 1, .. }), "{error}");
    assert_eq!(f.current(), Some(1));
}

#[test]
fn a_rollback_passes_over_what_was_abandoned() {
    let f = Fixture::new();
    f.deploy("a");
    f.deploy("bad");
    assert_eq!(f.rollback(None).unwrap(), 1);
    let third = f.deploy("c");
    assert_eq!((third.number, third.replaced), (3, Some(1)));
    assert_eq!(f.rollback(None).unwrap(), 1);
}

#[test]
fn a_rollback_by_number_goes_anywhere_and_says_what_there_is() {
    let f = Fixture::new();
    f.deploy("a");
    f.deploy("b");
    f.deploy("c");
    assert_eq!(f.rollback(Some(1)).unwrap(), 1);
    assert_eq!(f.rollback(Some(3)).unwrap(), 3);
    assert_eq!(f.rollback(None).unwrap(), 2);
    let error = f.rollback(Some(9)).unwrap_err();
    assert_eq!(error.to_string(), "production has no generation 9");
    assert_eq!(error.help(), "those that it has: 1, 2, 3");
    let error = f.rollback(Some(2)).unwrap_err();
    assert_eq!(error.to_string(), "production already runs generation 2");
}

#[test]
fn every_switch_is_on_record() {
    let f = Fixture::new();
    f.deploy("a");
    f.deploy("b");
    f.deployments().rollback(RECIPE, NAME, None, "bob", Some("errors"), 11).unwrap();
    let history = f.deployments().history(RECIPE, NAME).unwrap();
    let moves: Vec<_> = history.iter().map(|s| (s.number, s.kind, s.from, s.to)).collect();
    assert_eq!(
        moves,
        [
            (1, SwitchKind::Deploy, None, 1),
            (2, SwitchKind::Deploy, Some(1), 2),
            (3, SwitchKind::Rollback, Some(2), 1),
        ]
    );
    let last = history.last().unwrap();
    assert_eq!((last.by.as_str(), last.reason.as_deref(), last.at), ("bob", Some("errors"), 11));
}

/// Runs `act` with a process that ends after 0, 1, 2, … changes, until one lives long enough.
fn crash_everywhere(
    prepare: impl Fn(&Fixture),
    act: impl Fn(&Deployments<'_>, &Fixture) -> Result<(), RegistryError>,
    check: impl Fn(&Fixture, bool),
) -> u32 {
    for changes in 0.. {
        let f = Fixture::new();
        prepare(&f);
        let mut deployments = f.deployments();
        deployments.disk.changes_left = Some(AtomicU32::new(changes));
        let done = act(&deployments, &f).is_ok();
        check(&f, done);
        if done {
            return changes;
        }
    }
    unreachable!("the numbers do not end")
}

#[test]
fn a_crash_while_deploying_leaves_the_old_generation_and_the_next_deploy_works() {
    let changes = crash_everywhere(
        |f| drop(f.deploy("a")),
        |deployments, f| deployments.deploy(RECIPE, NAME, f.release("b", "good")).map(drop),
        |f, done| {
            assert_eq!(f.current(), Some(if done { 2 } else { 1 }));
            let ran = f.deployments().generations(RECIPE, NAME).unwrap();
            assert_eq!(ran.len(), if done { 2 } else { 1 });
            let next = f.deploy("c");
            assert!(next.number >= if done { 3 } else { 2 });
            assert_eq!(f.current(), Some(next.number));
            let back = if done { 2 } else { 1 };
            assert_eq!(f.rollback(None).unwrap(), back);
            assert_eq!(f.deployments().verify(), []);
            assert_eq!(f.deployments().audit().unwrap().unrooted, []);
            // What was cut off holds nothing any more, and all that ran is held.
            let cut_off = f.deployments().let_go_of_cut_off().unwrap();
            assert!(cut_off.len() <= usize::from(!done), "{cut_off:?}");
            assert_eq!(f.store.roots().unwrap().len(), if done { 3 } else { 2 });
            f.store.gc(GcOptions::default()).unwrap();
            assert_eq!(f.deployments().verify(), []);
        },
    );
    // The root, and two for each of three files.
    assert_eq!(changes, 7);
}

#[test]
fn a_crash_in_the_first_deploy_leaves_nothing_deployed() {
    crash_everywhere(
        |_| (),
        |deployments, f| deployments.deploy(RECIPE, NAME, f.release("a", "good")).map(drop),
        |f, done| {
            assert_eq!(f.current().is_some(), done);
            assert_eq!(f.deployments().names(RECIPE).unwrap().is_empty(), !done);
            assert_eq!(f.deployments().verify(), []);
            f.deploy("b");
        },
    );
}

#[test]
fn a_crash_while_rolling_back_leaves_one_of_both_generations() {
    crash_everywhere(
        |f| {
            f.deploy("a");
            f.deploy("b");
        },
        |deployments, _| deployments.rollback(RECIPE, NAME, None, "ada", None, 9).map(drop),
        |f, done| {
            assert_eq!(f.current(), Some(if done { 1 } else { 2 }));
            let switches = f.deployments().history(RECIPE, NAME).unwrap().len();
            assert_eq!(switches, if done { 3 } else { 2 });
        },
    );
}

#[test]
fn a_number_that_a_crash_left_is_not_used_again() {
    let f = Fixture::new();
    f.deploy("a");
    let mut dying = f.deployments();
    // The root and the generation's file come to be, and then no switch.
    dying.disk.changes_left = Some(AtomicU32::new(3));
    dying.deploy(RECIPE, NAME, f.release("b", "good")).unwrap_err();
    assert!(f.file("generations/2").exists());
    assert_eq!(f.deployments().generation(RECIPE, NAME, 2).unwrap(), None);
    assert_eq!(f.deploy("c").number, 3);
}

#[test]
fn deploys_at_the_same_time_each_get_their_number() {
    let f = Fixture::new();
    let models: Vec<String> = (0..16).map(|n| format!("model {n}")).collect();
    std::thread::scope(|scope| {
        for half in models.chunks(8) {
            scope.spawn(|| half.iter().for_each(|model| drop(f.deploy(model))));
        }
        scope.spawn(|| {
            let mut last = 0;
            while last < 16 {
                let now = f.current().unwrap_or(0);
                assert!(now >= last, "went from {last} back to {now}");
                last = now;
            }
        });
    });
    let generations = f.deployments().generations(RECIPE, NAME).unwrap();
    let numbers: Vec<u64> = generations.iter().map(|generation| generation.number).collect();
    assert_eq!(numbers, (1..=16).collect::<Vec<_>>());
    let replaced: Vec<_> = generations.iter().map(|generation| generation.replaced).collect();
    assert_eq!(replaced[1..], (1..16).map(Some).collect::<Vec<_>>());
}

#[test]
fn the_same_model_from_two_sides_is_deployed_once() {
    let f = Fixture::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| f.deployments().deploy(RECIPE, NAME, f.release("a", "good")).unwrap());
        }
    });
    assert_eq!(f.deployments().generations(RECIPE, NAME).unwrap().len(), 1);
}

#[test]
fn the_collector_keeps_what_generations_hold_and_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    let key = Digest::of(b"key of the lineage");
    let (deployed, other) = {
        let f = Fixture { store: Store::open(home.path()).unwrap(), home };
        let made = f.store.put_bytes(b"made on the way").unwrap();
        let record = Realisation {
            key,
            attempt: 1,
            recipe: RECIPE.to_owned(),
            step: "train".to_owned(),
            builder: "train@1".to_owned(),
            outputs: vec![Output {
                name: "out".to_owned(),
                object: made,
                bytes: 15,
                extension: String::new(),
                alias: None,
            }],
            verdict: None,
            isolation: Isolation::Full,
            determinism: Determinism::Bitwise,
            manifest: "[]".to_owned(),
            log: None,
            refs: Vec::new(),
            cost: Cost::default(),
            boot: String::new(),
            group: 0,
        };
        f.store.record(record, Precedence::First).unwrap();
        let new = NewGeneration { keys: vec![key], ..f.release("a", "good") };
        f.deployments().deploy(RECIPE, NAME, new.clone()).unwrap();
        f.deploy("b");
        let other = f.release("never deployed", "good");
        drop(f.store);
        // Another process collects: this one's holds would keep what it has just placed.
        let store = Store::open(f.home.path()).unwrap();
        let report = store.gc(GcOptions::default()).unwrap();
        let removed: Vec<Item> = report.removed.iter().map(|removed| removed.item).collect();
        assert!(removed.contains(&Item::Object(other.release)), "{removed:?}");
        assert!(store.contains(&made));
        assert!(store.realisation(&key).unwrap().is_some());
        let f = Fixture { store, home: f.home };
        // Generation 1 does not run, and one can still go back to it.
        assert_eq!(f.rollback(None).unwrap(), 1);
        for object in [Some(new.release), new.model, Some(new.manifest)].into_iter().flatten() {
            assert!(f.store.contains(&object), "{object}");
        }
        (f, other)
    };
    assert!(!deployed.store.contains(&other.release));
}

#[test]
fn an_audit_finds_what_is_missing_and_what_cannot_be_read() {
    let f = Fixture::new();
    f.deploy("one");
    let two = f.deploy("two");
    f.deploy_to("staging", "one");
    assert_eq!(f.deployments().verify(), []);
    let path = f.store.path(&two.manifest);
    fs::remove_file(&path).unwrap();
    let problems = f.deployments().verify();
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(problems[0].path.ends_with("generations/2"), "{problems:#?}");
    assert!(problems[0].what.contains(&two.manifest.to_string()), "{problems:#?}");
    let generation = f.file("generations/1");
    fs::write(&generation, "{").unwrap();
    let problems = f.deployments().verify();
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(problems[0].path.ends_with("generations/1"), "{problems:#?}");
    fs::remove_file(f.file("current")).unwrap();
    let problems = f.deployments().verify();
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(problems[0].what.contains("pointer"), "{problems:#?}");
    assert!(problems.iter().all(|problem| !problem.help.is_empty()));
    let audit = f.deployments().audit().unwrap();
    let told: Vec<_> =
        audit.unreadable.iter().map(|one| (one.recipe.as_str(), one.is_held)).collect();
    assert_eq!(
        told,
        [("tumour", true); 2],
        "the pointer and the first generation, both with roots"
    );
    let name = "generation/tumour/production/";
    assert!(f.store.remove_root(&format!("{name}1")).unwrap());
    assert!(f.store.remove_root(&format!("{name}2")).unwrap());
    let audit = f.deployments().audit().unwrap();
    let labels: Vec<_> = audit.unrooted.iter().map(|one| one.root.label.as_str()).collect();
    assert_eq!(labels, ["generation 2 of production (tumour)"], "that it ran is told by its file");
    let lost: Vec<_> = audit.unreadable.iter().filter(|one| !one.is_held).collect();
    assert!(matches!(&lost[..], [one] if one.problem.path.ends_with("generations/1")), "{lost:?}");
    let removed = f.deployments().let_go_of_cut_off().unwrap();
    assert_eq!(removed, [] as [&str; 0], "what ran is not known");
}

#[test]
fn a_generation_whose_root_was_removed_is_found_and_kept_again() {
    let f = Fixture::new();
    let one = f.deploy("one");
    f.deploy("two");
    assert_eq!(f.deployments().audit().unwrap().unrooted, []);
    let (name, root) = f.deployments().root_of(&one);
    assert!(f.store.remove_root(&name).unwrap());
    let found = f.deployments().audit().unwrap().unrooted;
    assert_eq!(found.iter().map(|one| &one.root).collect::<Vec<_>>(), [&root]);
    f.deployments().root_again(&found[0]).unwrap();
    assert_eq!(f.store.root(&name).unwrap(), Some(root));
    assert_eq!(f.deployments().audit().unwrap().unrooted, []);
}

#[test]
fn a_generation_whose_bytes_are_gone_is_not_gone_back_to() {
    let f = Fixture::new();
    let first = f.deploy("a");
    f.deploy("b");
    f.store.remove_root("generation/tumour/production/1").unwrap();
    let home = f.home;
    drop(f.store);
    let store = Store::open(home.path()).unwrap();
    store.gc(GcOptions::default()).unwrap();
    let f = Fixture { store, home };
    let error = f.rollback(None).unwrap_err();
    assert!(
        matches!(&error, RegistryError::BytesGone { number: 1, missing, .. }
            if missing.contains(&first.release)),
        "{error}"
    );
    assert_eq!(f.current(), Some(2));
    assert!(error.to_string().contains(&first.release.to_string()), "{error}");
}

#[test]
fn a_rollback_renews_the_root_of_what_runs() {
    let f = Fixture::new();
    f.deploy("a");
    f.deploy("b");
    let root = "generation/tumour/production/1";
    let before = f.store.root(root).unwrap();
    assert!(f.store.remove_root(root).unwrap());
    f.rollback(None).unwrap();
    assert_eq!(f.store.root(root).unwrap(), before);
    assert!(before.is_some());
}

#[test]
fn what_is_not_in_the_store_is_not_deployed() {
    let f = Fixture::new();
    let absent = Object::tree(Digest::of(b"absent"));
    let new = NewGeneration { release: absent, ..f.release("a", "good") };
    let error = f.deployments().deploy(RECIPE, NAME, new).unwrap_err();
    assert!(matches!(error, RegistryError::NotThere(object) if object == absent), "{error}");
    assert!(!f.file("").exists());
}

#[test]
fn damaged_and_newer_files_are_told_with_their_path() {
    let f = Fixture::new();
    f.deploy("a");
    f.deploy("b");
    let refused = |rel: &str, bytes: &str, act: &dyn Fn() -> RegistryError| {
        let path = f.file(rel);
        let good = fs::read(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        let error = act();
        let message = error.to_string();
        assert!(message.contains(&path.display().to_string()), "{message}");
        assert!(!error.help().is_empty());
        fs::write(&path, good).unwrap();
        error
    };
    let current = || f.deployments().current(RECIPE, NAME).unwrap_err();
    let deploy = || f.deployments().deploy(RECIPE, NAME, f.release("c", "good")).unwrap_err();
    let back = || f.rollback(None).unwrap_err();
    for act in [&current as &dyn Fn() -> RegistryError, &deploy, &back] {
        for damage in ["", "{", "null", "{\"format\": \"kiln-current\", \"version\": 1}\n}"] {
            let error = refused("current", damage, act);
            assert!(matches!(error, RegistryError::Document(DocumentError::Damaged { .. })));
        }
        let newer = "{\"format\": \"kiln-current\", \"version\": 2}";
        let error = refused("current", newer, act);
        assert!(error.help().contains("upgrade kiln"), "{}", error.help());
    }
    refused("generations/2", "{", &current);
    refused("switches/1", "{", &back);
    assert_eq!(f.current(), Some(2));
    assert_eq!(f.deployments().generations(RECIPE, NAME).unwrap().len(), 2);
}

#[test]
fn a_lost_pointer_is_not_taken_for_an_empty_place() {
    let f = Fixture::new();
    f.deploy("a");
    fs::remove_file(f.file("current")).unwrap();
    let error = f.deployments().current(RECIPE, NAME).unwrap_err();
    assert!(matches!(error, RegistryError::PointerLost(_)), "{error}");
    let error = f.deployments().deploy(RECIPE, NAME, f.release("b", "good")).unwrap_err();
    assert!(matches!(error, RegistryError::PointerLost(_)), "{error}");
}

#[test]
fn names_and_lines_are_checked_before_anything_is_written() {
    let f = Fixture::new();
    for name in ["..", "../other", "", "a/b"] {
        let error = f.deployments().deploy(RECIPE, name, f.release("a", "good")).unwrap_err();
        assert!(matches!(error, RegistryError::Name(_)), "{error}");
        assert!(f.deployments().current(name, NAME).is_err());
    }
    for text in ["", " ", "two\nlines", "\u{1b}[2J"] {
        let new = NewGeneration { by: text.to_owned(), ..f.release("a", "good") };
        let error = f.deployments().deploy(RECIPE, NAME, new).unwrap_err();
        assert!(matches!(error, RegistryError::Line(_)), "{error}");
        let new = NewGeneration { reason: Some(text.to_owned()), ..f.release("a", "good") };
        assert!(f.deployments().deploy(RECIPE, NAME, new).is_err());
    }
    assert!(!f.file("").exists());
}

#[test]
fn what_was_captured_for_a_generation_stays_with_it_also_after_a_rollback() {
    let f = Fixture::new();
    let source = f.store.put_bytes(b"a large source").unwrap();
    let absent = Object::file(Digest::of(b"a source that nobody captured"));
    let new = f.release("a", "good");
    let sources = [("data", source), ("other", absent)];
    let manifest = DeploymentManifest {
        recipe: RECIPE.to_owned(),
        deployment: NAME.to_owned(),
        release: new.release,
        model: new.model,
        after: None,
        lineage: crate::Lineage {
            sources: sources.map(|(name, object)| (name.to_owned(), object)).into(),
            ..crate::Lineage::default()
        },
    };
    let new = NewGeneration { manifest: manifest.store(&f.store).unwrap(), ..new };
    f.deployments().deploy(RECIPE, NAME, new).unwrap();
    f.deploy("b");
    f.deployments().rollback(RECIPE, NAME, None, "ada", None, 9).unwrap();
    // What a store has made it holds until it is closed.
    let home = f.home;
    drop(f.store);
    let collected = || {
        let store = Store::open(home.path()).unwrap();
        store.gc(GcOptions::default()).unwrap();
        store
    };
    assert!(collected().contains(&source));
    // Nobody else keeps it.
    let store = collected();
    for (name, _) in store.roots().unwrap() {
        store.remove_root(&name).unwrap();
    }
    drop(store);
    assert!(!collected().contains(&source));
}
