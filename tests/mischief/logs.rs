//! What steps print.

use super::{disk_usage, making};

#[test]
fn a_log_of_a_gibibyte_keeps_both_ends_and_says_what_is_missing() {
    let script =
        "echo the beginning; yes 0123456789abcdef | head -c 1G; echo; echo the end; exit 3";
    let project = making("", script);
    let said = project.kiln(&["build"]).exits(1).stderr();
    assert!(said.contains("| the end\n"), "{said}");
    let kept = disk_usage(project.store());
    assert!(kept < 40 << 20, "{kept} bytes for a log that is to be bounded");
    let log = project.kiln(&["log", "make"]).exits(0).stdout();
    assert!(log.starts_with("the beginning\n0123456789abcdef\n"));
    assert!(log.ends_with("\n0123456789abcdef\n0123456789abc\nthe end\n"));
    let left_out = log.lines().find(|line| line.starts_with("[kiln left out ")).unwrap();
    let bytes: u64 = left_out.split(' ').nth(3).unwrap().parse().unwrap();
    let printed = "the beginning\n".len() as u64 + (1 << 30) + "\nthe end\n".len() as u64;
    let note = left_out.len() as u64 + 2;
    assert_eq!(bytes + log.len() as u64 - note, printed, "what is missing is counted");
}

#[test]
fn what_a_step_prints_cannot_steer_the_terminal() {
    let script = r#"printf '10 %%\r100 %%\r\nbad \377 zero \000 bell \007 clear \033[2J title \033]0;x\007\033[31mred\n'; exit 1"#;
    let project = making("", script);
    let failed = project.command(&["build"]).env("CLICOLOR_FORCE", "1").output().unwrap();
    let said = String::from_utf8(failed.stderr).unwrap();
    assert!(said.contains("100 %\n") && !said.contains("10 %\r"), "{said:?}");
    for steering in ["\u{1b}[2J", "\u{1b}]", "\u{1b}[31mred", "\u{7}", "\0"] {
        assert!(!said.contains(steering), "{steering:?} in {said:?}");
    }
    assert!(said.contains("red\n") && said.contains('\u{fffd}'), "{said:?}");
    // To a file or another program the log goes as it is.
    let log = project.command(&["log", "make"]).output().unwrap().stdout;
    assert!(log.starts_with(b"10 %\r100 %\r\nbad \xff zero \0 bell \x07 clear \x1b[2J"), "{log:?}");
}

#[test]
fn a_terminal_is_shown_a_log_without_what_would_steer_it() {
    let project = making("", r#"printf '\033[2Jclear\ttab\n\033]0;x\007\377' ; echo 1 > ${out}"#);
    project.build(&[]).exits(0);
    // `script` runs a program on a terminal of its own.
    let shown = std::process::Command::new("script")
        .args(["-qec", &format!("'{}' log make", crate::harness::binary().display()), "/dev/null"])
        .current_dir(project.dir())
        .env("KILN_HOME", project.store())
        .output();
    let Ok(shown) = shown else {
        eprintln!("skipped: there is no program `script` to make a terminal with");
        return;
    };
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("clear\ttab\r\n"), "{shown:?}");
    assert!(!shown.contains("\u{1b}[2J") && !shown.contains("\u{1b}]"), "{shown:?}");
}

#[test]
fn a_name_with_a_line_break_does_not_pass_for_a_line_of_kilns() {
    let project =
        making("", r#"mkdir ${out}; mkfifo "${out}/$(printf 'a\nerror: made up \033[2J')""#);
    let said = project.kiln(&["build"]).exits(1).stderr();
    assert!(said.contains(r"`a\nerror: made up \u{1b}[2J` in its output `out` cannot be stored"));
    assert!(!said.contains("\nerror: made up"), "{said}");
}

#[test]
fn a_step_without_its_streams_and_one_that_reads_what_is_not_there_go_on() {
    making("", "exec >&- 2>&-; echo x > ${out}").build(&[]).exits(0);
    let project = making("", "cat > ${out}; read -r line || echo nothing to read >> ${out}");
    project.build(&[]).exits(0);
    assert_eq!(project.read("result/make"), "nothing to read\n");
}
