//! An executor that computes instead of running programs, and remembers what it was asked for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
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

use crate::{
    evaluated::reading,
    function::{Content, Made, made},
};

/// One run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The step's name.
    pub step: String,
    /// Everything that it read.
    pub readings: String,
    /// Outputs with bytes of their own, if it did what it must.
    pub made: Option<BTreeMap<String, Object>>,
}

/// See the module.
pub struct Fake {
    /// Steps that fail this time, whatever they read. What a step that wobbles had made before could not be told
    /// from a report of its failure, so that those never do.
    pub flaky: BTreeSet<String>,
    /// Steps that fail the next time, and then no more.
    pub hiccups: Mutex<BTreeSet<String>>,
    /// It has a defect.
    pub broken: bool,
    /// How well it says that it keeps steps apart.
    pub isolation: Isolation,
    ran: Mutex<Vec<Ran>>,
    count: AtomicU64,
}

impl Fake {
    /// One that ran nothing.
    pub fn new() -> Self {
        Self {
            flaky: BTreeSet::new(),
            hiccups: Mutex::default(),
            broken: false,
            isolation: Isolation::Full,
            ran: Mutex::default(),
            count: AtomicU64::new(0),
        }
    }

    /// What ran since the last call, in order.
    pub fn take(&self) -> Vec<Ran> {
        std::mem::take(&mut self.ran.lock().unwrap())
    }
}

impl Executor for Fake {
    fn isolation(&self) -> Isolation {
        self.isolation
    }

    fn execute(&self, job: &Job<'_>) -> Result<Executed, ExecuteError> {
        assert!(!self.broken, "as the test wants it");
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
        let reading = reading(job.step, files.collect());
        let text = reading.text(&mut |reference| {
            let input = job
                .inputs
                .iter()
                .find(|input| input.reference == reference)
                .expect("a declared input");
            let content = input.content.as_ref().map(|(object, path)| {
                match object.kind {
                    Kind::File => {
                        assert_eq!(Digest::of(&fs::read(path).unwrap()), object.digest, "{path:?}");
                    }
                    Kind::Tree => assert!(path.is_dir(), "{path:?}"),
                }
                *object
            });
            (input.place.clone(), content)
        });
        let mut result = made(&reading, &text, count);
        if self.flaky.contains(&job.step.name) && job.step.determinism == Determinism::Bitwise {
            result = Made::Failure;
        }
        if self.hiccups.lock().unwrap().remove(&job.step.name) {
            result = Made::Failure;
        }
        fs::write(job.log, &text).unwrap();
        let outputs = job.scratch.join("out");
        fs::create_dir_all(&outputs).unwrap();
        let mut ran = Ran { step: job.step.name.clone(), readings: text, made: None };
        let mut verdict = None;
        if let Made::Outputs(contents, said) = result {
            verdict = said;
            for (name, file, _) in &reading.outputs {
                if let Some(content) = contents.get(name) {
                    write(&outputs.join(file), content);
                }
            }
            let objects = contents.iter().map(|(name, content)| (name.clone(), content.object()));
            ran.made = Some(objects.collect());
        }
        let exit = Exit::Code(i32::from(ran.made.is_none()));
        self.ran.lock().unwrap().push(ran);
        Ok(Executed {
            exit,
            verdict,
            isolation: self.isolation,
            cpu_seconds: 0.0,
            peak_memory: 0,
            wall: Duration::from_millis(1),
            outputs,
        })
    }
}

fn write(path: &Path, content: &Content) {
    match content {
        Content::File { text, executable } => {
            fs::write(path, text).unwrap();
            let mode = if *executable { 0o755 } else { 0o644 };
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        Content::Folder(files) => {
            for (name, text) in files {
                let inner = path.join(name);
                fs::create_dir_all(inner.parent().unwrap()).unwrap();
                fs::write(inner, text).unwrap();
            }
        }
    }
}
