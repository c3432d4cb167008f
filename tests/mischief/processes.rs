//! What steps start, and what becomes of it.

use std::{
    fs,
    io::Write as _,
    process::Stdio,
    time::{Duration, Instant},
};

use super::{CHOICES, making, own_sleep, sleepers, temporary, wait_until};

#[test]
fn a_step_that_heeds_no_signal_and_has_daemons_is_gone_at_its_timeout() {
    for (number, sandbox) in CHOICES.iter().enumerate() {
        let sleep = own_sleep(number as u32);
        let script = format!(
            "trap '' TERM INT HUP QUIT\nsetsid sleep {sleep} &\n(setsid nohup sleep {sleep} &)\n\
             sh -c 'trap \"\" TERM; sleep {sleep}' & echo begun\nwhile :; do sleep {sleep} || :; done"
        );
        let project = making("timeout = \"2s\"", &script);
        let begun = Instant::now();
        let said = project.kiln(&["build", "--sandbox", sandbox]).exits(1).stderr();
        assert!(said.contains("it passed its `timeout` of 2 s") && said.contains("| begun"));
        assert!(begun.elapsed() < Duration::from_secs(30), "{sandbox}: it was waited for");
        assert_eq!(sleepers(&sleep), 0, "{sandbox}");
        assert_eq!(temporary(project.store()), [] as [&str; 0], "{sandbox}");
    }
}

/// Whoever collects the orphans must look up now and then.
#[test]
fn a_storm_of_orphans_puts_off_neither_the_timeout_nor_an_interruption() {
    let storm = "for i in 1 2 3 4; do (while :; do (true &); done) & done; echo begun; wait";
    let project = making("timeout = \"2s\"", storm);
    let begun = Instant::now();
    let said = project.kiln(&["build"]).exits(1).stderr();
    assert!(said.contains("it passed its `timeout` of 2 s"), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(20), "it took {:?}", begun.elapsed());

    let project = making("", &format!("touch ${{out}}\n{storm}"));
    let mut kiln = project.command(&["build"]).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the step runs", || output_of_running_step(&project).is_some());
    std::thread::sleep(Duration::from_millis(500));
    let begun = Instant::now();
    let id = rustix::process::Pid::from_child(&kiln);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    assert_eq!(kiln.wait().unwrap().code(), Some(130));
    assert!(begun.elapsed() < Duration::from_secs(15), "it took {:?}", begun.elapsed());
    assert_eq!(temporary(project.store()), [] as [&str; 0]);
}

/// Where the step that runs writes its output `out`, once it is there.
fn output_of_running_step(project: &crate::harness::Project) -> Option<std::path::PathBuf> {
    let scratch = fs::read_dir(project.store().join("tmp")).ok()?.flatten();
    scratch.map(|entry| entry.path().join("out/out")).find(|path| path.exists())
}

#[test]
fn a_process_that_a_step_leaves_behind_writes_no_more_to_its_output() {
    for sandbox in CHOICES {
        let script = "echo whole > ${out}\n\
                      setsid sh -c 'exec 3>> \"$0\"; echo ready > ready; sleep 1; echo more >&3' ${out} &\n\
                      while [ ! -s ready ]; do sleep 0.01; done";
        let project = making("", script);
        project.build(&["--sandbox", sandbox]).exits(0);
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(project.read("result/make"), "whole\n", "{sandbox}");
        project.kiln(&["store", "verify"]).exits(0);
    }
}

/// Without a sandbox a step can hand its files to anybody, to a server that runs already, say.
#[test]
fn without_a_sandbox_a_stranger_with_the_output_open_does_not_change_what_is_stored() {
    let project = making("", "echo whole > ${out}\nwhile [ ! -e go ]; do sleep 0.01; done");
    let mut kiln =
        project.command(&["build", "--sandbox", "off"]).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the step has written", || {
        output_of_running_step(&project).is_some_and(|path| fs::read(path).unwrap() == b"whole\n")
    });
    let output = output_of_running_step(&project).unwrap();
    let mut stranger = fs::File::options().append(true).open(&output).unwrap();
    fs::write(output.parent().unwrap().parent().unwrap().join("work/go"), "").unwrap();
    assert_eq!(kiln.wait().unwrap().code(), Some(0));
    stranger.write_all(b"more\n").unwrap();
    assert_eq!(project.read("result/make"), "whole\n");
    project.kiln(&["store", "verify"]).exits(0);
}

#[test]
fn children_that_a_step_does_not_wait_for_are_no_failure() {
    for (number, sandbox) in CHOICES.iter().enumerate() {
        let sleep = own_sleep(3 + number as u32);
        let script = format!(
            "(sleep {sleep} & sleep {sleep} &) ; sleep {sleep} & exec 9>&1; echo done > ${{out}}"
        );
        let project = making("", &script);
        let begun = Instant::now();
        project.build(&["--sandbox", sandbox]).exits(0);
        assert!(begun.elapsed() < Duration::from_secs(30), "{sandbox}: they were waited for");
        assert_eq!(sleepers(&sleep), 0, "{sandbox}");
    }
}

/// The first process of the namespace is kiln's own; a step cannot end what watches it.
#[test]
fn a_step_that_kills_all_it_can_kills_itself_alone() {
    let project =
        making("", "kill -9 1 || :; kill -TERM $PPID || :; sleep 0.1; echo alive > ${out}");
    let build = project.build(&[]).exits(0);
    if build.step("make")["isolation"] != "full" {
        eprintln!("skipped: without process ids of its own a step can end what watches it");
        return;
    }
    assert_eq!(project.read("result/make"), "alive\n");
    let project = making("", "sh -c 'kill -9 -1'; sleep 0.1; echo alive > ${out}");
    let said = project.kiln(&["build"]).exits(1).stderr();
    assert!(said.contains("was ended by signal 9 (SIGKILL)"), "{said}");
}

#[test]
fn a_step_that_leaves_its_group_and_its_session_is_still_watched() {
    let sleep = own_sleep(6);
    let script = format!("setsid setsid sh -c 'cd /; sleep {sleep}' & setsid sleep {sleep}");
    let project = making("timeout = \"2s\"", &script);
    let said = project.kiln(&["build"]).exits(1).stderr();
    assert!(said.contains("it passed its `timeout`"), "{said}");
    assert_eq!(sleepers(&sleep), 0);
}

#[test]
fn a_step_that_removes_the_ground_under_its_feet_does_not_confuse_kiln() {
    let script = "echo x > ${out}; rm -rf ../work ../tmp ../home ../in 2> /dev/null || :; cd /";
    for sandbox in CHOICES {
        let project = making("", script);
        project.build(&["--sandbox", sandbox]).exits(0);
        assert_eq!(project.read("result/make"), "x\n");
        assert_eq!(temporary(project.store()), [] as [&str; 0], "{sandbox}");
    }
    let project = making("", "echo x > ${out}; rm -rf ../out");
    let said = project.kiln(&["build", "--sandbox", "off"]).exits(1).stderr();
    assert!(said.contains("it left no output `out`"), "{said}");
}
