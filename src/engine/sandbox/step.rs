//! The step's process, from its birth until its program begins.
//!
//! It gives up everything that the step is not to have. It is unaware of what happens around it.

use std::{
    ffi::{CString, OsStr, OsString},
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};

use super::{
    feature::Feature,
    filter, kernel, landlock,
    line::Line,
    plan::{Entry, Plan, Report},
    root::{Failure, attempt},
};

/// Gives up everything that the step is not to have, and becomes its program. Returns only on failure, or (after
/// a report of its own) if there is no such program.
pub(super) fn become_step(plan: &Plan, line: &Line, log: OwnedFd) -> Result<(), Failure> {
    kernel::reset_signals();
    attempt(|| "bind the step to its init".into(), kernel::die_with_parent())?;
    attempt(|| "make a session".into(), rustix::process::setsid())?;
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let null = attempt(|| "open /dev/null".into(), null)?;
    attempt(|| "connect stdin".into(), rustix::stdio::dup2_stdin(&null))?;
    attempt(|| "connect stdout".into(), rustix::stdio::dup2_stdout(&log))?;
    attempt(|| "connect stderr".into(), rustix::stdio::dup2_stderr(&log))?;
    attempt(|| "close descriptors".into(), kernel::close_on_exec_from(3))?;
    let work = || format!("enter {}", plan.work.display());
    attempt(work, rustix::process::chdir(&plan.work))?;
    attempt(|| "forbid core files".into(), kernel::no_core_files())?;
    let strings = |texts: Vec<OsString>| -> io::Result<Vec<CString>> {
        texts.iter().map(|text| kernel::c_string(text)).collect()
    };
    let argv = attempt(|| "pass the arguments".into(), strings(plan.argv.clone()))?;
    let env = plan.env.iter().map(|(name, value)| {
        let mut text = name.clone();
        text.push("=");
        text.push(value);
        text
    });
    let env = attempt(|| "pass the variables".into(), strings(env.collect()))?;
    if !plan.features.is_empty() {
        give_up_rights(plan)?;
    }
    let Some(program) = find_program(plan) else {
        return attempt(|| "report".into(), no_program(plan, line));
    };
    if plan.uses(Feature::Seccomp) {
        let policy = filter::Policy {
            own_pids: plan.uses(Feature::PidNamespace),
            network_settled: plan.network || plan.uses(Feature::NetNamespace),
        };
        let installed = kernel::install_filter(&filter::program(policy));
        attempt(|| "install the filter of system calls".into(), installed)?;
    }
    let path = attempt(|| "pass the program".into(), kernel::c_string(program.as_os_str()))?;
    let argv: Vec<_> = argv.iter().map(CString::as_c_str).collect();
    let env: Vec<_> = env.iter().map(CString::as_c_str).collect();
    attempt(|| "report".into(), line.say(&Report::Begins))?;
    let error = kernel::execute(&path, &argv, &env);
    attempt(|| format!("execute {}", program.display()), Err(error))
}

fn give_up_rights(plan: &Plan) -> Result<(), Failure> {
    let privileges = rustix::thread::set_no_new_privs(true);
    attempt(|| "give up new privileges".into(), privileges)?;
    attempt(|| "give up capabilities".into(), kernel::drop_capabilities())?;
    if plan.uses(Feature::Landlock) {
        let confined = match plan.uses(Feature::MountNamespace) {
            true => landlock::guard(&writable(plan)),
            false => landlock::confine(&plan.grants, plan.network),
        };
        attempt(|| "confine the step with Landlock".into(), confined)?;
    }
    Ok(())
}

/// What of its root a step may write to. Of `/dev` and `/proc`, mounts and modes allow a part.
fn writable(plan: &Plan) -> Vec<&Path> {
    let own = plan.entries.iter().filter_map(|entry| match entry {
        Entry::Write { at, .. } | Entry::Memory(at, _) => Some(at.as_path()),
        _ => None,
    });
    own.chain(["/dev", "/proc"].map(Path::new)).collect()
}

fn search_path(plan: &Plan) -> &OsStr {
    plan.env.iter().find(|(name, _)| name == "PATH").map_or(OsStr::new(""), |(_, value)| value)
}

/// The program's path: as planned, as given if it contains a slash, otherwise the first on `PATH`.
fn find_program(plan: &Plan) -> Option<PathBuf> {
    let runs = |path: &Path| {
        path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
    };
    if let Some(program) = &plan.program {
        return Some(program.clone()).filter(|path| runs(path));
    }
    let name = Path::new(plan.argv.first()?);
    if name.as_os_str().as_bytes().contains(&b'/') {
        return Some(name.to_owned()).filter(|path| runs(path));
    }
    std::env::split_paths(search_path(plan)).map(|dir| dir.join(name)).find(|path| runs(path))
}

fn no_program(plan: &Plan, line: &Line) -> io::Result<()> {
    let program = plan.program.as_deref().map(Path::as_os_str).or(plan.argv.first().map(|s| &**s));
    line.say(&Report::NoProgram {
        program: program.unwrap_or_default().to_string_lossy().into_owned(),
        path: search_path(plan).to_string_lossy().into_owned(),
    })
}
