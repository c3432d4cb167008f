//! What steps leave as their outputs.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    process::Stdio,
    time::{Duration, Instant},
};

use super::{CHOICES, disk_usage, making, temporary};
use crate::harness::{Project, make_writable};

#[test]
fn a_file_of_a_tebibyte_of_holes_is_refused_at_once_and_by_name() {
    for (sandbox, script, name) in [
        ("full", "truncate -s 1T ${out}", "its output `out`"),
        ("full", "mkdir ${out}; truncate -s 1T ${out}/disk", "`disk` in its output `out`"),
        ("off", "mkdir ${out}; truncate -s 1T ${out}/disk", "`disk` in its output `out`"),
    ] {
        let project = making("", script);
        let begun = Instant::now();
        let said = project.kiln(&["build", "--sandbox", sandbox]).exits(1).stderr();
        assert!(begun.elapsed() < Duration::from_secs(20), "it took {:?}", begun.elapsed());
        let why = "it is 1024 GiB long, and more than 64 GiB of that are holes";
        assert!(said.contains(&format!("{name} cannot be stored: {why}")), "{said}");
        assert!(said.contains("help: write only what it consists of"), "{said}");
        assert_eq!(temporary(project.store()), [] as [&str; 0]);
    }
}

#[test]
fn holes_are_kept_and_not_filled_with_what_they_stand_for() {
    let script =
        "mkdir ${out}; truncate -s 64M ${out}/a; echo end >> ${out}/a; ln ${out}/a ${out}/b";
    for sandbox in CHOICES {
        let project = making("", script);
        let build = project.build(&["--sandbox", sandbox]).exits(0);
        let out = &build.step("make")["outputs"]["out"];
        assert_eq!(out["bytes"], 2 * ((64 << 20) + 4), "{sandbox}");
        project.kiln(&["copy", "make", "copied", "--sandbox", sandbox]).exits(0);
        let bytes = fs::read(project.dir().join("copied/b")).unwrap();
        assert!(bytes.ends_with(b"\0end\n") && bytes.len() == (64 << 20) + 4);
        for folder in [project.store().to_owned(), project.dir().join("copied")] {
            let taken = disk_usage(&folder);
            assert!(taken < 16 << 20, "{sandbox}: {taken} bytes in {}", folder.display());
        }
    }
}

#[test]
fn names_may_have_line_breaks_and_the_store_hands_them_on_as_they_are() {
    let project = Project::new(
        r#"
name = "names"

[steps.make]
run = '''
mkdir -p "${out}/$(printf 'a\nb')"
echo 1 > "${out}/$(printf 'a\nb/c\td "e" \\n')"
ln -s "$(printf 'a\nb')" ${out}/link
'''

[steps.use]
run = '''cat "${make}/$(printf 'a\nb/c\td "e" \\n')" > ${out}'''
"#,
    );
    project.build(&["--link", "all"]).exits(0);
    assert_eq!(project.read("result/use"), "1\n");
    assert_eq!(project.read("result/make/a\nb/c\td \"e\" \\n"), "1\n");
    let shown = project.kiln(&["show", "make"]).exits(0).stdout();
    assert!(shown.lines().all(|line| !line.starts_with("b/c")), "{shown}");
    project.kiln(&["store", "verify"]).exits(0);
    project.kiln(&["copy", "make", "copied"]).exits(0);
    assert_eq!(project.read("copied/link/c\td \"e\" \\n"), "1\n");
    project.kiln(&["gc"]).exits(0);
    assert_eq!(project.build(&[]).exits(0).ran(), [] as [&str; 0]);
}

