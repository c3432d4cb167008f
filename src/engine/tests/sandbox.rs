//! What a step can and cannot do in the sandbox, shown by real steps.
//!
//! Every refusal stands beside a control: the same act, under `off` or by the test itself, succeeds. The target has a
//! `main` of its own, since the sandbox starts copies of the executable that it runs in.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use kiln_engine::{
    sandbox::{
        Bind, Cancel, Devices, Exit, Feature, INIT_WORD, Isolation, Layout, Limits, Pool, Ran,
        SandboxError, Spec, State, View, Wanted, adapt_to_container, init_main, probe, run,
        without_calls,
    },
    tools,
};
use libtest_mimic::{Arguments, Failed, Trial};

/// The argument by which this executable is a builder that lists what it sees.
const BUILTIN: &str = "--builtin-that-lists";
/// The argument by which this executable is a kiln that runs one long step and is killed.
const VICTIM: &str = "--victim";
/// The argument by which this executable is a kiln that runs a step which tells its groups.
const GROUPS: &str = "--groups";
/// The argument by which this executable measures what the sandbox costs.
const MEASURE: &str = "--measure";
/// The argument by which this executable is a kiln on a machine that refuses some system calls.
const WITHOUT: &str = "--without";
/// The arguments by which this executable is a kiln whose starter is killed.
const KILLED_IDLE: &str = "--killed-while-idle";
const KILLED_BUSY: &str = "--killed-while-busy";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match arguments.get(1).and_then(|one| one.to_str()) {
        Some(INIT_WORD) => return init_main(&arguments[2..]),
        Some(BUILTIN) => return list_what_is_seen(),
        Some(VICTIM) => return be_a_victim(Path::new(&arguments[2])),
        Some(GROUPS) => return tell_groups(),
        Some(MEASURE) => return measure(),
        Some(WITHOUT) => return be_on_a_machine_without(&arguments[2], Path::new(&arguments[3])),
        Some(KILLED_IDLE) => return be_killed_while_idle(),
        Some(KILLED_BUSY) => return be_killed_while_busy(),
        _ => {}
    }
    let mut arguments = Arguments::from_args();
    // Steps that watch the clock or their memory disturb one another on few processors.
    arguments.test_threads.get_or_insert(2);
    let tests: Vec<Trial> = TESTS
        .iter()
        .map(|(name, test)| {
            Trial::test(*name, move || {
                test();
                Ok::<(), Failed>(())
            })
        })
        .collect();
    libtest_mimic::run(&arguments, tests).exit_code()
}

macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        const TESTS: &[(&str, fn())] = &[$((stringify!($name), $name)),*];
    };
}

tests![
    this_machine_allows_full_isolation_or_says_why_not,
    a_step_sees_its_layout_and_leaves_its_outputs,
    a_step_sees_only_the_variables_that_were_given,
    a_step_cannot_see_the_home_folder_or_undeclared_files,
    a_step_cannot_see_another_steps_outputs,
    a_step_cannot_write_to_inputs_store_or_host,
    a_mount_below_an_input_is_read_only_too,
    a_step_cannot_write_to_the_kernels_switches,
    a_step_cannot_reach_the_hosts_loopback,
    a_step_has_a_loopback_of_its_own,
    a_step_with_network_reaches_the_hosts_loopback,
    a_step_cannot_see_other_processes,
    a_step_cannot_look_into_its_init,
    a_step_runs_as_an_ordinary_user_without_rights,
    a_step_of_root_is_in_no_group_of_the_host,
    a_step_cannot_gain_namespaces_or_mounts,
    a_step_has_no_descriptor_of_the_caller,
    a_step_finds_no_time_but_the_epoch,
    a_step_cannot_read_where_its_scratch_folder_lies,
    stdout_and_stderr_keep_their_order_and_a_daemon_holds_nothing_up,
    a_set_user_id_bit_is_harmless_and_no_failure,
    temporary_files_are_private_and_do_not_reach_the_host,
    shared_memory_ends_at_the_memory_limit,
    a_daemon_cannot_outlive_its_step,
    a_daemon_cannot_outlive_its_step_without_process_ids_of_its_own,
    a_step_cannot_outlive_a_killed_kiln,
    a_step_that_passes_its_memory_is_killed,
    a_step_whose_processes_together_pass_the_memory_is_killed,
    a_step_that_passes_its_timeout_is_killed_with_its_tree,
    a_step_that_starts_processes_without_end_is_killed,
    a_step_that_nobody_can_continue_is_killed,
    a_cancelled_step_ends_at_once,
    exit_codes_and_signals_are_told,
    a_missing_program_is_named,
    a_missing_input_is_named,
    a_place_that_leads_out_is_refused,
    without_user_namespaces_root_still_confines,
    without_a_proc_of_its_own_a_step_still_runs,
    without_mount_attributes_binds_are_read_only_all_the_same,
    without_mount_namespaces_landlock_guards_files,
    a_step_finds_nothing_of_the_one_before_it,
    roots_that_are_put_together_in_a_namespace_are_no_different,
    a_host_fifo_that_is_an_input_cannot_be_written_to,
    whatever_call_is_refused_a_step_runs_and_stays_confined,
    an_ordinary_container_gives_partial_isolation_by_landlock,
    a_masked_proc_gives_partial_isolation,
    without_user_namespaces_to_be_had_the_reason_is_told,
    a_starter_that_was_killed_while_it_waited_is_replaced,
    a_killed_starter_takes_its_step_along,
    a_builder_that_kiln_brings_sees_itself_and_libraries,
    a_step_with_tools_sees_these_and_the_core_utilities_only,
    a_step_sees_pyenvs_python_where_that_is_what_the_user_runs,
];

/// A step in the making, and its folder.
struct Step {
    folder: tempfile::TempDir,
    spec: Spec,
}

impl Step {
    fn new(isolation: Wanted, argv: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("kiln step ").tempdir().unwrap();
        let scratch = folder.path().join("scratch");
        fs::create_dir(&scratch).unwrap();
        let spec = Spec {
            argv: argv.iter().map(OsString::from).collect(),
            env: Vec::new(),
            scratch,
            inputs: Vec::new(),
            view: View::Host,
            devices: Devices::default(),
            network: false,
            limits: Limits { cpus: 1, ..Limits::default() },
            isolation,
            deny: Vec::new(),
            log: File::options().create(true).append(true).open(folder.path().join("log")).unwrap(),
        };
        Self { folder, spec }
    }

    /// A shell script, with `full` isolation.
    fn full(script: &str) -> Self {
        Self::new(Wanted::Full, &["sh", "-euc", script])
    }

    /// The same script, with none.
    fn off(script: &str) -> Self {
        Self::new(Wanted::Off, &["sh", "-euc", script])
    }

    fn input(mut self, host: &Path, place: &str) -> Self {
        self.spec.inputs.push(Bind { host: host.to_owned(), place: place.to_owned() });
        self
    }

    fn variable(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.spec.env.push((name.into(), value.as_ref().to_owned()));
        self
    }

    fn without(mut self, features: &[Feature]) -> Self {
        self.spec.deny.extend_from_slice(features);
        self
    }

    fn try_run(&self) -> Result<Ran, SandboxError> {
        run(&self.spec, &Cancel::new().unwrap())
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.path().join("log")).unwrap()).into_owned()
    }

    /// Runs it; whether it succeeded, and what it wrote.
    fn outcome(&self) -> (bool, String) {
        let ran = self.try_run().unwrap();
        (ran.exit.is_success(), self.log())
    }

    /// Runs it, and insists on success.
    fn succeeds(&self) -> String {
        let (success, log) = self.outcome();
        assert!(success, "the step failed: {log}");
        log
    }

    /// Runs it, and insists on its failure.
    fn fails(&self) -> String {
        let (success, log) = self.outcome();
        assert!(!success, "the step should have failed: {log}");
        log
    }
}

