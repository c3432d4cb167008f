use super::*;
use std::os::unix::fs::PermissionsExt;

fn program(folder: &Path, name: &str) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join(name), "#!/bin/sh\n").unwrap();
    fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn a_missing_tool_is_named_with_the_nearest_program() {
    let folder = tempfile::tempdir().unwrap();
    program(folder.path(), "convert");
    let error = resolve(&names(&["convrt"]), folder.path().as_os_str()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the tool `convrt` was not found on PATH; did you mean `convert`?"
    );
    let error = resolve(&names(&["a/b"]), folder.path().as_os_str()).unwrap_err();
    assert_eq!(error, ToolError::Name { name: "a/b".into() });
}

#[test]
fn a_single_program_without_a_package_keeps_the_host_in_the_key() {
    let folder = tempfile::tempdir().unwrap();
    program(folder.path(), "mine");
    let set = resolve(&names(&["mine"]), folder.path().as_os_str()).unwrap();
    assert!(set.host_fallback);
    let mine = fs::canonicalize(folder.path()).unwrap().join("mine");
    assert_eq!(set.entries[0].program, mine);
    assert!(set.binds.contains(&mine));
    assert!(set.programs.contains(&("mine".into(), mine.clone())));
    fs::write(&mine, "#!/bin/sh\necho\n").unwrap();
    let other = resolve(&names(&["mine"]), folder.path().as_os_str()).unwrap();
    assert_ne!(other.entries[0].fingerprint, set.entries[0].fingerprint);
    assert_eq!(other.entries[1], set.entries[1], "the core utilities are as they were");
}

#[test]
fn a_prefix_is_told_by_its_content_also_from_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path().join("p");
    program(&prefix.join("bin"), "tool");
    fs::create_dir(prefix.join("lib")).unwrap();
    fs::write(prefix.join("lib/m"), "1").unwrap();
    let search = Search::new(prefix.join("bin").as_os_str()).cache(&folder.path().join("cache"));
    let first = search.resolve(&names(&["tool"])).unwrap();
    assert_eq!(search.resolve(&names(&["tool"])).unwrap(), first);
    fs::write(prefix.join("lib/m"), "2").unwrap();
    let second = search.resolve(&names(&["tool"])).unwrap();
    assert_ne!(second.entries[0].fingerprint, first.entries[0].fingerprint);
}

#[test]
fn a_tool_of_a_virtual_environment_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    program(&folder.path().join("venv/bin"), "python3");
    fs::write(folder.path().join("venv/pyvenv.cfg"), "").unwrap();
    let error =
        resolve(&names(&["python3"]), folder.path().join("venv/bin").as_os_str()).unwrap_err();
    assert!(matches!(error, ToolError::VirtualEnvironment { .. }));
}

#[test]
fn a_packaged_tool_needs_nothing_of_the_hosts_identity() {
    if !Path::new(host::DPKG_STATUS).exists() {
        println!("skipped: this host has no packages of Debian's kind");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let search = Search::new(OsStr::new("/usr/bin")).cache(folder.path());
    let set = search.resolve(&names(&["sed"])).unwrap();
    assert!(!set.host_fallback);
    let facts = &set.entries[0].fingerprint;
    assert!(facts.iter().any(|(label, _)| label == "package sed"), "{facts:?}");
    assert!(facts.iter().any(|(label, _)| label == "closure"));
    assert!(!set.binds.iter().any(|path| path == Path::new("/usr/bin")));
    assert_eq!(search.resolve(&names(&["sed"])).unwrap(), set, "from the cache");
}
