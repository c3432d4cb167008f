//! A disk that is full.

use std::{fs, io::Write as _, path::Path};

use super::{Mounted, apart, is_long, is_orderly, sample};
use crate::harness::{Project, Run};

/// What a disk runs out of.
#[derive(Clone, Copy, Debug)]
enum Short {
    Space,
    Files,
}

const PAGE: u64 = 4096;

/// Fills the disk that the store is on, but for so much; what fills it goes when this is dropped.
struct Ballast<'p>(&'p Path);

impl<'p> Ballast<'p> {
    fn new(folder: &'p Path, short: Short, left: u64) -> Self {
        let free = rustix::fs::statvfs(folder).unwrap();
        let ballast = Self(folder);
        match short {
            Short::Space => {
                let bytes = free.f_bavail * free.f_frsize - left * PAGE;
                let mut file = fs::File::create(ballast.0.join("ballast")).unwrap();
                let page = [1; PAGE as usize];
                (0..bytes / PAGE).for_each(|_| file.write_all(&page).unwrap());
            }
            Short::Files => {
                for number in 0..free.f_favail - left {
                    fs::write(ballast.0.join(format!("ballast-{number}")), "").unwrap();
                }
            }
        }
        ballast
    }
}

impl Drop for Ballast<'_> {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.0).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with("ballast") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
    }
}

fn disk(project: &Project) -> Mounted {
    let options = "size=2m,nr_inodes=600,mode=700";
    Mounted::new(&["-t", "tmpfs", "-o", options, "none"], project.store())
}

/// It says that the disk is full, which store is on it, and what to do.
#[track_caller]
fn tells_of_the_full_disk(project: &Project, run: &Run) {
    is_orderly(run);
    let said = run.stderr();
    assert_eq!(run.code(), 1, "{run:?}");
    assert!(said.contains("is full") || said.contains("No space left on device"), "{run:?}");
    assert!(said.contains(project.store().to_str().unwrap()), "{run:?}");
    assert!(said.contains("kiln gc"), "{run:?}");
}

/// Has the disk full with ever more left, until a build succeeds; looks at what is left each time.
fn sweep(short: Short) {
    let (mut failed, mut built) = (0, 0);
    let stride = if is_long() { 1 } else { 4 };
    for left in (0..).step_by(stride) {
        let project = sample();
        let _disk = disk(&project);
        project.kiln(&["build"]).exits(0);
        let before = fs::read_to_string(project.dir().join("words.txt")).unwrap();
        project.write("words.txt", "kiwi\nlemon\nplum\ndate\n");
        let ballast = Ballast::new(project.store(), short, left);
        let run = project.kiln(&["build"]);
        if run.code() == 0 {
            built += 1;
        } else {
            failed += 1;
            tells_of_the_full_disk(&project, &run);
            // On the full disk, still.
            project.kiln(&["gc"]).exits(0);
        }
        drop(ballast);
        project.kiln(&["store", "verify"]).exits(0);
        let again = project.build(&[]).exits(0);
        assert_eq!(project.read("result/count"), "4\n");
        assert!(
            run.code() != 0 || again.ran().is_empty(),
            "{short:?}, {left} left: {:?}",
            again.ran()
        );
        // What was there before is still there.
        project.write("words.txt", before);
        let earlier = project.build(&[]).exits(0);
        assert_eq!(earlier.ran(), [] as [&str; 0], "{short:?}, {left} left");
        project.kiln(&["store", "verify"]).exits(0);
        if built == 2 {
            break;
        }
    }
    assert!(failed >= 2, "{short:?}: {failed} failed");
    eprintln!("{short:?}: {failed} builds found no room");
}

#[test]
fn a_disk_that_is_full_at_any_page_costs_nothing_that_was_there() {
    if apart("disk::a_disk_that_is_full_at_any_page_costs_nothing_that_was_there") {
        sweep(Short::Space);
    }
}

#[test]
fn a_disk_without_room_for_a_name_costs_nothing_that_was_there() {
    if apart("disk::a_disk_without_room_for_a_name_costs_nothing_that_was_there") {
        sweep(Short::Files);
    }
}

#[test]
fn a_first_build_on_a_full_disk_says_so_and_the_next_one_works() {
    if !apart("disk::a_first_build_on_a_full_disk_says_so_and_the_next_one_works") {
        return;
    }
    let stride = if is_long() { 1 } else { 5 };
    for left in (0..30).step_by(stride) {
        let project = sample();
        let _disk = disk(&project);
        let ballast = Ballast::new(project.store(), Short::Space, left);
        let run = project.kiln(&["build"]);
        if run.code() != 0 {
            tells_of_the_full_disk(&project, &run);
        }
        drop(ballast);
        project.kiln(&["build"]).exits(0);
        project.kiln(&["store", "verify"]).exits(0);
    }
}

