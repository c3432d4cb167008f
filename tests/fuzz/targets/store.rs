//! Everything that the store reads back: the first byte says which reader gets the rest.

#![no_main]

use kiln_cache::fuzz;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else { return };
    match which % 8 {
        0 => fuzz::frame(bytes),
        1 => fuzz::record(bytes),
        2 => fuzz::listing(bytes),
        3 => fuzz::tree(bytes),
        4 => fuzz::root(bytes),
        5 => fuzz::tombstones(bytes),
        6 => fuzz::stat_row(bytes),
        _ => fuzz::names(&String::from_utf8_lossy(bytes)),
    }
});
