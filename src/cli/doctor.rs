//! `kiln doctor`: what works on this machine, what does not, and what to do about it.

mod disk;

use std::path::{Path, PathBuf};

use kiln_engine::{
    gpu::Pool,
    host,
    sandbox::{self, State},
};
use serde::Serialize;

use super::{
    failure::{Exit, Failure, print_json},
    global::Global,
    machine,
    project::store_home,
    style,
    table::Table,
};

/// Programs that recipes and kiln itself often need: which, and whether steps cannot do without.
const PROGRAMS: [(&str, bool, &str); 3] = [
    ("sh", true, "install a POSIX shell: steps with a text as `run` are given to it"),
    ("git", false, "install git if recipes are kept in it"),
    ("python3", false, "install python3 if steps run Python"),
];

/// Look at what this machine gives kiln: the sandbox, the store, programs.
///
/// Ends with 1 if something is broken that stops builds. Needs no recipe.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// It works.
    Works,
    /// It does not, and builds go on with less.
    Missing,
    /// It does not, and builds stop.
    Broken,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// `sandbox`, `gpus`, `store` or `programs`.
    pub area: &'static str,
    /// What was looked at.
    pub name: String,
    /// How it stands.
    pub health: Health,
    /// What was found.
    pub what: String,
    /// What to do, where something is not as it should be.
    pub help: Option<String>,
}

impl Finding {
    /// Something that works.
    pub fn works(area: &'static str, name: &str, what: impl Into<String>) -> Self {
        Self { area, name: name.to_owned(), health: Health::Works, what: what.into(), help: None }
    }

    /// Something that does not.
    pub fn wrong(area: &'static str, name: &str, health: Health, what: String, help: &str) -> Self {
        let help = (!help.is_empty()).then(|| help.to_owned());
        Self { area, name: name.to_owned(), health, what, help }
    }
}

#[derive(Serialize)]
struct Document {
    version: &'static str,
    home: PathBuf,
    isolation: &'static str,
    findings: Vec<Finding>,
    host: Vec<(String, String)>,
}

/// Looks, and tells.
pub fn run(global: &Global, _args: &Args) -> Result<Exit, Failure> {
    let home = store_home(global)?;
    let capabilities = sandbox::probe();
    let isolation = match capabilities.isolation() {
        sandbox::Isolation::Full => "full",
        sandbox::Isolation::Partial => "partial",
        sandbox::Isolation::Off => "off",
    };
    let mut findings: Vec<Finding> = capabilities.features.iter().map(feature).collect();
    findings.extend(gpus(&machine::gpus()));
    findings.extend(disk::look(&home));
    let path = std::env::var_os("PATH").unwrap_or_default();
    findings.extend(PROGRAMS.map(|(name, needed, help)| program(&path, name, needed, help)));
    let facts = home.join("facts");
    let document = Document {
        version: env!("CARGO_PKG_VERSION"),
        isolation,
        // Nothing is remembered in a store that cannot be written to.
        host: host::identity(facts.is_dir().then_some(&facts)).fields(),
        findings,
        home,
    };
    let broken =
        document.findings.iter().filter(|finding| finding.health == Health::Broken).count();
    if global.json {
        print_json(&document);
    } else {
        print(&document, broken);
    }
    Ok(if broken == 0 { Exit::Done } else { Exit::Failed })
}

fn feature(one: &sandbox::Capability) -> Finding {
    let name = one.feature.name();
    match &one.state {
        State::Works(remark) if remark.is_empty() => Finding::works("sandbox", name, "works"),
        State::Works(remark) => Finding::works("sandbox", name, remark),
        State::Missing { why, help } => {
            let what = format!("{why}; {}", one.feature.loss());
            Finding::wrong("sandbox", name, Health::Missing, what, help)
        }
    }
}

/// What there is of GPUs; no word where there is none.
fn gpus(pool: &Pool) -> Option<Finding> {
    if pool.is_empty() {
        return None;
    }
    let nodes: Vec<String> = pool.gpus().iter().map(|gpu| gpu.node.display().to_string()).collect();
    let nodes = nodes.join(", ");
    Some(match pool.driver_files() {
        0 => {
            let what = format!("{nodes}, but none of the driver's libraries");
            let help = "install the driver's user part, or tell the loader where it is (ldconfig)";
            Finding::wrong("gpus", "nvidia", Health::Missing, what, help)
        }
        files => Finding::works("gpus", "nvidia", format!("{nodes}; {files} files of the driver")),
    })
}

fn program(path: &std::ffi::OsStr, name: &str, needed: bool, help: &str) -> Finding {
    match find_program(path, name) {
        Some(found) => Finding::works("programs", name, found.display().to_string()),
        None => {
            let health = if needed { Health::Broken } else { Health::Missing };
            Finding::wrong("programs", name, health, "not found on PATH".to_owned(), help)
        }
    }
}

fn find_program(path: &std::ffi::OsStr, name: &str) -> Option<PathBuf> {
    std::env::split_paths(path).map(|dir| dir.join(name)).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

fn print(document: &Document, broken: usize) {
    anstream::println!("kiln {}, store in {}", document.version, document.home.display());
    let name_width = document.findings.iter().map(|finding| finding.name.len()).max().unwrap_or(0);
    let mut area = "";
    for finding in &document.findings {
        if finding.area != area {
            area = finding.area;
            anstream::println!("\n{}", style::paint(style::NAME, area));
        }
        let (mark, colour) = match finding.health {
            Health::Works => ("✓", style::GOOD),
            Health::Missing => ("○", style::WARN),
            Health::Broken => ("✗", style::BAD),
        };
        let mark = style::paint(colour, mark);
        anstream::println!("  {mark} {:name_width$}  {}", finding.name, finding.what);
        if let Some(help) = &finding.help {
            anstream::println!("    {:name_width$}  help: {help}", "");
        }
    }
    anstream::println!(
        "\n{}",
        style::paint(style::NAME, "host, as the keys of steps without `tools` hold it")
    );
    let mut facts = Table::new(&["", "", ""]);
    for (name, fact) in &document.host {
        facts.row(["", name, fact]);
    }
    anstream::print!("{facts}");
    let isolation = document.isolation;
    let verdict = match broken {
        0 => style::paint(style::GOOD, "builds work here"),
        1 => style::paint(style::BAD, "1 thing stops builds here"),
        count => style::paint(style::BAD, format!("{count} things stop builds here")),
    };
    anstream::println!("\n{verdict}; isolation of steps: {isolation}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_a_file_that_may_be_executed() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tool");
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
        assert_eq!(program(dir.path().as_os_str(), "tool", true, "").health, Health::Broken);
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(program(dir.path().as_os_str(), "tool", true, "").health, Health::Works);
    }
}