fn is_root() -> bool {
    // The owner of this process's own folder in /proc is its effective user.
    std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self").unwrap()) == 0
}

fn this_machine_allows_full_isolation_or_says_why_not() {
    let capabilities = probe();
    assert_eq!(capabilities.features.len(), Feature::ALL.len());
    let missing: Vec<_> = capabilities.missing().collect();
    assert_eq!(missing.is_empty(), capabilities.isolation() == Isolation::Full);
    for one in &capabilities.features {
        println!("{}: {:?}", one.feature.name(), one.state);
    }
    let ran = Step::full("true").try_run().unwrap();
    assert_eq!(ran.isolation, capabilities.isolation());
    assert_eq!(Step::off("true").try_run().unwrap().isolation, Isolation::Off);
}

fn a_step_sees_its_layout_and_leaves_its_outputs() {
    let host = tempfile::tempdir().unwrap();
    let data = host.path().join("data.csv");
    fs::write(&data, "a,b\n").unwrap();
    let tree = host.path().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("inner"), "deep").unwrap();
    for isolation in [Wanted::Full, Wanted::Off] {
        let mut step =
            Step::new(isolation, &["sh", "-euc"]).input(&data, "0.csv").input(&tree, "1");
        let layout = Layout::new(isolation, probe(), &step.spec.scratch);
        let script = format!(
            "test \"$PWD\" = '{work}'; cat code; cat '{csv}' '{tree}/inner' > '{out}'; umask",
            work = layout.work().display(),
            csv = layout.input("0.csv").display(),
            tree = layout.input("1").display(),
            out = layout.output("result").display(),
        );
        step.spec.argv.push(script.into());
        fs::create_dir(step.spec.scratch.join("work")).unwrap();
        fs::write(step.spec.scratch.join("work/code"), "the code\n").unwrap();
        assert_eq!(step.succeeds(), "the code\n0022\n");
        let result = fs::read_to_string(step.spec.scratch.join("out/result")).unwrap();
        assert_eq!(result, "a,b\ndeep");
    }
    if probe().private_root() {
        let layout = Layout::new(Wanted::Full, probe(), Path::new("/anything"));
        assert_eq!(layout.output("x"), Path::new("/build/out/x"));
        assert_eq!(layout.input("0.csv"), Path::new("/build/in/0.csv"));
    }
}

fn a_step_sees_only_the_variables_that_were_given() {
    assert!(std::env::var_os("PATH").is_some());
    let step = Step::new(Wanted::Full, &["env"]).variable("GIVEN", "yes");
    let log = step.succeeds();
    let mut names: Vec<_> = log.lines().filter_map(|line| line.split('=').next()).collect();
    names.sort_unstable();
    assert_eq!(names, ["GIVEN", "HOME", "LANG", "PATH", "SOURCE_DATE_EPOCH", "TMPDIR", "TZ"]);
    assert!(log.contains("HOME=/build/home\n"), "{log}");
    let inherited = Command::new("env").env("CARGO_SECRET", "x").output().unwrap();
    assert!(String::from_utf8_lossy(&inherited.stdout).contains("CARGO_SECRET=x"), "control");
}

/// A folder in the home folder (or wherever the tests may write) with a secret.
fn secret() -> (tempfile::TempDir, PathBuf) {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_dir());
    let folder = home.and_then(|home| tempfile::tempdir_in(home).ok());
    let folder = folder.unwrap_or_else(|| tempfile::tempdir().unwrap());
    let file = folder.path().join("secret");
    fs::write(&file, "secret text").unwrap();
    (folder, file)
}

fn a_step_cannot_see_the_home_folder_or_undeclared_files() {
    let (_folder, file) = secret();
    let read = format!("cat '{}'", file.display());
    let log = Step::full(&read).fails();
    assert!(log.contains("No such file"), "{log}");
    assert_eq!(Step::off(&read).succeeds(), "secret text");
    let listed = Step::full("ls -A / /etc; ls -A \"$HOME\"").succeeds();
    for hidden in ["root\n", "home\n", "var\n", "mnt\n", "sys\n", "shadow", "srv\n", "run\n"] {
        assert!(!listed.contains(&format!("\n{hidden}")), "{hidden} in {listed}");
    }
    for hidden in ["/etc/shadow", "/etc/machine-id", "/var/log", "/root", "/home", "/run"] {
        Step::full(&format!("test -e {hidden}")).fails();
    }
    assert!(Path::new("/etc/shadow").exists() && Path::new("/var/log").exists(), "control");
    assert_eq!(Step::full("cd; pwd; ls -A").succeeds(), "/build/home\n");
}

fn a_step_cannot_see_another_steps_outputs() {
    let first = Step::full("echo made > /build/out/model");
    first.succeeds();
    let made = first.spec.scratch.join("out/model");
    let read = format!("cat '{}'", made.display());
    assert!(Step::full(&read).fails().contains("No such file"));
    assert_eq!(Step::off(&read).succeeds(), "made\n");
    assert_eq!(Step::full("ls -A /build/out /tmp /dev/shm").succeeds().matches("model").count(), 0);
}

fn a_step_cannot_write_to_inputs_store_or_host() {
    let host = tempfile::tempdir().unwrap();
    let file = host.path().join("object");
    let folder = host.path().join("tree");
    fs::create_dir(&folder).unwrap();
    fs::write(&file, "first").unwrap();
    for act in [
        "echo x >> /build/in/0",
        "chmod u+w /build/in/0",
        "rm -f /build/in/0",
        "echo x > /build/in/1/new",
        "echo x > /build/in/2",
        "echo x > /new",
        "echo x > /usr/new",
        "echo x > /etc/passwd",
        "touch /usr/bin/yes",
        "mkdir /home",
        "ln -s x /build/link",
    ] {
        let log = Step::full(act).input(&file, "0").input(&folder, "1").fails();
        assert!(
            log.contains("Read-only file system") || log.contains("Permission denied"),
            "{act}: {log}"
        );
    }
    let target = file.display();
    Step::off(&format!("echo x >> '{target}'; echo x > '{}/new'", folder.display())).succeeds();
    assert_eq!(fs::read_to_string(&file).unwrap(), "firstx\n", "only the control has written");
}

fn a_mount_below_an_input_is_read_only_too() {
    // `/dev` holds other mounts (shm, pts) on every Linux; the test itself can write to the one below.
    let below = Path::new("/dev/shm").join(format!("kiln-{}", std::process::id()));
    fs::write(&below, "x").unwrap();
    let shm = below.file_name().unwrap().to_str().unwrap().to_owned();
    let act = format!("test -e /build/in/0/shm/{shm}; echo y > /build/in/0/shm/{shm}");
    let log = Step::full(&act).input(Path::new("/dev"), "0").fails();
    assert!(log.contains("Read-only file system"), "{log}");
    Step::off(&format!("echo z > {}", below.display())).succeeds();
    assert_eq!(fs::read_to_string(&below).unwrap(), "z\n");
    fs::remove_file(&below).unwrap();
}

fn a_step_cannot_write_to_the_kernels_switches() {
    for path in
        ["/proc/sys/kernel/hostname", "/proc/sys/vm/overcommit_memory", "/proc/sysrq-trigger"]
    {
        let log = Step::full(&format!("echo 0 > {path}")).fails();
        let refused = log.contains("Read-only file system")
            || log.contains("Permission denied")
            || log.contains("Directory nonexistent");
        assert!(refused, "{path}: {log}");
    }
    let read_only = "import os; print(os.statvfs('/proc/sys').f_flag & os.ST_RDONLY)";
    assert_eq!(Step::full(&format!("python3 -c \"{read_only}\"")).succeeds(), "1\n");
    Step::full("test -e /sys/kernel").fails();
    assert!(Path::new("/sys/kernel").exists(), "control");
    assert_eq!(
        Step::full("cat /proc/kcore /proc/keys /proc/timer_list 2> /dev/null | wc -c")
            .succeeds()
            .trim(),
        "0"
    );
    if is_root() {
        // The control: this switch may be written to by root, with the value that it has.
        Step::off(
            "v=$(cat /proc/sys/vm/overcommit_memory); echo $v > /proc/sys/vm/overcommit_memory",
        )
        .succeeds();
    }
}

