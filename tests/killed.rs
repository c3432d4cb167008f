//! `kill -9` at random moments of real builds, with a collector beside them.
//!
//! Afterwards the store is sound, what was finished does not run again, the next build succeeds and sweeps up, and no
//! process survives: whoever outlives the killed kiln becomes a child of the process that killed it, which waits until
//! it has none. How many moments: `KILN_TEST_KILLS`, by default a few.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::harness::Project;

const KILLS: &str = "KILN_TEST_KILLS";
const FEW: u32 = 40;
const ROUNDS: &str = "KILN_TEST_KILL_ROUNDS";

/// Steps with processes of their own that outlive them, trees and files; a round makes all of them new.
const RECIPE: &str = r#"
name = "killed"

[params]
round = 0

[steps.one]
run = "sleep 100 & echo one ${params.round} > ${out}; sleep 0.03"

[steps.two]
run = "(sleep 0.01; true) & wait; echo two ${params.round} > ${out}"

[steps.three]
run = "mkdir ${out}; cat ${one} > ${out}/a; ln ${out}/a ${out}/b; mkdir ${out}/c; cp ${two} ${out}/c; sleep 0.02"

[steps.four]
run = "setsid sleep 100 & cat ${two} > ${out.text}; mkdir ${out.tree}; cp ${one} ${out.tree}"
outputs = ["text", "tree"]

[steps.five]
run = "cat ${three}/b ${four.text} > ${out}"

[steps.six]
run = "sleep 0.02; cat ${four.tree}/* ${one} > ${out}"

[steps.last]
run = "cat ${five} ${six} > ${out}"
"#;

/// Chance that can be repeated (SplitMix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % bound.max(1)
    }

    /// A moment within this time.
    fn moment(&mut self, time: Duration) -> Duration {
        Duration::from_micros(self.below(time.as_micros().try_into().unwrap()))
    }
}

#[test]
fn builds_that_are_killed_at_any_moment_lose_nothing_and_leave_nothing() {
    let kills = std::env::var(KILLS).ok().and_then(|text| text.parse().ok()).unwrap_or(FEW);
    // In a process of its own: it adopts whatever loses its parent, and waits for all of it.
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::rounds_of_kills", "--nocapture", "--test-threads=1"])
        .env(ROUNDS, kills.to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}\n{errors}");
    print!("{}", said.lines().filter(|line| line.contains("kills")).collect::<Vec<_>>().join("\n"));
}

/// What that process does; only does it when it is asked to.
#[test]
fn rounds_of_kills() {
    let Some(rounds) = std::env::var(ROUNDS).ok().and_then(|text| text.parse::<u32>().ok()) else {
        return;
    };
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    let project = Project::new(RECIPE);
    let begun = Instant::now();
    project.build(&[]).exits(0);
    let mut time = begun.elapsed();
    let mut chance = Chance(u64::from(rounds));
    let (mut finished, mut cut_short) = (0, 0);
    for round in 1..=rounds {
        let told = Round { project: &project, round, chance: &mut chance }.play(&mut time);
        finished += told.finished;
        cut_short += usize::from(told.finished < 7);
    }
    println!("{rounds} kills: {cut_short} builds were cut short, {finished} steps had finished");
    assert!(cut_short > 0 && finished > 0, "{cut_short} cut short, {finished} finished");
}

struct Round<'a> {
    project: &'a Project,
    round: u32,
    chance: &'a mut Chance,
}

struct Told {
    finished: usize,
}

impl Round<'_> {
    /// One kill, and all that has to hold after it.
    fn play(self, time: &mut Duration) -> Told {
        let Self { project, round, chance } = self;
        let round = format!("round={round}");
        let beside = chance.below(3);
        let mut kiln = start(project, &["build", "--jobs", "3", "--set", &round]);
        let lines = BufReader::new(kiln.stderr.take().unwrap()).lines().map_while(Result::ok);
        let listener = std::thread::spawn(move || lines.collect::<Vec<String>>());
        let moment = chance.moment(*time + *time / 8);
        let before = if beside > 0 { chance.moment(moment) } else { moment };
        std::thread::sleep(before);
        // A collector that takes all it can, now and then killed as well.
        let collector = (beside > 0)
            .then(|| start(project, &["gc", "--keep-bytes", "0", "--older-than", "0s"]));
        std::thread::sleep(moment.saturating_sub(before));
        kiln.kill().unwrap();
        kiln.wait().unwrap();
        if let Some(mut collector) = collector {
            if beside == 2 {
                std::thread::sleep(chance.moment(Duration::from_millis(20)));
                collector.kill().unwrap();
            }
            collector.wait().unwrap();
        }
        // Its end of the pipe is closed, or else somebody survives.
        let said = listener.join().unwrap();
        assert_alone(&round);
        let finished: BTreeSet<String> = said.iter().filter_map(|line| made(line)).collect();

        let verified = project.kiln(&["store", "verify"]);
        assert_eq!(verified.code(), 0, "{round}: {verified:?}\n{said:#?}");
        if chance.below(2) == 0 {
            // Also a collector that comes before the next build takes nothing that was finished.
            project.kiln(&["gc"]).exits(0);
        }
        let begun = Instant::now();
        let build = project.build(&["--set", &round]).exits(0);
        if finished.is_empty() {
            *time = begun.elapsed().clamp(Duration::from_millis(100), Duration::from_secs(2));
        }
        let reused: BTreeSet<String> = build.steps("reused").into_iter().collect();
        assert!(
            finished.is_subset(&reused),
            "{round}: finished {finished:?}, reused {reused:?}\n{said:#?}"
        );
        let number = round.trim_start_matches("round=");
        let expected = format!("one {number}\ntwo {number}\none {number}\none {number}\n");
        assert_eq!(project.read("result/last"), expected, "{round}");
        let left: Vec<_> = ["tmp", "trash"]
            .iter()
            .flat_map(|folder| fs::read_dir(project.store().join(folder)).unwrap())
            .map(|entry| entry.unwrap().file_name())
            .filter(|name| name != "locks")
            .collect();
        assert!(left.is_empty(), "{round}: {left:?}");
        Told { finished: finished.len() }
    }
}

fn start(project: &Project, arguments: &[&str]) -> Child {
    let mut command = project.command(arguments);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The step of a line that says that one was made.
fn made(line: &str) -> Option<String> {
    let rest = line.trim_start().strip_prefix("made ")?;
    rest.split(' ').next().map(str::to_owned)
}

/// Waits until this process has no child left: no process survives a kill.
fn assert_alone(round: &str) {
    let begun = Instant::now();
    loop {
        match rustix::process::wait(rustix::process::WaitOptions::NOHANG) {
            Err(rustix::io::Errno::CHILD) => return,
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => {
                let patience = Duration::from_secs(20);
                assert!(begun.elapsed() < patience, "{round}: these survive: {:?}", children());
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

/// The command lines of this process's children.
fn children() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let lists: Vec<String> = lists.collect();
    let ids = lists.iter().flat_map(|list| list.split_whitespace());
    ids.filter_map(|id| fs::read_to_string(format!("/proc/{id}/cmdline")).ok()).collect()
}
