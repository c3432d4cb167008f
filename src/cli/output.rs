//! A stdout or stderr that cannot be written: nobody reads it any more, or its disk is full.

use std::{panic, process};

/// Ends the program in a word where printing fails, rather than with a panic's message.
///
/// The macros that print panic if they cannot. Whoever closed a pipe has seen enough (`kiln graph | head`): that is the
/// end of the output and no failure. Anything else is one.
pub fn end_where_nobody_reads() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let text = info.payload_as_str().unwrap_or_default();
        if !text.starts_with("failed printing to ") {
            return usual(info);
        }
        if text.contains("Broken pipe") {
            process::exit(0);
        }
        // stderr may be what cannot be written; then the exit code alone has to tell.
        drop(std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("error: {text}\n")));
        process::exit(1);
    }));
}