const CONNECT: &str =
    "import os,socket; socket.create_connection(('127.0.0.1', int(os.environ['PORT'])), 2)";

/// A Python of the system, which a step with the host's view can see.
fn connecting(isolation: Wanted, port: u16) -> Step {
    Step::new(isolation, &["/usr/bin/python3", "-c", CONNECT]).variable("PORT", port.to_string())
}

fn a_step_cannot_reach_the_hosts_loopback() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let log = connecting(Wanted::Full, port).fails();
    assert!(log.contains("Connection refused"), "{log}");
    connecting(Wanted::Off, port).succeeds();
    // Nor past the namespace, by sockets that know none.
    let vsock = "import socket; socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)";
    assert!(
        Step::new(Wanted::Full, &["/usr/bin/python3", "-c", vsock]).fails().contains("Errno 97")
    );
    // Without a namespace the filter refuses the socket itself.
    let log = connecting(Wanted::Full, port).without(&[Feature::NetNamespace]).fails();
    assert!(log.contains("Errno 97"), "{log}");
    let interfaces = Step::full("tail -n +3 /proc/net/dev | cut -d: -f1").succeeds();
    assert_eq!(interfaces.trim(), "lo");
}

fn a_step_has_a_loopback_of_its_own() {
    let talk = "import socket; s=socket.create_server(('127.0.0.1',0)); \
                socket.create_connection(s.getsockname()); print('met')";
    assert_eq!(Step::new(Wanted::Full, &["/usr/bin/python3", "-c", talk]).succeeds(), "met\n");
}

fn a_step_with_network_reaches_the_hosts_loopback() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut step = connecting(Wanted::Full, listener.local_addr().unwrap().port());
    step.spec.network = true;
    step.succeeds();
}

fn a_step_cannot_see_other_processes() {
    let own = std::process::id();
    let look = format!("ls /proc | grep -c '^[0-9]*$'; test ! -e /proc/{own}/stat");
    let ours = format!("test -e /proc/{own}/cmdline");
    let count: u32 = Step::full(&look).succeeds().trim().parse().unwrap();
    assert!(count <= 5, "init, the shell and what it starts, not {count}");
    Step::full(&ours).fails();
    Step::off(&ours).succeeds();
    let signal = format!("kill -0 {own}");
    Step::full(&signal).fails();
    Step::off(&signal).succeeds();
}

fn a_step_cannot_look_into_its_init() {
    for path in ["/proc/1/root/", "/proc/1/environ", "/proc/1/fd/0", "/proc/1/mem"] {
        let log =
            Step::full(&format!("if test -d {path}; then ls {path}; else cat {path}; fi")).fails();
        assert!(log.contains("Permission denied"), "{path}: {log}");
    }
    // The same path of the step's own process can be looked into.
    Step::full("ls /proc/self/root/ > /dev/null; cat /proc/self/environ > /dev/null").succeeds();
    Step::full("kill -9 1; kill -0 $$").succeeds();
}

fn a_step_runs_as_an_ordinary_user_without_rights() {
    let told = Step::full(
        "id -u; id -g; whoami; hostname; grep -E 'Cap|NoNew|Seccomp:' /proc/self/status",
    )
    .succeeds();
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(&lines[..4], ["1000", "1000", "kiln", "kiln"]);
    for line in &lines[4..] {
        let (name, value) = line.split_once(':').unwrap();
        let value = value.trim();
        match name {
            "NoNewPrivs" => assert_eq!(value, "1"),
            "Seccomp" => assert_eq!(value, "2"),
            _ => assert_eq!(value, "0000000000000000", "{name}"),
        }
    }
    let host = tempfile::tempdir().unwrap();
    fs::write(host.path().join("x"), "").unwrap();
    let owner =
        Step::full("stat -c %u:%g /build/in/0 /build/work").input(&host.path().join("x"), "0");
    assert_eq!(owner.succeeds(), "1000:1000\n1000:1000\n");
}

/// Prints the groups of a step with no isolation, then of one with full.
fn tell_groups() -> ExitCode {
    for isolation in [Wanted::Off, Wanted::Full] {
        print!("{}", Step::new(isolation, &["grep", "Groups", "/proc/self/status"]).succeeds());
    }
    ExitCode::SUCCESS
}

fn a_step_of_root_is_in_no_group_of_the_host() {
    if !is_root() {
        println!("skipped: only root can leave its groups");
        return;
    }
    let told = Command::new("setpriv")
        .args(["--groups", "4"])
        .arg(std::env::current_exe().unwrap())
        .arg(GROUPS)
        .output()
        .unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    let groups: Vec<_> =
        told.lines().map(|line| line.trim_start_matches("Groups:").trim()).collect();
    assert_eq!(groups, ["4", ""]);
}

fn a_step_cannot_gain_namespaces_or_mounts() {
    for act in ["unshare -U true", "unshare -Ur true", "mount -t tmpfs x /tmp"] {
        let log = Step::full(act).fails();
        assert!(log.contains("not permitted") || log.contains("must be superuser"), "{act}: {log}");
    }
    if probe().works(Feature::UserNamespace) {
        Step::off("unshare -U true").succeeds();
    }
    Step::full("python3=/usr/bin/python3; $python3 -c 'import threading,subprocess; \
        t=threading.Thread(target=print,args=(1,)); t.start(); t.join(); subprocess.check_call([\"true\"])'")
    .succeeds();
}

fn a_step_has_no_descriptor_of_the_caller() {
    for step in [Step::full("ls /proc/self/fd"), Step::off("ls /proc/self/fd")] {
        // The fourth is the one that `ls` itself opens on the folder.
        assert_eq!(step.succeeds(), "0\n1\n2\n3\n");
    }
    assert_eq!(
        Step::full("wc -c; ls -l /proc/self/fd/0 | sed 's/.*-> //'").succeeds(),
        "0\n/dev/null\n"
    );
    let terminal = Step::full("echo x > /dev/tty").fails();
    assert!(terminal.contains("Read-only") || terminal.contains("/dev/tty"), "{terminal}");
}

/// A step with files of its own and an input, which were made now.
fn with_files(isolation: Wanted, script: &str) -> Step {
    let step = Step::new(isolation, &["sh", "-euc", script]);
    let work = step.spec.scratch.join("work");
    fs::create_dir_all(work.join("sub")).unwrap();
    fs::write(work.join("sub/file"), "text").unwrap();
    std::os::unix::fs::symlink("sub/file", work.join("link")).unwrap();
    step
}

fn a_step_finds_no_time_but_the_epoch() {
    let script = "stat -c '%Y %n' . sub sub/file link ../in ../out \"$HOME\" \"$TMPDIR\"";
    let private = "stat -c '%Y %n' / /build /etc /etc/passwd /dev /dev/fd /dev/shm";
    let full = with_files(Wanted::Full, &format!("{script}; {private}")).succeeds();
    let off = with_files(Wanted::Off, script).succeeds();
    assert_eq!((full.lines().count(), off.lines().count()), (15, 8));
    for line in full.lines().chain(off.lines()) {
        assert!(line.starts_with("315532800 "), "{line}");
    }
    let archive = || with_files(Wanted::Full, "tar c . | md5sum").succeeds();
    let first = archive();
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(archive(), first);
}

