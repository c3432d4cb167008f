//! Memos and what stands beside them: the first byte says which reader gets the rest.

#![no_main]

use kiln_engine::memo::fuzz;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else { return };
    if which % 2 == 0 { fuzz::memo(bytes) } else { fuzz::sight(bytes) }
});