#[test]
fn a_name_that_is_no_text_is_refused() {
    for sandbox in CHOICES {
        let project = making("", r#"mkdir ${out}; touch "${out}/$(printf 'a\377b')""#);
        let said = project.kiln(&["build", "--sandbox", sandbox]).exits(1).stderr();
        let wanted = "`a\u{fffd}b` in its output `out` cannot be stored: its name is not UTF-8";
        assert!(said.contains(wanted), "{said}");
        assert_eq!(temporary(project.store()), [] as [&str; 0]);
    }
}

/// Each level is entered before the next is made, so that no call gets the whole path.
fn deep(at: &str) -> String {
    format!(
        "mkdir {at}; cd {at}; python3 -c 'import os\nfor _ in range(60): os.mkdir(\"n\" * 200); os.chdir(\"n\" * 200)'"
    )
}

#[test]
fn folders_deeper_than_any_path_are_refused_and_removed() {
    for sandbox in CHOICES {
        let project = making("", &deep("${out}"));
        let said = project.kiln(&["build", "--sandbox", sandbox]).exits(1).stderr();
        assert!(said.contains("its path in the output has more than 3072 bytes"), "{said}");
        assert!(said.lines().all(|line| line.chars().count() < 400), "paths are cut short: {said}");
        assert_eq!(temporary(project.store()), [] as [&str; 0], "{sandbox}");
        // Left beside the output it is nobody's business, and still goes.
        let project = making("", &format!("echo 1 > ${{out}}; {}", deep("$TMPDIR/deep")));
        project.build(&["--sandbox", sandbox]).exits(0);
        assert_eq!(temporary(project.store()), [] as [&str; 0], "{sandbox}");
    }
}

#[test]
fn links_that_go_in_circles_are_content_like_any_other() {
    let project = Project::new(
        r#"
name = "circles"

[steps.make]
run = "mkdir ${out}; ln -s b ${out}/a; ln -s a ${out}/b; ln -s . ${out}/self; echo 1 > ${out}/file"

[steps.use]
run = "cat ${make}/self/self/file > ${out}; ls ${make} >> ${out}; ! cat ${make}/a"
"#,
    );
    project.build(&["--link", "all"]).exits(0);
    assert_eq!(project.read("result/use"), "1\na\nb\nfile\nself\n");
    project.kiln(&["store", "verify"]).exits(0);
    project.kiln(&["copy", "make", "copied"]).exits(0);
    assert_eq!(fs::read_link(project.dir().join("copied/a")).unwrap().to_str(), Some("b"));
}

#[test]
fn links_that_leave_the_output_in_any_way_are_refused() {
    for target in ["/etc/passwd", "..", "../in/0", "sub/../../out", "sub/up/../.."] {
        let script = format!(
            "mkdir -p ${{out}}/sub; ln -s .. ${{out}}/sub/up; ln -s {target} ${{out}}/link"
        );
        let said = making("", &script).kiln(&["build"]).exits(1).stderr();
        let wanted =
            format!("`link` in its output `out` cannot be stored: it is a link to `{target}`");
        assert!(said.contains(&wanted), "{target}: {said}");
    }
    let project = making("", "echo 1 > real; ln -s ../work/real ${out}");
    let said = project.kiln(&["build"]).exits(1).stderr();
    assert!(said.contains("cannot be stored: the output itself is a symbolic link"), "{said}");
}

#[test]
fn sockets_and_devices_are_refused() {
    let socket = "import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])";
    let project = making("", &format!("mkdir ${{out}}; cd ${{out}}; python3 -c \"{socket}\" s"));
    let said = project.kiln(&["build"]).exits(1).stderr();
    assert!(said.contains("`s` in its output `out` cannot be stored: it is a socket"), "{said}");
    // Only root can make a device, and only without a sandbox.
    let project = making("", "mkdir ${out}; mknod ${out}/null c 1 3");
    let said = project.kiln(&["build", "--sandbox", "off"]).exits(1).stderr();
    let refused = said.contains("`null` in its output `out` cannot be stored: it is a device");
    assert!(refused || said.contains("Operation not permitted"), "{said}");
    let said = project.kiln(&["build"]).exits(1).stderr();
    assert!(said.contains("Operation not permitted"), "{said}");
}

#[test]
fn bits_that_lend_rights_go_and_modes_without_rights_are_no_obstacle() {
    let script = "mkdir -p ${out}/closed/inner; cp /bin/true ${out}/program\n\
                  chmod 6755 ${out}/program; echo secret > ${out}/closed/inner/file\n\
                  chmod 000 ${out}/closed/inner/file; chmod 3000 ${out}/closed/inner\n\
                  chmod 000 ${out}/closed; chmod 000 ${out}";
    for sandbox in CHOICES {
        let project = making("", script);
        project.build(&["--sandbox", sandbox]).exits(0);
        assert_eq!(project.read("result/make/closed/inner/file"), "secret\n");
        let mode = |path: &str| {
            let path = project.dir().join("result/make").join(path);
            fs::metadata(path).unwrap().permissions().mode() & 0o7777
        };
        let modes = (mode("program"), mode("closed/inner"), mode("closed/inner/file"));
        assert_eq!(modes, (0o555, 0o555, 0o444), "{sandbox}");
        project.kiln(&["store", "verify"]).exits(0);
        assert_eq!(temporary(project.store()), [] as [&str; 0], "{sandbox}");
    }
}

#[test]
fn outputs_that_are_one_file_by_several_names_are_kept_apart() {
    let recipe = r#"
name = "links"

[sources]
words = "words.txt"

[steps.make]
outputs = ["a", "b", "c"]
run = '''
cat ${sources.words} > ${out.a}
ln ${out.a} ${out.b}
ln -L ${sources.words} ${out.c} 2> /dev/null || cp ${out.a} ${out.c}
ln ${out.a} ../out/extra
chmod 644 ${out.a}
'''
"#;
    for sandbox in CHOICES {
        let project = Project::new(recipe);
        project.write("words.txt", "words\n");
        project.set_mode("words.txt", 0o640);
        project.build(&["--sandbox", sandbox]).exits(0);
        for name in ["a", "b", "c"] {
            let file = project.dir().join("result/make").join(name);
            assert_eq!(fs::read_to_string(&file).unwrap(), "words\n");
            assert_eq!(fs::metadata(&file).unwrap().nlink(), 1, "{sandbox}: {name}");
        }
        let source = fs::metadata(project.dir().join("words.txt")).unwrap();
        assert_eq!(source.nlink(), 1);
        assert_eq!(source.permissions().mode() & 0o777, 0o640, "the user's file is as it was");
        project.kiln(&["store", "verify"]).exits(0);
    }
}

#[test]
fn a_hundred_thousand_files_are_one_output_in_bounded_memory() {
    // In memory where there is room: what is tested is kiln, and not how fast a disk makes and removes files.
    let room = rustix::fs::statvfs("/dev/shm").is_ok_and(|fs| fs.f_bavail * fs.f_frsize > 1 << 30);
    let home = tempfile::tempdir_in(if room { "/dev/shm" } else { "/tmp" }).unwrap();
    let script = "mkdir ${out}; cd ${out}; seq 99000 | xargs touch; seq 1000 | split -l 1 -a 3";
    let project = making("", script).variable("KILN_HOME", home.path().to_str().unwrap());
    let begun = Instant::now();
    let mut kiln = project
        .command(&["build", "--json"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut peak = 0;
    let code = loop {
        let status = fs::read_to_string(format!("/proc/{}/status", kiln.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        peak = peak.max(kilobytes.unwrap_or(0));
        if let Some(status) = kiln.try_wait().unwrap() {
            break status.code();
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(code, Some(0));
    eprintln!("100,000 files: {:?}, at most {} MiB", begun.elapsed(), peak >> 10);
    assert!(peak < 400 << 10, "{peak} KiB");
    let made = fs::read_dir(project.dir().join("result/make")).unwrap().flatten();
    assert_eq!(made.count(), 100_000);
    make_writable(home.path());
}