fn a_step_cannot_read_where_its_scratch_folder_lies() {
    let look = "cd /proc/self; readlink fd/1 fd/2 cwd root; cat mountinfo mounts mountstats";
    let step = Step::full(look);
    let log = step.succeeds();
    let name = step.folder.path().file_name().unwrap().to_string_lossy().into_owned();
    let part = name.rsplit(' ').next().unwrap();
    assert!(!log.contains(part), "{log}");
    assert!(log.starts_with("pipe:"), "{log}");
    let off = Step::off("readlink /proc/self/cwd");
    let name = off.folder.path().file_name().unwrap().to_string_lossy().into_owned();
    assert!(off.succeeds().contains(&name), "without a root of its own it can");
}

fn stdout_and_stderr_keep_their_order_and_a_daemon_holds_nothing_up() {
    for isolation in [Wanted::Full, Wanted::Off] {
        let script = "for i in 1 2 3; do echo out $i; echo err $i >&2; done; \
            setsid sh -c 'while :; do echo on; sleep 0.01; done' & echo end";
        let begin = Instant::now();
        let log = Step::new(isolation, &["sh", "-euc", script]).succeeds();
        assert!(begin.elapsed() < Duration::from_secs(5));
        let own: Vec<_> = log.lines().filter(|line| *line != "on").collect();
        assert_eq!(own, ["out 1", "err 1", "out 2", "err 2", "out 3", "err 3", "end"]);
    }
    let long = Step::full("head -c 3000000 /dev/zero | tr '\\0' x; echo > /dev/stderr").succeeds();
    assert_eq!(long.len(), 3_000_001);
}

fn a_set_user_id_bit_is_harmless_and_no_failure() {
    use std::os::unix::fs::PermissionsExt as _;
    let script = "cp /bin/sh ../out/t; chmod 6755 ../out/t; ../out/t -pc 'id -u -r; id -u'";
    let step = Step::full(script);
    assert_eq!(step.succeeds(), "1000\n1000\n");
    let mode = fs::metadata(&step.spec.scratch).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "nobody else reaches the program");
}

fn temporary_files_are_private_and_do_not_reach_the_host() {
    let name = format!("kiln-test-{}", std::process::id());
    let step = Step::full(&format!(
        "echo x > /tmp/{name}; echo y > /dev/shm/{name}; stat -f -c %T /dev/shm"
    ));
    let log = step.succeeds();
    assert!(!Path::new("/tmp").join(&name).exists());
    assert!(!Path::new("/dev/shm").join(&name).exists());
    assert!(
        step.spec.scratch.join("tmp").join(&name).exists(),
        "on disk, in the step's own folder"
    );
    assert_eq!(log, "tmpfs\n");
}

fn shared_memory_ends_at_the_memory_limit() {
    let mut step = Step::full("head -c 40000000 /dev/zero > /dev/shm/x; sleep 0.2");
    step.succeeds();
    step.spec.limits.memory = Some(32 << 20);
    assert_eq!(step.try_run().unwrap().exit, Exit::OutOfMemory { limit: 32 << 20 });
}

/// Whether a process with this text in its command line lives.
fn lives(text: &str) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        fs::read(entry.path().join("cmdline")).is_ok_and(|line| {
            let is_live = fs::read_to_string(entry.path().join("stat"))
                .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").starts_with(" Z"));
            is_live && line.windows(text.len()).any(|window| window == text.as_bytes())
        })
    })
}

/// A number of seconds to sleep that no other process sleeps.
fn mark(salt: u32) -> String {
    format!("{}.{salt}", 100_000 + std::process::id())
}

