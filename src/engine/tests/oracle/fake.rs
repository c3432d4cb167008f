//! An executor that computes instead of running programs, and remembers what it was asked for.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kiln_cache::{Digest, Isolation, Kind, Object};
use kiln_engine::{
    executor::{ExecuteError, Executed, Executor, Job},
    graph::Determinism,
    sandbox::Exit,
};

use crate::function::{Content, Made, made, readings};

/// One run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The step's name.
    pub step: String,
    /// Everything that it read.
    pub readings: String,
    /// Whether it did what it must.
    pub succeeded: bool,
}

/// See the module.
#[derive(Default)]
pub struct Fake {
    /// Steps that fail this time, whatever they read. What a step that wobbles had made before could not be told
    /// from a report of its failure, so that those never do.
    pub flaky: BTreeSet<String>,
    ran: Mutex<Vec<Ran>>,
    count: AtomicU64,
}

impl Fake {
    /// What ran since the last call, in order.
    pub fn take(&self) -> Vec<Ran> {
        std::mem::take(&mut self.ran.lock().unwrap())
    }
}

impl Executor for Fake {
    fn isolation(&self) -> Isolation {
        Isolation::Full
    }

    fn execute(&self, job: &Job<'_>) -> Result<Executed, ExecuteError> {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        if count.is_multiple_of(7) {
            // Lets others overtake.
            std::thread::sleep(Duration::from_micros(300));
        }
        let files = job.files.iter().map(|(name, path)| {
            let digest = Digest::of(&fs::read(path).unwrap());
            let executable = fs::metadata(path).unwrap().permissions().mode() & 0o100 != 0;
            (name.clone(), if executable { Object::program(digest) } else { Object::file(digest) })
        });
        let files = files.collect();
        let readings = readings(job.step, &files, &mut |reference| {
            let input = job
                .inputs
                .iter()
                .find(|input| input.reference == reference)
                .expect("a declared input");
            let content = input.content.as_ref().map(|(object, path)| {
                match object.kind {
                    Kind::File => {
                        assert_eq!(Digest::of(&fs::read(path).unwrap()), object.digest, "{path:?}")
                    }
                    Kind::Tree => assert!(path.is_dir(), "{path:?}"),
                }
                *object
            });
            (input.place.clone(), content)
        });
        let mut result = made(job.step, &readings, count);
        if self.flaky.contains(&job.step.name) && job.step.determinism == Determinism::Bitwise {
            result = Made::Failure;
        }
        fs::write(job.log, &readings).unwrap();
        let outputs = job.scratch.join("out");
        fs::create_dir(&outputs).unwrap();
        let mut verdict = None;
        let succeeded = result != Made::Failure;
        if let Made::Outputs(contents, said) = result {
            verdict = said;
            for output in &job.step.outputs {
                let path = outputs.join(&output.file);
                match contents.get(&output.name) {
                    Some(Content::File { text, executable }) => {
                        fs::write(&path, text).unwrap();
                        let mode = if *executable { 0o755 } else { 0o644 };
                        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
                    }
                    Some(Content::Folder(files)) => {
                        for (name, text) in files {
                            let inner = path.join(name);
                            fs::create_dir_all(inner.parent().unwrap()).unwrap();
                            fs::write(inner, text).unwrap();
                        }
                    }
                    None => {}
                }
            }
        }
        self.ran.lock().unwrap().push(Ran { step: job.step.name.clone(), readings, succeeded });
        Ok(Executed {
            exit: Exit::Code(if succeeded { 0 } else { 1 }),
            verdict,
            isolation: Isolation::Full,
            cpu_seconds: 0.0,
            peak_memory: 0,
            wall: Duration::from_millis(1),
            outputs,
        })
    }
}