#[test]
fn a_build_with_nothing_to_do_works_on_a_full_disk() {
    if !apart("disk::a_build_with_nothing_to_do_works_on_a_full_disk") {
        return;
    }
    let project = sample();
    let _disk = disk(&project);
    project.kiln(&["build"]).exits(0);
    for short in [Short::Space, Short::Files] {
        let _ballast = Ballast::new(project.store(), short, 0);
        let build = project.build(&[]).exits(0);
        assert_eq!(build.ran(), [] as [&str; 0]);
        for command in ["status", "why sort", "log sort", "show sort", "store verify", "graph"] {
            let words: Vec<&str> = command.split(' ').collect();
            project.kiln(&words).exits(0);
        }
    }
}

#[test]
fn the_collector_makes_room_on_a_full_disk() {
    if !apart("disk::the_collector_makes_room_on_a_full_disk") {
        return;
    }
    let project = sample();
    let _disk = disk(&project);
    project.kiln(&["build"]).exits(0);
    {
        let recipe =
            "name = \"other\"\n[steps.big]\nrun = \"head -c 600000 /dev/urandom > ${out}\"\n";
        let other = Project::new(recipe).sharing_store_with(&project);
        other.kiln(&["build"]).exits(0);
        fs::remove_dir_all(other.dir()).unwrap();
        // The store is not the other project's to clean up.
        std::mem::forget(other);
    }
    project.write("words.txt", "kiwi\n");
    let _ballast = Ballast::new(project.store(), Short::Space, 0);
    tells_of_the_full_disk(&project, &project.kiln(&["build"]));
    let collected = project.kiln(&["gc"]).exits(0);
    assert!(collected.stdout().contains("removed"), "{collected:?}");
    project.kiln(&["build"]).exits(0);
    assert_eq!(project.read("result/count"), "1\n");
    project.kiln(&["store", "verify"]).exits(0);
}

#[test]
fn a_step_that_fills_the_disk_is_told_what_it_did() {
    if !apart("disk::a_step_that_fills_the_disk_is_told_what_it_did") {
        return;
    }
    let recipe = "name = \"big\"\n[steps.big]\nrun = \"head -c 9000000 /dev/zero > ${out}\"\n";
    let project = Project::new(recipe);
    let _disk = disk(&project);
    tells_of_the_full_disk(&project, &project.kiln(&["build"]));
    project.edit("kiln.toml", "9000000", "9");
    project.kiln(&["build"]).exits(0);
    project.kiln(&["store", "verify"]).exits(0);
}

#[test]
fn a_step_that_fails_on_a_full_disk_is_not_tried_again() {
    if !apart("disk::a_step_that_fails_on_a_full_disk_is_not_tried_again") {
        return;
    }
    // The one leaves the disk full, the other has tidied up and says what it met.
    for (after, advice) in [("exit 3", "is full: kiln gc"), ("s=$?; rm ${out}; exit $s", "kiln gc")]
    {
        let recipe = format!(
            "name = \"big\"\n[steps.big]\nrun = \"cat /dev/zero > ${{out}} || {{ {after}; }}\"\nretries = 5\n"
        );
        let project = Project::new(&recipe);
        let _disk = disk(&project);
        let run = project.kiln(&["build"]).exits(1);
        let said = run.stderr();
        assert!(said.contains(advice), "{run:?}");
        assert!(said.contains(project.store().to_str().unwrap()), "{run:?}");
        assert!(after != "exit 3" || !said.contains("retrying"), "{run:?}");
    }
}

#[test]
fn a_deployment_on_a_full_disk_is_refused_or_done_and_never_half() {
    if !apart("disk::a_deployment_on_a_full_disk_is_refused_or_done_and_never_half") {
        return;
    }
    let stride = if is_long() { 1 } else { 3 };
    for left in (0..24).step_by(stride) {
        let project = sample();
        let _disk = disk(&project);
        project.kiln(&["deploy", "production"]).exits(0);
        project.write("words.txt", "kiwi\nlemon\n");
        project.kiln(&["build"]).exits(0);
        let ballast = Ballast::new(project.store(), Short::Space, left);
        let run = project.kiln(&["deploy", "production"]);
        is_orderly(&run);
        if run.code() != 0 {
            tells_of_the_full_disk(&project, &run);
        }
        drop(ballast);
        let shown = project.kiln(&["generations", "production", "--json"]).exits(0).json();
        let generations = shown["deployments"][0]["generations"].as_array().unwrap().len();
        assert_eq!(generations, if run.code() == 0 { 2 } else { 1 }, "{left} left: {shown}");
        project.kiln(&["deploy", "production"]).exits(0);
        project.kiln(&["rollback", "production"]).exits(0);
        project.kiln(&["gc"]).exits(0);
        project.kiln(&["store", "verify"]).exits(0);
    }
}