fn becomes_true(what: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        if what() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

fn daemons(seconds: &str) -> String {
    format!(
        "setsid -f sleep {seconds}; (setsid sh -c 'nohup sleep {seconds} & exec sleep {seconds}' &) ; \
         while test $(ps -ef | grep -c '[s]leep {seconds}') -lt 3; do sleep 0.01; done; echo up"
    )
}

fn a_daemon_cannot_outlive_its_step() {
    for (salt, isolation) in [(1, Wanted::Full), (2, Wanted::Off)] {
        let seconds = mark(salt);
        let step = Step::new(isolation, &["sh", "-euc", &daemons(&seconds)]);
        assert_eq!(step.succeeds().trim(), "up");
        assert!(!lives(&seconds), "a daemon is left of {isolation:?}");
    }
    let seconds = mark(3);
    let mut control = Command::new("sleep").arg(&seconds).spawn().unwrap();
    assert!(becomes_true(|| lives(&seconds)), "control: such a process would be found");
    control.kill().unwrap();
    control.wait().unwrap();
}

fn a_daemon_cannot_outlive_its_step_without_process_ids_of_its_own() {
    let seconds = mark(4);
    let step = Step::full(&daemons(&seconds)).without(&[Feature::PidNamespace]);
    assert_eq!(step.succeeds().trim(), "up");
    assert!(!lives(&seconds));
}

/// Runs a step that never ends, in `folder`, with the isolation that a file there names.
fn be_a_victim(folder: &Path) -> ExitCode {
    let isolation = match fs::read_to_string(folder.join("isolation")).unwrap().as_str() {
        "off" => Wanted::Off,
        _ => Wanted::Full,
    };
    let seconds = fs::read_to_string(folder.join("seconds")).unwrap();
    let mut step = Step::new(isolation, &["sh", "-euc"]);
    step.spec.argv.push(format!("setsid -f sleep {seconds}; sleep {seconds}").into());
    step.try_run().unwrap();
    ExitCode::SUCCESS
}

fn a_step_cannot_outlive_a_killed_kiln() {
    for (salt, isolation) in [(5, "full"), (6, "off")] {
        let folder = tempfile::tempdir().unwrap();
        let seconds = mark(salt);
        fs::write(folder.path().join("isolation"), isolation).unwrap();
        fs::write(folder.path().join("seconds"), &seconds).unwrap();
        let mut kiln = Command::new(std::env::current_exe().unwrap())
            .args([OsStr::new(VICTIM), folder.path().as_os_str()])
            .env("TMPDIR", folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        assert!(becomes_true(|| lives(&seconds)), "the step has begun");
        kiln.kill().unwrap();
        kiln.wait().unwrap();
        assert!(becomes_true(|| !lives(&seconds)), "the step outlived kiln ({isolation})");
    }
}

const FILL: &str = "import os,sys,time\nx=bytearray(int(sys.argv[1])<<20)\nfor i in range(0,len(x),4096): x[i]=1\n\
                    time.sleep(0.05)\nprint('filled')";

fn filling(isolation: Wanted, megabytes: &str, limit: u64) -> Step {
    let mut step = Step::new(isolation, &["/usr/bin/python3", "-c", FILL, megabytes]);
    step.spec.limits.memory = Some(limit << 20);
    step
}

fn a_step_that_passes_its_memory_is_killed() {
    for isolation in [Wanted::Full, Wanted::Off] {
        let step = filling(isolation, "300", 100);
        let ran = step.try_run().unwrap();
        assert_eq!(
            ran.exit,
            Exit::OutOfMemory { limit: 100 << 20 },
            "{isolation:?} {}",
            step.log()
        );
        assert!(ran.exit.to_string().contains("`memory` limit of 100 MiB"), "{}", ran.exit);
        assert!(ran.peak_memory >= 100 << 20);
        let ran = filling(isolation, "60", 200).try_run().unwrap();
        assert_eq!(ran.exit, Exit::Code(0), "control");
        assert!(ran.peak_memory >= 60 << 20, "{}", ran.peak_memory);
    }
}

fn a_step_whose_processes_together_pass_the_memory_is_killed() {
    let script = "import os,time\n\
                  for _ in range(4):\n\
                  \x20 if os.fork()==0:\n\
                  \x20  x=bytearray(50<<20)\n\
                  \x20  for i in range(0,len(x),4096): x[i]=1\n\
                  \x20  time.sleep(20)\n\
                  time.sleep(20)";
    let mut step = Step::new(Wanted::Full, &["/usr/bin/python3", "-c", script]);
    step.spec.limits.memory = Some(150 << 20);
    assert_eq!(step.try_run().unwrap().exit, Exit::OutOfMemory { limit: 150 << 20 });
    // The same pages seen by four processes are counted once.
    let shared = "import os,time\n\
                  x=bytearray(60<<20)\n\
                  for i in range(0,len(x),4096): x[i]=1\n\
                  for _ in range(4):\n\
                  \x20 if os.fork()==0:\n\
                  \x20  time.sleep(0.2); os._exit(0)\n\
                  time.sleep(0.2)";
    let mut step = Step::new(Wanted::Full, &["/usr/bin/python3", "-c", shared]);
    step.spec.limits.memory = Some(150 << 20);
    assert_eq!(step.try_run().unwrap().exit, Exit::Code(0), "{}", step.log());
}

fn a_step_that_passes_its_timeout_is_killed_with_its_tree() {
    for (salt, isolation) in [(7, Wanted::Full), (8, Wanted::Off)] {
        let seconds = mark(salt);
        let mut step = Step::new(isolation, &["sh", "-euc"]);
        step.spec
            .argv
            .push(format!("trap '' TERM; setsid -f sleep {seconds}; sleep {seconds}").into());
        step.spec.limits.timeout = Some(Duration::from_millis(300));
        let ran = step.try_run().unwrap();
        assert_eq!(ran.exit, Exit::TimedOut(Duration::from_millis(300)));
        assert!(ran.exit.to_string().contains("`timeout` of 0.3 s"), "{}", ran.exit);
        assert!(ran.wall >= Duration::from_millis(300) && ran.wall < Duration::from_secs(3));
        assert!(!lives(&seconds));
        step.spec.argv = ["sleep", "0.01"].map(OsString::from).into();
        let again = Step { folder: tempfile::tempdir().unwrap(), spec: step.spec };
        if isolation == Wanted::Full {
            assert_eq!(again.try_run().unwrap().exit, Exit::Code(0), "control");
        }
    }
}

/// Whether the kernel bounds the processes of a namespace of process ids.
fn refuses_processes() -> bool {
    let step = Step::full("cat /proc/sys/kernel/pid_max");
    let ran = step.try_run().unwrap();
    let within: u64 = step.log().trim().parse().unwrap();
    let here: u64 = fs::read_to_string("/proc/sys/kernel/pid_max").unwrap().trim().parse().unwrap();
    ran.isolation == Isolation::Full && within < here
}

/// A bomb that grows without end, if nobody ends it: each process starts two, as fast as it can.
const BOMB: &str = "f() { f & f & wait; }; f";

fn a_step_that_starts_processes_without_end_is_killed() {
    const ENDLESS: &str = "while :; do sleep 100 & done";
    for isolation in [Wanted::Full, Wanted::Off] {
        // Where nobody but the one who counts holds it back, a bomb takes up all of the machine's processes before it is
        // counted, and the other tests have none.
        let is_walled = isolation == Wanted::Full && refuses_processes();
        if isolation == Wanted::Full && !is_walled {
            println!("skipped: a bomb, since this kernel bounds the processes of no namespace");
        }
        for script in [ENDLESS, BOMB].into_iter().take(1 + usize::from(is_walled)) {
            let mut step = Step::new(isolation, &["sh", "-c", script]);
            step.spec.limits.processes = Some(300);
            step.spec.limits.timeout = Some(Duration::from_secs(60));
            let ran = step.try_run().unwrap();
            assert_eq!(ran.exit, Exit::TooManyProcesses { limit: 300 }, "{script}: {}", step.log());
            assert!(ran.exit.to_string().contains("more than 300 processes"), "{}", ran.exit);
        }
        let fewer = "for i in $(seq 100); do sleep 100 & done; sleep 1.5";
        let mut step = Step::new(isolation, &["sh", "-c", fewer]);
        step.spec.limits.processes = Some(300);
        assert_eq!(step.try_run().unwrap().exit, Exit::Code(0), "control: {}", step.log());
    }
}

fn a_step_that_nobody_can_continue_is_killed() {
    for isolation in [Wanted::Full, Wanted::Off] {
        for script in ["kill -STOP $$", "sh -c 'kill -STOP $$; :'; :"] {
            let mut step = Step::new(isolation, &["sh", "-c", script]);
            step.spec.limits.timeout = Some(Duration::from_secs(60));
            assert_eq!(step.try_run().unwrap().exit, Exit::Stopped, "{script}: {}", step.log());
        }
        let continued = "sh -c 'kill -STOP $$; echo on' & sleep 2.5; kill -CONT $!; wait";
        let step = Step::new(isolation, &["sh", "-c", continued]);
        assert_eq!(step.try_run().unwrap().exit, Exit::Code(0), "{}", step.log());
        assert_eq!(step.log(), "on\n");
    }
}

fn a_cancelled_step_ends_at_once() {
    for (salt, isolation) in [(9, Wanted::Full), (10, Wanted::Off)] {
        let seconds = mark(salt);
        let step = Step::new(isolation, &["sleep", &seconds]);
        let cancel = Cancel::new().unwrap();
        let tripper = {
            let (cancel, seconds) = (cancel.clone(), seconds.clone());
            std::thread::spawn(move || {
                assert!(becomes_true(|| lives(&seconds)));
                cancel.trip();
            })
        };
        let ran = run(&step.spec, &cancel).unwrap();
        tripper.join().unwrap();
        assert_eq!(ran.exit, Exit::Cancelled);
        assert!(!lives(&seconds));
        let late = Step::new(isolation, &["sleep", &seconds]);
        assert_eq!(run(&late.spec, &cancel).unwrap().exit, Exit::Cancelled, "tripped before");
    }
}

fn exit_codes_and_signals_are_told() {
    for isolation in [Wanted::Full, Wanted::Off] {
        let exit = |script: &str| Step::new(isolation, &["sh", "-c", script]).try_run().unwrap();
        assert_eq!(exit("exit 7").exit, Exit::Code(7));
        assert_eq!(exit("kill -SEGV $$").exit, Exit::Signal(11));
        assert_eq!(exit("kill -SEGV $$").exit.to_string(), "was ended by signal 11 (SIGSEGV)");
        let busy = exit("i=0; while test $i -lt 200000; do i=$((i+1)); done");
        assert!(busy.cpu_seconds > 0.02, "{busy:?}");
        assert!(busy.peak_memory > 0);
    }
}

fn a_missing_program_is_named() {
    for isolation in [Wanted::Full, Wanted::Off] {
        let error = Step::new(isolation, &["no-such-program"]).try_run().unwrap_err();
        assert!(
            matches!(&error, SandboxError::ProgramNotFound { program, path }
            if program == "no-such-program" && path.contains("/usr/bin")),
            "{error:?}"
        );
    }
    assert!(matches!(Step::new(Wanted::Full, &[]).try_run(), Err(SandboxError::NoProgram)));
}

fn a_missing_input_is_named() {
    let error = Step::full("true").input(Path::new("/nowhere/x"), "0").try_run().unwrap_err();
    assert_eq!(error.to_string(), "failed to read `/nowhere/x`");
}

fn a_place_that_leads_out_is_refused() {
    for place in ["../x", "a/b", "", ".."] {
        let error =
            Step::full("true").input(Path::new("/etc/passwd"), place).try_run().unwrap_err();
        assert!(matches!(error, SandboxError::Place { .. }), "{place}: {error}");
    }
}

fn without_user_namespaces_root_still_confines() {
    if !is_root() {
        println!("skipped: without user namespaces only root can make the others");
        return;
    }
    let (_folder, file) = secret();
    let deny = [Feature::UserNamespace];
    let step = Step::full(&format!("cat '{}'", file.display())).without(&deny);
    assert!(step.fails().contains("No such file"));
    let step = Step::full("echo 0 > /proc/sys/vm/overcommit_memory").without(&deny);
    assert!(step.fails().contains("Read-only"));
    let step = Step::full("grep CapEff /proc/self/status; echo x > /build/out/out").without(&deny);
    let ran = step.try_run().unwrap();
    assert_eq!((ran.exit, ran.isolation), (Exit::Code(0), Isolation::Partial));
    assert!(step.log().contains("0000000000000000"));
}

fn without_a_proc_of_its_own_a_step_still_runs() {
    let step = Step::full("echo $$ > /build/out/out; test -r /proc/self/stat; ls /proc/self/fd")
        .without(&[Feature::Procfs]);
    let ran = step.try_run().unwrap();
    assert_eq!((ran.exit, ran.isolation), (Exit::Code(0), Isolation::Partial), "{}", step.log());
    let mut step = filling(Wanted::Full, "300", 100);
    step.spec.deny.push(Feature::Procfs);
    assert_eq!(step.try_run().unwrap().exit, Exit::OutOfMemory { limit: 100 << 20 });
    let own = std::process::id();
    let step = Step::full(&format!("ls /proc/{own}/root/")).without(&[Feature::Procfs]);
    assert!(step.fails().contains("Permission denied"));
}

fn without_mount_attributes_binds_are_read_only_all_the_same() {
    let deny = [Feature::MountSetattr];
    let host = tempfile::tempdir().unwrap();
    fs::write(host.path().join("x"), "first").unwrap();
    for act in ["echo x > /build/in/0/x", "echo x > /usr/new", "echo x > /new"] {
        let log = Step::full(act).input(host.path(), "0").without(&deny).fails();
        assert!(log.contains("Read-only") || log.contains("Permission denied"), "{act}: {log}");
    }
    let step =
        Step::full("cat /build/in/0/x > /build/out/y").input(host.path(), "0").without(&deny);
    let ran = step.try_run().unwrap();
    assert_eq!((ran.exit, ran.isolation), (Exit::Code(0), Isolation::Full), "{}", step.log());
}

fn without_mount_namespaces_landlock_guards_files() {
    if !probe().works(Feature::Landlock) {
        println!("skipped: this kernel has no Landlock");
        return;
    }
    let deny = [
        Feature::MountNamespace,
        Feature::UserNamespace,
        Feature::PidNamespace,
        Feature::NetNamespace,
        Feature::IpcNamespace,
        Feature::UtsNamespace,
        Feature::Procfs,
    ];
    let (_folder, file) = secret();
    let log = Step::full(&format!("cat '{}'", file.display())).without(&deny).fails();
    assert!(log.contains("Permission denied"), "{log}");
    Step::full("echo x > /dev/shm/kiln-landlock").without(&deny).fails();
    let host = tempfile::tempdir().unwrap();
    let data = host.path().join("x");
    fs::write(&data, "data").unwrap();
    let step =
        Step::full(&format!("echo x >> '{}'", data.display())).input(&data, "0").without(&deny);
    assert!(step.fails().contains("Permission denied"));
    let step = Step::full("cat ../in/0 > ../out/y; echo t > \"$TMPDIR/t\"").input(&data, "0");
    let step = step.without(&deny);
    let ran = step.try_run().unwrap();
    assert_eq!((ran.exit, ran.isolation), (Exit::Code(0), Isolation::Partial), "{}", step.log());
    assert_eq!(fs::read_to_string(step.spec.scratch.join("out/y")).unwrap(), "data");
}

/// Leaves all that a step can leave behind it.
const LITTER: &str = r#"
import fcntl, os, socket, subprocess
for folder in ("/dev/shm", "/tmp", os.environ["HOME"], "/build/work", "/build/out"):
    open(folder + "/litter", "w").write("x")
os.chmod("/dev/shm", 0o700)
s = socket.create_server(("127.0.0.1", 4711))
c = socket.create_connection(s.getsockname())
s.accept()[0].close()
c.close()
subprocess.run(["ipcmk", "-M", "4096"], check=True, stdout=subprocess.DEVNULL)
fcntl.fcntl(1, fcntl.F_SETFL, os.O_NONBLOCK)
print(sorted(os.listdir("/build/in")))
"#;

/// Looks for it.
const LOOK: &str = r#"
import fcntl, os, socket
for folder in ("/dev/shm", "/tmp", os.environ["HOME"], "/build/work", "/build/out"):
    print(folder, os.listdir(folder))
for path in ("/dev/shm", "/build", "/build/in"):
    print(path, oct(os.stat(path).st_mode), int(os.stat(path).st_mtime))
print(open("/proc/net/snmp").read(), open("/proc/net/dev").read())
print(len(open("/proc/sysvipc/shm").readlines()), fcntl.fcntl(1, fcntl.F_GETFL) & os.O_NONBLOCK)
s = socket.socket()
s.bind(("127.0.0.1", 4711))
print(sorted(os.listdir("/build/in")))
"#;

fn python(script: &str) -> Step {
    Step::new(Wanted::Full, &["/usr/bin/python3", "-c", script])
}

fn succeeds_in(pool: &Pool, step: &Step) -> String {
    let ran = pool.run(&step.spec, &Cancel::new().unwrap()).unwrap();
    assert!(ran.exit.is_success(), "{}", step.log());
    step.log()
}

fn a_step_finds_nothing_of_the_one_before_it() {
    let host = tempfile::tempdir().unwrap();
    let (file, folder) = (host.path().join("file"), host.path().join("folder"));
    fs::write(&file, "x").unwrap();
    fs::create_dir(&folder).unwrap();
    for deny in [&[][..], &[Feature::DetachedMounts], &[Feature::MountSetattr]] {
        let look = || python(LOOK).input(&file, "0").without(deny);
        let alone = look().succeeds();
        assert!(alone.contains("/dev/shm []") && alone.contains("['0']"), "{alone}");
        let pool = Pool::default();
        assert_eq!(succeeds_in(&pool, &look()), alone);
        for _ in 0..2 {
            let litter = python(LITTER).input(&file, "0.csv").input(&folder, "1").without(deny);
            assert_eq!(succeeds_in(&pool, &litter), "['0.csv', '1']\n");
            assert_eq!(succeeds_in(&pool, &look()), alone);
        }
        let missing = Step::full("no-such-program").without(deny);
        assert!(!pool.run(&missing.spec, &Cancel::new().unwrap()).unwrap().exit.is_success());
        let view = Step::full("test ! -e /build/kiln; ls /build").without(deny);
        assert_eq!(succeeds_in(&pool, &view), "home\nin\nout\nwork\n");
    }
}

fn roots_that_are_put_together_in_a_namespace_are_no_different() {
    let look = "find / -xdev -printf '%p %y %m %T@ %l\\n' 2> /dev/null | grep -v '^/proc ' | sort; \
                cat /proc/self/mountinfo; grep -c . /proc/cpuinfo > /dev/null; stat -f -c %T /proc";
    let step = || Step::full(look).input(Path::new("/etc/passwd"), "0");
    let first = step().succeeds();
    assert_eq!(step().without(&[Feature::DetachedMounts]).succeeds(), first);
}

fn a_host_fifo_that_is_an_input_cannot_be_written_to() {
    if !probe().works(Feature::Landlock) {
        println!("skipped: this kernel has no Landlock");
        return;
    }
    let host = tempfile::tempdir().unwrap();
    let fifo = host.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let _reader = File::options().read(true).write(true).open(&fifo).unwrap();
    let write = || Step::full("echo x > /build/in/0").input(&fifo, "0");
    assert!(write().fails().contains("Permission denied"));
    write().without(&[Feature::Landlock]).succeeds();
}

/// Calls that containers refuse or old kernels lack, by name and number.
const CALLS: &[(&str, i64)] = &[
    ("clone3", libc::SYS_clone3),
    ("unshare", libc::SYS_unshare),
    ("setns", libc::SYS_setns),
    ("mount", libc::SYS_mount),
    ("umount2", libc::SYS_umount2),
    ("pivot_root", libc::SYS_pivot_root),
    ("fsopen", libc::SYS_fsopen),
    ("fsmount", libc::SYS_fsmount),
    ("move_mount", libc::SYS_move_mount),
    ("open_tree", libc::SYS_open_tree),
    ("mount_setattr", libc::SYS_mount_setattr),
    ("openat2", libc::SYS_openat2),
    ("close_range", libc::SYS_close_range),
    ("statx", libc::SYS_statx),
    ("sethostname", libc::SYS_sethostname),
    ("landlock_create_ruleset", libc::SYS_landlock_create_ruleset),
    ("landlock_restrict_self", libc::SYS_landlock_restrict_self),
];

/// Refuses calls with an error (`unshare,mount:1`), then runs steps in `folder` and says what came of them.
fn be_on_a_machine_without(refusal: &OsStr, folder: &Path) -> ExitCode {
    let (names, errno) = refusal.to_str().unwrap().split_once(':').unwrap();
    let errno: i32 = errno.parse().unwrap();
    let number = |name: &str| CALLS.iter().find(|(call, _)| *call == name).unwrap().1;
    let calls: Vec<_> =
        names.split(',').filter(|one| !one.is_empty()).map(|one| (number(one), errno)).collect();
    without_calls(&calls).unwrap();
    adapt_to_container();
    for one in &probe().features {
        if let State::Missing { why, help } = &one.state {
            println!("missing {}: {why} ({help})", one.feature.name());
        }
    }
    let target = folder.join("target");
    fs::write(&target, "before").unwrap();
    let input = folder.join("input");
    fs::write(&input, "data").unwrap();
    let pool = Pool::default();
    let run = |script: &str| {
        let step = Step::full(script).input(&input, "0");
        let layout = Layout::new(Wanted::Full, probe(), &step.spec.scratch);
        let step = step.variable("IN", layout.input("0")).variable("OUT", layout.output("made"));
        let ran = pool.run(&step.spec, &Cancel::new().unwrap()).unwrap();
        let made = fs::read_to_string(step.spec.scratch.join("out/made")).unwrap_or_default();
        (ran, made, step.log())
    };
    for _ in 0..2 {
        let (ran, made, log) = run("cat \"$IN\" > \"$OUT\"; echo said; echo t > \"$TMPDIR/t\"");
        println!("ran {:?} {:?} {made} {log}", ran.exit, ran.isolation);
    }
    let (ran, ..) = run(&format!("echo after > '{}'", target.display()));
    println!("wrote {:?} {}", ran.exit.is_success(), fs::read_to_string(&target).unwrap().trim());
    let (ran, ..) = run("echo after > \"$IN\"");
    println!("changed {:?} {}", ran.exit.is_success(), fs::read_to_string(&input).unwrap().trim());
    let seconds = mark(12);
    let (ran, ..) = run(&format!("setsid -f sleep {seconds}"));
    println!("left {:?} {}", ran.exit, lives(&seconds));
    ExitCode::SUCCESS
}

/// What this executable says of a machine like that; `around` is a program that starts it.
fn told_without(around: &[&str], refusal: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let own = std::env::current_exe().unwrap();
    let words = around.iter().map(OsStr::new).chain([own.as_os_str(), WITHOUT.as_ref()]);
    let words: Vec<_> = words.chain([refusal.as_ref(), folder.path().as_os_str()]).collect();
    let said = Command::new("timeout").arg("60").args(words).output().unwrap();
    let (out, errors) =
        (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.status.success(), "{refusal}: {} {out} {errors}", said.status);
    out.into_owned()
}

/// The degree that steps got there, after all that holds in every degree was looked at.
fn degree(told: &str) -> &str {
    let ran: Vec<_> = told.lines().filter_map(|line| line.strip_prefix("ran Code(0) ")).collect();
    let [first, second] = ran[..] else { panic!("{told}") };
    assert_eq!(first, second, "the second step of a starter is like the first");
    let (degree, rest) = first.split_once(' ').unwrap();
    assert_eq!(rest, "data said", "{told}");
    assert!(told.contains("left Code(0) false"), "{told}");
    if degree != "Off" {
        assert!(told.contains("wrote false before"), "{told}");
        assert!(told.contains("changed false data"), "{told}");
    }
    degree
}

fn whatever_call_is_refused_a_step_runs_and_stays_confined() {
    let here = format!("{:?}", probe().isolation());
    for errno in [libc::EPERM, libc::ENOSYS] {
        for (call, _) in CALLS {
            let told = told_without(&[], &format!("{call}:{errno}"));
            let full = !["unshare", "mount", "umount2", "pivot_root", "sethostname"].contains(call);
            let degree = degree(&told);
            assert_eq!(degree == here, full || here != "Full", "{call}: {told}");
            assert!(degree != "Off" || here == "Off", "{call}: {told}");
            assert!(full || told.contains("missing "), "{call}: {told}");
        }
    }
}

fn an_ordinary_container_gives_partial_isolation_by_landlock() {
    let namespaces = "clone3,unshare,setns,mount,umount2,pivot_root";
    let newer = "fsopen,fsmount,move_mount,open_tree,mount_setattr,openat2,close_range";
    for errno in [libc::EPERM, libc::ENOSYS] {
        let told = told_without(&[], &format!("{namespaces},{newer}:{errno}"));
        let expected = if probe().works(Feature::Landlock) { "Partial" } else { "Off" };
        assert_eq!(degree(&told), expected, "{told}");
        assert!(
            told.contains("missing user namespace: ") && told.contains("in a container"),
            "{told}"
        );
        let all: Vec<_> = CALLS.iter().map(|(call, _)| *call).collect();
        let told = told_without(&[], &format!("{}:{errno}", all.join(",")));
        assert_eq!(degree(&told), "Off", "{told}");
    }
    // An old kernel has namespaces, and none of the newer calls.
    let told = told_without(&[], &format!("{newer},landlock_create_ruleset:{}", libc::ENOSYS));
    assert_eq!(degree(&told), format!("{:?}", probe().isolation()), "{told}");
}

/// A shell that makes a user namespace like a container's, in which it is root, and then does `script`.
fn contained(script: &str) -> Option<Vec<String>> {
    if !probe().works(Feature::UserNamespace) {
        println!("skipped: no user namespaces here");
        return None;
    }
    let words = ["unshare", "-r", "-m", "-p", "-f", "--mount-proc", "sh", "-euc"];
    let script = format!("{script}; exec \"$0\" \"$@\"");
    Some(words.iter().map(ToString::to_string).chain([script]).collect())
}

fn a_masked_proc_gives_partial_isolation() {
    let Some(around) = contained("mount --bind /dev/null /proc/kmsg") else { return };
    let around: Vec<_> = around.iter().map(String::as_str).collect();
    let told = told_without(&around, ":1");
    assert_eq!(degree(&told), "Partial", "{told}");
    assert!(told.contains("missing fresh /proc: ") && told.contains("unmask"), "{told}");
}

fn without_user_namespaces_to_be_had_the_reason_is_told() {
    let Some(around) = contained("echo 0 > /proc/sys/user/max_user_namespaces") else { return };
    let around: Vec<_> = around.iter().map(String::as_str).collect();
    let told = told_without(&around, ":1");
    assert_eq!(degree(&told), "Partial", "{told}");
    assert!(told.contains("sysctl -w user.max_user_namespaces=15000"), "{told}");
}

/// The starters of this process.
fn starters() -> Vec<u32> {
    let own = std::process::id().to_string();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let is_starter = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after = stat.rsplit(')').next().unwrap_or_default();
        let cmdline = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        after.split_ascii_whitespace().nth(1) == Some(&own) && cmdline.starts_with(b"kiln\0")
    };
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(is_starter)
        .collect()
}

/// This executable with this argument and alone, so that its starters are the test's.
fn apart(argument: &str) {
    let told = Command::new(std::env::current_exe().unwrap()).arg(argument).output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
}

fn kill(pid: u32) {
    signal(pid, "KILL");
}

fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

fn a_starter_that_was_killed_while_it_waited_is_replaced() {
    apart(KILLED_IDLE);
}

fn be_killed_while_idle() -> ExitCode {
    let pool = Pool::default();
    let run = || succeeds_in(&pool, &Step::full("echo ran"));
    assert_eq!(run(), "ran\n");
    let first = starters();
    assert_eq!(first.len(), usize::from(probe().works(Feature::PidNamespace)));
    first.iter().copied().for_each(kill);
    assert!(becomes_true(|| starters().is_empty()));
    assert_eq!(run(), "ran\n");
    let second = starters();
    assert!(first.iter().all(|pid| !second.contains(pid)), "{first:?} {second:?}");
    assert_eq!(run(), "ran\n");
    assert_eq!(starters(), second, "one that waits is used again");
    // One that has got a plan, and has not begun with it.
    second.iter().for_each(|&pid| signal(pid, "STOP"));
    std::thread::scope(|scope| {
        let ran = scope.spawn(run);
        std::thread::sleep(Duration::from_millis(100));
        second.iter().copied().for_each(kill);
        assert_eq!(ran.join().unwrap(), "ran\n");
    });
    assert!(starters().iter().all(|pid| !second.contains(pid)));
    drop(pool);
    assert!(starters().is_empty());
    ExitCode::SUCCESS
}

fn a_killed_starter_takes_its_step_along() {
    apart(KILLED_BUSY);
}

fn be_killed_while_busy() -> ExitCode {
    let pool = Pool::default();
    let seconds = mark(11);
    let step = Step::new(Wanted::Full, &["sleep", &seconds]);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| pool.run(&step.spec, &Cancel::new().unwrap()));
        assert!(becomes_true(|| lives(&seconds)));
        starters().into_iter().for_each(kill);
        let error = running.join().unwrap().unwrap_err();
        assert!(matches!(error, SandboxError::Lost { .. }), "{error:?}");
    });
    assert!(becomes_true(|| !lives(&seconds)));
    assert_eq!(succeeds_in(&pool, &Step::full("echo ran")), "ran\n");
    ExitCode::SUCCESS
}

