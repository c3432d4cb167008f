//! CSV tables: any bytes are a table whose cells can be read, or a refusal in one line.

#![no_main]

use kiln_ml::table::Table;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| match Table::parse(bytes.to_vec()) {
    Ok(table) => {
        for row in 0..table.rows() {
            let _ = (table.raw(row), table.line(row));
            for column in 0..table.columns().len() {
                let _ = table.text(row, column);
            }
        }
    }
    Err(error) => assert!(!error.to_string().contains('\n')),
});
