//! Sources that do not keep still while a step reads them.

use std::{
    fs,
    io::{Seek as _, Write as _},
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Stdio,
};

use super::{CHOICES, temporary, wait_until};
use crate::harness::Project;

/// Just more than is copied into the store.
const LARGE: u64 = (256 << 20) + 16;

/// A step that says that it has begun, waits for a word, and then reads; `source` as the recipe writes it.
fn reading(source: &str, read: &str) -> Project {
    Project::new(&format!(
        r#"
name = "reading"

[sources]
data = "{source}"

[steps.read]
run = '''
touch begun
while [ ! -e go ]; do sleep 0.01; done
{read}
'''

[steps.count]
run = "wc -c < ${{read}} > ${{out}}"
"#
    ))
}

/// The working folder of the step that runs.
fn work(project: &Project) -> Option<PathBuf> {
    let scratch = fs::read_dir(project.store().join("tmp")).ok()?.flatten();
    scratch.map(|entry| entry.path().join("work")).find(|work| work.join("begun").exists())
}

/// Builds, and does something while the step waits; what was said, and the exit code.
fn meanwhile(project: &Project, sandbox: &str, act: &dyn Fn()) -> (String, Option<i32>) {
    let kiln = project
        .command(&["build", "--sandbox", sandbox, "--link", "all"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("the step begins", || work(project).is_some());
    act();
    fs::write(work(project).unwrap().join("go"), "").unwrap();
    let ended = kiln.wait_with_output().unwrap();
    (String::from_utf8_lossy(&ended.stderr).into_owned(), ended.status.code())
}

/// Lets the step go on at once, however often it begins.
fn undisturbed(project: &Project, sandbox: &str) -> (String, Option<i32>) {
    meanwhile(project, sandbox, &|| {})
}

fn rename_over(path: &Path, text: &str) {
    let aside = path.with_extension("new");
    fs::write(&aside, text).unwrap();
    fs::rename(aside, path).unwrap();
}

/// Overwrites the beginning of a file in place, leaving its size and its times as they were.
fn overwrite_secretly(path: &Path, through: &Path, text: &[u8]) {
    let times = fs::metadata(path).unwrap().modified().unwrap();
    let file = fs::File::options().write(true).open(through).unwrap();
    file.write_all_at(text, 0).unwrap();
    file.set_modified(times).unwrap();
}

/// Something that is done to a source.
type Change<'a> = &'a dyn Fn(&Path);

#[test]
fn a_small_source_that_changes_while_it_is_read_is_recorded_as_it_was() {
    let changes: [(&str, Change<'_>); 5] = [
        ("written to", &|path| fs::write(path, "words, and more\n").unwrap()),
        ("gone", &|path| fs::remove_file(path).unwrap()),
        ("replaced", &|path| rename_over(path, "other words\n")),
        ("a folder", &|path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
        ("of equal size and age", &|path| overwrite_secretly(path, path, b"sword")),
    ];
    for sandbox in CHOICES {
        for (what, change) in &changes {
            let project = reading("data.txt", "cat ${sources.data} > ${out}");
            project.write("data.txt", "words\n");
            let path = project.dir().join("data.txt");
            let (said, code) = meanwhile(&project, sandbox, &|| change(&path));
            assert_eq!(code, Some(0), "{sandbox}, {what}: {said}");
            assert_eq!(project.read("result/read"), "words\n", "{sandbox}, {what}");
            let recorded = project.kiln(&["status", "--json", "--sandbox", sandbox]);
            if path.is_file() {
                // The next build sees the change.
                let states = recorded.exits(0).json();
                assert_eq!(states["steps"][0]["state"], "would_run", "{sandbox}, {what}");
                let (said, code) = undisturbed(&project, sandbox);
                assert_eq!(code, Some(0), "{said}");
                assert_eq!(project.read("result/read"), fs::read_to_string(&path).unwrap());
            }
            if path.is_dir() {
                fs::remove_dir(&path).unwrap();
            }
            // As it was, it is known.
            project.write("data.txt", "words\n");
            let build = project.build(&["--sandbox", sandbox]).exits(0);
            assert_eq!(build.ran(), [] as [&str; 0], "{sandbox}, {what}");
            project.kiln(&["store", "verify"]).exits(0);
        }
    }
}

/// A project whose large source is a file, and that file.
fn large() -> (Project, PathBuf) {
    let project = reading("data.bin", "head -c 5 ${sources.data} > ${out}");
    let path = project.dir().join("data.bin");
    let file = fs::File::create(&path).unwrap();
    file.write_all_at(b"words", 0).unwrap();
    file.set_len(LARGE).unwrap();
    (project, path)
}

fn refuses(project: &Project, sandbox: &str, name: &Path, act: &dyn Fn()) {
    let (said, code) = meanwhile(project, sandbox, act);
    assert_eq!(code, Some(1), "{said}");
    let wanted = format!("`{}` changed while the step was reading it", name.display());
    assert!(said.contains(&wanted), "{wanted}: {said}");
    assert!(said.contains("help: nothing was recorded; build again once it is still"), "{said}");
    assert!(!project.dir().join("result/read").exists());
    assert_eq!(temporary(project.store()), [] as [&str; 0]);
    let status = project.kiln(&["status", "--json", "--sandbox", sandbox]);
    if status.code() == 0 {
        assert_eq!(status.json()["steps"][0]["state"], "would_run", "nothing is on record");
    }
}

#[test]
fn a_large_source_that_changes_while_it_is_read_has_nothing_recorded_and_is_named() {
    let (project, path) = large();
    let link = project.dir().join("other name");
    fs::hard_link(&path, &link).unwrap();
    let restore = || {
        drop(fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path)));
        let file = fs::File::create(&path).unwrap();
        file.write_all_at(b"words", 0).unwrap();
        file.set_len(LARGE).unwrap();
    };
    let real = project.dir().canonicalize().unwrap().join("data.bin");
    refuses(&project, "full", &real, &|| {
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.write_all_at(b"WORDS", 0).unwrap();
    });
    refuses(&project, "full", &real, &|| overwrite_secretly(&path, &link, b"w0rds"));
    refuses(&project, "off", &real, &|| fs::remove_file(&path).unwrap());
    restore();
    refuses(&project, "full", &real, &|| rename_over(&path, "short"));
    restore();
    refuses(&project, "full", &real, &|| {
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("other name", &path).unwrap();
    });
    restore();
    let (said, code) = undisturbed(&project, "full");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(project.read("result/read"), "words");
}

/// What the step saw in between nobody knows, so that it begins again.
#[test]
fn a_large_source_that_was_changed_and_changed_back_is_read_once_more() {
    let (project, path) = large();
    let kiln = project
        .command(&["build", "--link", "all"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("the step begins", || work(&project).is_some());
    let first = work(&project).unwrap();
    overwrite_secretly(&path, &path, b"WORDS");
    fs::write(first.join("go"), "").unwrap();
    let output = first.parent().unwrap().join("out/out");
    // Whether the wrong bytes are read in time does not matter to what is claimed; mostly they are.
    let begun = std::time::Instant::now();
    while fs::read(&output).is_ok_and(|bytes| bytes != b"WORDS") && begun.elapsed().as_secs() < 5 {}
    overwrite_secretly(&path, &path, b"words");
    wait_until("it begins again", || work(&project).is_some_and(|work| work != first));
    fs::write(work(&project).unwrap().join("go"), "").unwrap();
    let ended = kiln.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_eq!(project.read("result/read"), "words");
    assert_eq!(temporary(project.store()), [] as [&str; 0]);
}

#[test]
fn a_large_source_is_watched_through_mappings_and_for_its_executable_bit() {
    let (project, path) = large();
    let real = project.dir().canonicalize().unwrap().join("data.bin");
    let script = "import mmap, os, sys\nf = os.open(sys.argv[1], os.O_RDWR)\nt = os.stat(f)\n\
                  m = mmap.mmap(f, 5)\nm[:] = b'mmaps'\nm.flush()\n\
                  os.utime(f, ns=(t.st_atime_ns, t.st_mtime_ns))";
    refuses(&project, "full", &real, &|| {
        let python = std::process::Command::new("python3").args(["-c", script]).arg(&path).status();
        if python.is_err() {
            eprintln!("skipped: there is no python3 to map a file with");
            overwrite_secretly(&path, &path, b"mmaps");
        }
    });
    assert_eq!(fs::metadata(&path).unwrap().len(), LARGE);
    refuses(&project, "full", &real, &|| {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    });
}

#[test]
fn a_large_folder_is_watched_for_what_comes_and_goes_and_for_what_was_only_there_in_between() {
    let project = reading("data", "ls ${sources.data} ${sources.data}/sub > ${out}");
    project.write("data/sub/a.txt", "a");
    project.write("data/b.txt", "b");
    let file = fs::File::create(project.dir().join("data/large")).unwrap();
    file.set_len(LARGE).unwrap();
    let inside = |path: &str| project.dir().canonicalize().unwrap().join("data").join(path);
    for sandbox in CHOICES {
        refuses(&project, sandbox, &inside("sub/new"), &|| {
            fs::write(inside("sub/new"), "n").unwrap();
        });
        fs::remove_file(inside("sub/new")).unwrap();
    }
    refuses(&project, "full", &inside("b.txt"), &|| fs::remove_file(inside("b.txt")).unwrap());
    project.write("data/b.txt", "b");
    refuses(&project, "full", &inside("b.txt"), &|| {
        let path = inside("b.txt");
        overwrite_secretly(&path, &path, b"B");
    });
    project.write("data/b.txt", "b");
    // Each time the step begins something is there that goes before it ends.
    let kiln = project.command(&["build"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut seen: Vec<PathBuf> = Vec::new();
    while seen.len() < 3 {
        wait_until("the step begins", || work(&project).is_some_and(|work| !seen.contains(&work)));
        let now = work(&project).unwrap();
        fs::write(inside("sub/passing"), "p").unwrap();
        fs::remove_file(inside("sub/passing")).unwrap();
        fs::write(now.join("go"), "").unwrap();
        seen.push(now);
    }
    let ended = kiln.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    let wanted = format!("`{}` changed while the step was reading it", inside("sub").display());
    assert!(said.contains(&wanted), "{said}");
    let (said, code) = undisturbed(&project, "full");
    assert_eq!(code, Some(0), "{said}");
    assert!(project.read("result/read").contains("b.txt\nlarge\nsub\n"));
}

#[test]
fn a_file_that_is_written_to_all_the_time_is_never_recorded_under_what_it_is_not() {
    let project = Project::new(
        "name = \"torn\"\n\n[sources]\nlog = \"log.txt\"\n\n[steps.read]\nrun = \"cat ${sources.log} > ${out}\"\n",
    );
    project.write("log.txt", "0000000000\n");
    let path = project.dir().join("log.txt");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = fs::File::options().write(true).open(&path).unwrap();
            let mut count = 0u64;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                // Always as many bytes, often within one tick.
                file.rewind().unwrap();
                writeln!(file, "{count:010}").unwrap();
                count += 1;
                std::thread::sleep(std::time::Duration::from_micros(count % 300));
            }
        });
        for _ in 0..12 {
            let run = project.kiln(&["build"]);
            assert!(run.code() == 0 || run.stderr().contains("log.txt"), "{run:?}");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    project.build(&[]).exits(0);
    assert_eq!(project.read("result/read"), project.read("log.txt"));
    // Each record is true: a step that copies makes what it was given.
    let keys = keys(project.store());
    assert!(!keys.is_empty());
    for key in keys {
        let record = project.kiln(&["show", &key, "--json"]).exits(0).json();
        let given = record["refs"][0]["digest"].as_str();
        assert!(given.is_some(), "{record}");
        assert_eq!(given, record["outputs"][0]["object"]["digest"].as_str(), "{record}");
    }
    project.kiln(&["store", "verify"]).exits(0);
}

/// The keys on record in a store.
fn keys(store: &Path) -> Vec<String> {
    let folders = fs::read_dir(store.join("realisations")).unwrap().flatten();
    let files = folders.flat_map(|folder| fs::read_dir(folder.path()).unwrap().flatten());
    files
        .map(|file| file.file_name().into_string().unwrap())
        .filter(|name| name.len() == 64)
        .collect()
}