/// The builder that a test brings: it writes what it sees, and where it was told to.
fn list_what_is_seen() -> ExitCode {
    let names = |path: &str| {
        let mut names: Vec<_> = fs::read_dir(path)
            .map(|entries| entries.flatten().map(|entry| entry.file_name()).collect())
            .unwrap_or_default();
        names.sort();
        format!("{names:?}")
    };
    let request = fs::read_to_string("/build/request.json").unwrap();
    println!("request {request}");
    println!("build {}", names("/build"));
    println!("bin {}", Path::new("/bin/sh").exists() || Path::new("/usr/bin/env").exists());
    fs::write("/build/out/done", request).unwrap();
    ExitCode::SUCCESS
}

fn a_builder_that_kiln_brings_sees_itself_and_libraries() {
    let mut step = Step::new(Wanted::Full, &["kiln", BUILTIN]);
    step.spec.view = View::Builtin { exe: std::env::current_exe().unwrap(), libraries: Vec::new() };
    fs::write(step.spec.scratch.join("request.json"), "{}").unwrap();
    let log = step.succeeds();
    assert_eq!(
        log,
        "request {}\n\
         build [\"home\", \"in\", \"kiln\", \"out\", \"request.json\", \"work\"]\n\
         bin false\n"
    );
    assert_eq!(fs::read_to_string(step.spec.scratch.join("out/done")).unwrap(), "{}");
}

