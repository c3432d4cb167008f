//! Aligned columns of plain text.

use std::fmt;

use super::visible::visible;

/// Rows under a header, printed with two blanks between columns.
#[derive(Debug)]
pub struct Table {
    headers: Vec<String>,
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headers. One that begins with `>` has its column aligned to the right, as numbers want it.
    pub fn new(headers: &[&str]) -> Self {
        Self {
            right: headers.iter().map(|header| header.starts_with('>')).collect(),
            headers: headers
                .iter()
                .map(|header| header.trim_start_matches('>').to_owned())
                .collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row: one cell for each header.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) -> &mut Self {
        let cells = cells.into_iter().map(|cell| visible(&cell.into()).into_owned());
        let row: Vec<String> = cells.collect();
        debug_assert_eq!(row.len(), self.headers.len());
        self.rows.push(row);
        self
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = || {
            std::iter::once(&self.headers)
                .filter(|row| row.iter().any(|cell| !cell.is_empty()))
                .chain(&self.rows)
        };
        let mut widths = vec![0; self.headers.len()];
        for row in lines() {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in lines() {
            let mut line = String::new();
            for ((cell, &width), &right) in row.iter().zip(&widths).zip(&self.right) {
                let padding = " ".repeat(width - cell.chars().count());
                let (before, after) =
                    if right { (padding, String::new()) } else { (String::new(), padding) };
                line.push_str(&format!("{before}{cell}{after}  "));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_numbers_stand_right() {
        let mut table = Table::new(&["step", ">bytes", "note"]);
        table.row(["a", "7", "é"]).row(["longer", "1234", ""]);
        assert_eq!(table.to_string(), "step    bytes  note\na           7  é\nlonger   1234\n");
    }

    #[test]
    fn empty_headers_take_no_line() {
        let mut table = Table::new(&["", ""]);
        table.row(["x", "y"]);
        assert_eq!(table.to_string(), "x  y\n");
    }
}
