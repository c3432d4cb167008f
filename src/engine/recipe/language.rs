//! Every key that a recipe can have, apart from builders' arguments.
//!
//! One table drives parsing, messages and the reference; builders' arguments stand in the
//! [catalogue](crate::catalogue).

use crate::catalogue::Presence;

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    /// What the recipe writes.
    pub(crate) name: &'static str,
    /// What may stand there, as prose.
    pub(crate) takes: &'static str,
    /// Whether it must stand there.
    pub(crate) presence: Presence,
    /// What it means.
    pub(crate) doc: &'static str,
}

/// The version of the engine's own builder: it rises when `command` does something else with equal arguments.
pub(crate) const COMMAND_VERSION: u32 = 1;

/// The name of the engine's own builder.
pub(crate) const COMMAND_NAME: &str = "command";

/// Names that a step cannot have, since references begin with them.
pub(crate) const RESERVED: [&str; 5] = ["sources", "params", "out", "in", "env"];

const fn key(
    name: &'static str,
    takes: &'static str,
    presence: Presence,
    doc: &'static str,
) -> Key {
    Key { name, takes, presence, doc }
}

/// The top of the file.
pub(crate) const TOP: &[Key] = &[
    key(
        "name",
        "name",
        Presence::Required,
        "The recipe's name: letters, digits, `_`, `.`, `-`. Deployments are kept under it.",
    ),
    key("description", "text", Presence::Optional, "What the recipe is for. Changes no key."),
    key(
        "salt",
        "text",
        Presence::Default("\"\""),
        "Enters every key: another salt makes everything run again.",
    ),
    key("params", "table", Presence::Optional, "Parameters, by name."),
    key("sources", "table", Presence::Optional, "Inputs from outside, by name."),
    key("steps", "table", Presence::Optional, "Steps, by name."),
    key("deploy", "table", Presence::Optional, "Places that a release goes to, by name."),
];

/// A source written as a table: one of `path`, `glob`, `deployment`.
pub(crate) const SOURCE: &[Key] = &[
    key(
        "path",
        "path",
        Presence::Optional,
        "A file or folder inside the recipe's folder; `*`, `?`, `[` and `{` stand for themselves.",
    ),
    key("glob", "pattern", Presence::Optional, "Files by pattern: `*`, `**`, `?`, `[…]`, `{…}`."),
    key(
        "deployment",
        "name",
        Presence::Optional,
        "A deployment of this recipe: the source is what it points at when a build starts.",
    ),
    key(
        "output",
        "path",
        Presence::Default("\"\""),
        "Which part of the deployed release, such as `model`; left out, all of it.",
    ),
    key(
        "absent",
        "`\"error\"` or `\"accept\"`",
        Presence::Default("\"error\""),
        "Whether a deployment that points nowhere is accepted. Then only an optional argument can take it.",
    ),
];

/// What every step can say.
pub(crate) const STEP: &[Key] = &[
    key(
        "builder",
        "name",
        Presence::Default("\"command\""),
        "Who carries the step out: `command` runs a program; the others come with kiln.",
    ),
    key("description", "text", Presence::Optional, "What the step is for. Changes no key."),
    key("cpus", "whole number from 1", Presence::Default("1"), "Processor slots. Not in the key."),
    key(
        "gpus",
        "whole number from 0",
        Presence::Default("0"),
        "GPUs that it is lent; it sees no others. The number is not in the key; for a `command` step it is that it has any.",
    ),
    key(
        "memory",
        "size",
        Presence::Optional,
        "The most memory that it may use: `\"512MiB\"`, `\"2GB\"`, or bytes. A step that takes more is killed. Not in the key.",
    ),
    key(
        "timeout",
        "time",
        Presence::Optional,
        "The longest that it may take: `\"90s\"`, `\"1h30m\"`, or seconds. Not in the key.",
    ),
    key(
        "retries",
        "whole number from 0",
        Presence::Default("0"),
        "How often it is tried again, in a fresh sandbox, after it crashed, took too long or left an output out. Not in the key.",
    ),
    key(
        "determinism",
        "`\"bitwise\"`, `\"tolerance\"` or `\"none\"`",
        Presence::Default("\"bitwise\""),
        "What a second run promises: the same bytes, numbers within `tolerance`, or nothing. `kiln build --check` holds it to its word.",
    ),
    key(
        "tolerance",
        "table of numbers",
        Presence::Optional,
        "`{ absolute = 1e-6, relative = 1e-4 }`, one or both: how far numbers may lie apart with `determinism = \"tolerance\"`. Two are equal if they differ by at most `absolute`, or by at most `relative` of the larger one. Not in the key.",
    ),
];

/// What a `command` step can say beyond [`STEP`].
pub(crate) const COMMAND: &[Key] = &[
    key(
        "run",
        "text, or list of texts",
        Presence::Required,
        "What to run. Text is given to `sh -eu`; a list is a program and its arguments, executed as it is. Takes references.",
    ),
    key(
        "outputs",
        "list of names, or table from names to file names",
        Presence::Default("[\"out\"]"),
        "What the step makes, each a file or a folder under `/build/out`. Left out, there is one, called `out`.",
    ),
    key(
        "files",
        "list of paths and patterns",
        Presence::Default("[]"),
        "Files of the recipe that the program needs: scripts, configuration. They stand in the working folder at their own paths.",
    ),
    key(
        "tools",
        "list of program names",
        Presence::Optional,
        "The programs that the step can run, beside the core utilities. Left out, it sees the host's system folders, and the host's identity is in the key.",
    ),
    key(
        "env",
        "table from variable names to text",
        Presence::Default("{}"),
        "Environment variables. Values take references.",
    ),
    key(
        "pass_env",
        "list of variable names",
        Presence::Default("[]"),
        "Variables taken from the caller's environment. Their values are in the key.",
    ),
    key(
        "network",
        "`true` or `false`",
        Presence::Default("false"),
        "Whether the step may use the network. If so, its determinism is `none`.",
    ),
];

/// A deployment.
pub(crate) const DEPLOY: &[Key] = &[
    key("release", "reference", Presence::Required, "The step output to deploy: `\"${release}\"`."),
    key(
        "after",
        "name",
        Presence::Optional,
        "The deployment that must run the same release first.",
    ),
];

/// The names in `keys`.
pub(crate) fn names(keys: &'static [Key]) -> impl Iterator<Item = &'static str> {
    keys.iter().map(|key| key.name)
}