fn with_tools(names: &[&str], path: &OsStr, isolation: Wanted, script: &str) -> Step {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut step = Step::new(isolation, &["sh", "-euc", script]);
    step.spec.view = View::Tools(tools::resolve(&names, path).unwrap());
    step
}

fn a_step_with_tools_sees_these_and_the_core_utilities_only() {
    let path = OsStr::from_bytes(b"/usr/bin:/bin");
    for isolation in [Wanted::Full, Wanted::Off] {
        let say =
            "echo hi | sed s/h/H/ | grep H | awk '{print $1}'; python3 -c 'import json; print(1)'";
        let log = with_tools(&["python3"], path, isolation, say).succeeds();
        assert_eq!(log, "Hi\n1\n");
        // On `PATH`, git is not there, whatever the isolation.
        with_tools(&["python3"], path, isolation, "command -v git").fails();
    }
    for program in ["git", "perl", "gcc", "apt-get"] {
        let host = Path::new("/usr/bin").join(program);
        if host.exists() && Path::new("/var/lib/dpkg/status").exists() && program != "perl" {
            let run = format!("test -e {}", host.display());
            with_tools(&["python3"], path, Wanted::Full, &run).fails();
            Step::full(&run).succeeds();
        }
    }
    if Path::new("/usr/bin/gcc").exists() {
        let compile = "echo 'int main(){return 0;}' > a.c; gcc a.c -o a; ./a; echo built";
        assert_eq!(with_tools(&["gcc"], path, Wanted::Full, compile).succeeds(), "built\n");
    }
}

