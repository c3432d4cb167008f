//! Sources that are too large to be copied for a step: read where they lie, and kept once they are deployed.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use crate::harness::Project;

const RECIPE: &str = r#"
name = "large"

[sources]
data = "data"

[steps.release]
run = "mkdir ${out}; head -c 5 ${sources.data}/large > ${out}/head; ls ${sources.data} > ${out}/names"

[deploy.production]
release = "${release}"
"#;

/// More than a source may have that is copied; nearly all of it is a hole.
const BYTES: u64 = (256 << 20) + 4096;

fn project() -> Project {
    let project = Project::new(RECIPE);
    project.write("data/large", "first");
    File::options().write(true).open(large(&project)).unwrap().set_len(BYTES).unwrap();
    fs::create_dir(project.dir().join("data/empty")).unwrap();
    project
}

fn large(project: &Project) -> PathBuf {
    project.dir().join("data/large")
}

/// The files called `large` in trees of the store.
fn kept(project: &Project) -> Vec<PathBuf> {
    fn find(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().unwrap().is_dir() {
                find(&entry.path(), found);
            } else if entry.file_name() == "large" {
                found.push(entry.path());
            }
        }
    }
    let mut found = Vec::new();
    find(&project.store().join("store/t"), &mut found);
    found
}

#[test]
fn a_large_source_is_read_in_place_and_captured_when_it_is_deployed() {
    let project = project();
    project.kiln(&["build"]).exits(0);
    assert_eq!(project.read("result/release/names"), "empty\nlarge\n");
    assert_eq!(kept(&project), Vec::<PathBuf>::new());
    let deployed = project.kiln(&["deploy", "production"]).exits(0);
    assert!(deployed.stderr().contains("keeping the source data (256"), "{}", deployed.stderr());
    let found = kept(&project);
    assert_eq!(found.len(), 1, "{found:?}");
    let metadata = fs::metadata(&found[0]).unwrap();
    assert_eq!((metadata.len(), metadata.permissions().mode() & 0o777), (BYTES, 0o444));
    let mut head = [0; 5];
    File::open(&found[0]).unwrap().read_exact(&mut head).unwrap();
    assert_eq!(&head, b"first");
    assert!(found[0].with_file_name("empty").is_dir());

    // It stays when nothing else refers to it, and the original moves on.
    File::options().write(true).open(large(&project)).unwrap().write_all(b"other").unwrap();
    project.kiln(&["build"]).exits(0);
    project.kiln(&["gc"]).exits(0);
    project.kiln(&["store", "verify"]).exits(0);
    assert_eq!(kept(&project), found);
    // Deploying what already runs copies nothing, and neither does a build.
    project.kiln(&["deploy", "production"]).exits(0);
    assert_eq!(kept(&project).len(), 2, "another release, from another source");
    let again = project.kiln(&["deploy", "production"]).exits(0);
    assert!(!again.stderr().contains("keeping"), "{}", again.stderr());
}
