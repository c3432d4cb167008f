//! The `kiln` binary: parse, dispatch, exit code.

mod builders;
mod cli;
mod numbers;

use std::process::ExitCode;

use kiln_engine::{local::BUILDER_WORD, sandbox};

fn main() -> ExitCode {
    sandbox::adapt_to_container();
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().collect();
    match arguments.get(1).and_then(|word| word.to_str()) {
        Some(sandbox::INIT_WORD) => sandbox::init_main(&arguments[2..]),
        Some(BUILDER_WORD) => builders::main(&arguments[2..]),
        _ => cli::main(arguments),
    }
}