fn a_step_sees_pyenvs_python_where_that_is_what_the_user_runs() {
    let Some(path) = std::env::var_os("PATH") else { return };
    let shim = std::env::split_paths(&path).map(|dir| dir.join("python3")).find(|one| one.exists());
    let Some(shim) = shim.filter(|shim| shim.to_string_lossy().contains("/shims/")) else {
        println!("skipped: python3 is no shim here");
        return;
    };
    let real = Command::new(shim).args(["-c", "import sys; print(sys.prefix)"]).output().unwrap();
    let step = with_tools(
        &["python3"],
        &path,
        Wanted::Full,
        "python3 -c 'import sys, ssl; print(sys.prefix)'",
    );
    assert_eq!(step.succeeds(), String::from_utf8(real.stdout).unwrap());
}

/// Prints what a step costs above a plain process, and above the same without a part; run by hand.
fn measure() -> ExitCode {
    let repeat = 300;
    probe();
    let mut script = Vec::new();
    let mut time = |name: &str, run: &mut dyn FnMut()| {
        let mut times: Vec<Duration> = (0..repeat)
            .map(|_| {
                let begin = Instant::now();
                run();
                begin.elapsed()
            })
            .collect();
        times.sort_unstable();
        script.push(format!("{name}: tenth {:?}, median {:?}", times[30], times[150]));
    };
    time("plain spawn", &mut || drop(Command::new("/bin/true").output().unwrap()));
    let tools = tools::resolve(&["python3".to_owned()], OsStr::new("/usr/bin")).unwrap();
    let parts =
        [&[][..], &[Feature::DetachedMounts], &[Feature::MountSetattr], &[Feature::Landlock]];
    let parts = parts.into_iter().chain([
        &[Feature::Seccomp][..],
        &[Feature::NetNamespace],
        &[Feature::IpcNamespace],
        &[Feature::Procfs],
    ]);
    for deny in parts {
        let pool = Pool::default();
        let step = Step::new(Wanted::Full, &["/bin/true"]).without(deny);
        time(&format!("full without {deny:?}"), &mut || drop(succeeds_in(&pool, &step)));
    }
    let pool = Pool::default();
    let mut step = Step::new(Wanted::Full, &["true"]);
    step.spec.view = View::Tools(tools.clone());
    time(&format!("tools, {} binds", tools.binds.len()), &mut || drop(succeeds_in(&pool, &step)));
    time("a starter of its own", &mut || drop(Step::full("true").succeeds()));
    time("off", &mut || drop(Step::off("true").succeeds()));
    println!("{}", script.join("\n"));
    ExitCode::SUCCESS
}
