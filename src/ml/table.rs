//! A CSV file in memory: header, cells, and for each record its line and its exact bytes.
//!
//! RFC 4180 with a header line, UTF-8, commas. Every record must have as many fields as the header;
//! blank lines are skipped. Unaware of what the columns mean.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::nearest::suggestion;

/// Why a table could not be read, or did not hold what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is no header line.
    #[error("line 1: the file is empty; help: a table starts with a line of column names")]
    Empty,
    /// A column of the header has no name.
    #[error("line {line}: column {column} has no name; help: give every column a name")]
    UnnamedColumn {
        /// The header's line, counted from 1.
        line: u64,
        /// The column, counted from 1.
        column: usize,
    },
    /// Two columns have one name.
    #[error(
        "line {line}: columns {first} and {second} are both called {name:?}; help: rename one, since steps refer to columns by name"
    )]
    DuplicateColumn {
        /// The header's line, counted from 1.
        line: u64,
        /// The name.
        name: String,
        /// The first of them, counted from 1.
        first: usize,
        /// The second of them, counted from 1.
        second: usize,
    },
    /// A record has more or fewer fields than the header.
    #[error(
        "line {line}: this record has {found}, the header {expected}; help: look for a comma that should be quoted, or a value that is missing"
    , found = fields(*found), expected = fields(*expected))]
    Ragged {
        /// Where the record starts, counted from 1.
        line: u64,
        /// Its fields.
        found: usize,
        /// The header's fields.
        expected: usize,
    },
    /// A record is not valid UTF-8.
    #[error(
        "line {line}: field {field} is not valid UTF-8; help: convert the file, for instance with `iconv -t UTF-8`"
    )]
    Encoding {
        /// Where the record starts, counted from 1.
        line: u64,
        /// The field, counted from 1.
        field: usize,
    },
    /// A quoted field is still open at the end of the file.
    #[error(
        "line {line}: a quote that opens in this record is never closed; help: close it, or double a quote that is part of the text"
    )]
    OpenQuote {
        /// Where the record starts, counted from 1.
        line: u64,
    },
    /// The table has no column of that name.
    #[error("there is no column {name:?}; help: {help}")]
    NoColumn {
        /// What was asked for.
        name: String,
        /// The nearest name, or what there is.
        help: String,
    },
    /// A cell that should hold a number is empty.
    #[error(
        "line {line}, column {column:?}: the value is missing where a number is needed; help: fill it in, drop the row, or ignore the column"
    )]
    Missing {
        /// Where the record starts, counted from 1.
        line: u64,
        /// The column's name.
        column: String,
    },
    /// A cell that should hold a number holds something else.
    #[error(
        "line {line}, column {column:?}: {value:?} is not a finite number; help: correct it, or ignore the column if it is not a measurement"
    )]
    NotANumber {
        /// Where the record starts, counted from 1.
        line: u64,
        /// The column's name.
        column: String,
        /// What stands there.
        value: String,
    },
}

/// `1 field`, `3 fields`.
fn fields(count: usize) -> String {
    if count == 1 { "1 field".to_owned() } else { format!("{count} fields") }
}

/// A table, read whole.
#[derive(Debug, Clone)]
pub struct Table {
    columns: Vec<String>,
    by_name: HashMap<String, usize>,
    /// The file as it is.
    bytes: Vec<u8>,
    /// Where the header stands in `bytes`, without its line end.
    header: Range<usize>,
    /// Every cell of every row, unquoted, one after the other.
    cells: String,
    /// `rows × columns` ends in `cells`.
    ends: Vec<usize>,
    records: Vec<Record>,
}

/// Where one record stands.
#[derive(Debug, Clone)]
struct Record {
    line: u64,
    span: Range<usize>,
}

impl Table {
    /// Reads a CSV file with a header line.
    ///
    /// # Errors
    /// When the file cannot be read, has no header, an unnamed or a repeated column, a record with
    /// another number of fields, text that is not UTF-8, or a quote that is never closed.
    pub fn read_csv(path: &Path) -> Result<Table, TableError> {
        let bytes = std::fs::read(path)
            .map_err(|source| TableError::Read { path: path.to_owned(), source })?;
        Table::parse(bytes)
    }

    /// Reads a table from the bytes of a CSV file.
    ///
    /// # Errors
    /// As [`Table::read_csv`].
    pub fn parse(bytes: Vec<u8>) -> Result<Table, TableError> {
        // `flexible`, since the check of the field count below gives the better message.
        let mut reader =
            csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(&bytes[..]);
        let mut record = csv::ByteRecord::new();
        let mut header = None;
        let mut by_name = HashMap::new();
        let mut columns = Vec::new();
        let (mut cells, mut ends, mut records) = (String::new(), Vec::new(), Vec::new());
        let mut place = Record { line: 1, span: 0..0 };
        loop {
            let start = offset(&reader);
            // Reading from memory into bytes has no way to fail.
            let more = reader.read_byte_record(&mut record).map_err(|error| TableError::Read {
                path: PathBuf::new(),
                source: std::io::Error::other(error),
            })?;
            if !more {
                break;
            }
            place = locate(&bytes, start, offset(&reader), place);
            if header.is_none() {
                header = Some(place.span.clone());
                columns = names(&record, place.line, &mut by_name)?;
                continue;
            }
            if record.len() != columns.len() {
                // An open quote swallows the rest of the file, which looks like a ragged record.
                closed(&bytes, &place)?;
                return Err(TableError::Ragged {
                    line: place.line,
                    found: record.len(),
                    expected: columns.len(),
                });
            }
            for (index, field) in record.iter().enumerate() {
                let text = std::str::from_utf8(field)
                    .map_err(|_| TableError::Encoding { line: place.line, field: index + 1 })?;
                cells.push_str(text);
                ends.push(cells.len());
            }
            records.push(place.clone());
        }
        let header = header.ok_or(TableError::Empty)?;
        closed(&bytes, &place)?;
        Ok(Table { columns, by_name, bytes, header, cells, ends, records })
    }

    /// The columns' names, in the order of the file.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// How many records follow the header.
    pub fn rows(&self) -> usize {
        self.records.len()
    }

    /// The cell of a row and a column, both counted from 0, unquoted.
    ///
    /// # Panics
    /// When the table has no such row or column.
    pub fn text(&self, row: usize, col: usize) -> &str {
        assert!(col < self.columns.len(), "column {col} of {}", self.columns.len());
        let index = row * self.columns.len() + col;
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.cells[start..self.ends[index]]
    }

    /// The line of the file on which a row (counted from 0) starts, counted from 1.
    ///
    /// # Panics
    /// When the table has no such row.
    pub fn line(&self, row: usize) -> u64 {
        self.records[row].line
    }

    /// A row's bytes exactly as the file has them, without the line end.
    ///
    /// # Panics
    /// When the table has no such row.
    pub fn raw(&self, row: usize) -> &[u8] {
        &self.bytes[self.records[row].span.clone()]
    }

    /// The header's bytes exactly as the file has them, without the line end.
    pub fn raw_header(&self) -> &[u8] {
        &self.bytes[self.header.clone()]
    }

    /// The index of a column.
    ///
    /// # Errors
    /// [`TableError::NoColumn`], with the nearest name.
    pub fn column(&self, name: &str) -> Result<usize, TableError> {
        self.by_name.get(name).copied().ok_or_else(|| TableError::NoColumn {
            name: name.to_owned(),
            help: suggestion(name, self.columns.iter().map(String::as_str)),
        })
    }

    /// A column as finite numbers; spaces around them do not count.
    ///
    /// # Errors
    /// [`TableError::Missing`] and [`TableError::NotANumber`], for the first such cell.
    ///
    /// # Panics
    /// When the table has no such column.
    pub fn numbers(&self, col: usize) -> Result<Vec<f64>, TableError> {
        (0..self.rows())
            .map(|row| number(self.text(row, col)).ok_or_else(|| self.no_number(row, col)))
            .collect()
    }

    /// A cell as a finite number, or NaN where nothing is: empty, `NA`, `NaN` or `null`.
    ///
    /// # Errors
    /// [`TableError::NotANumber`].
    ///
    /// # Panics
    /// When the table has no such row or column.
    pub fn number_or_gap(&self, row: usize, col: usize) -> Result<f64, TableError> {
        let text = self.text(row, col);
        match number(text) {
            Some(number) => Ok(number),
            None if is_gap(text) => Ok(f64::NAN),
            None => Err(self.no_number(row, col)),
        }
    }

    fn no_number(&self, row: usize, col: usize) -> TableError {
        let (line, column) = (self.line(row), self.columns[col].clone());
        let text = self.text(row, col);
        if text.trim().is_empty() {
            TableError::Missing { line, column }
        } else {
            TableError::NotANumber { line, column, value: shortened(text) }
        }
    }
}

/// The finite number that a cell holds, spaces around it aside. Words such as `inf` are none.
pub fn number(text: &str) -> Option<f64> {
    text.trim().parse::<f64>().ok().filter(|value| value.is_finite())
}

/// Whether a cell says that its value is missing.
fn is_gap(text: &str) -> bool {
    let text = text.trim();
    text.is_empty() || ["na", "nan", "null"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// A cell as messages quote it: at most 60 characters.
pub fn shortened(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// How far the reader has come, in bytes.
fn offset(reader: &csv::Reader<&[u8]>) -> usize {
    usize::try_from(reader.position().byte()).expect("the file is in memory, so its length fits")
}

/// A record's place, given the stretch that the reader consumed for it and the record before.
///
/// The reader leaves the `\n` of a `\r\n` and blank lines to the record that follows. A record
/// cannot start with a line end, nor end with one unless it is inside a quote, so trimming both
/// ends of the stretch is exact.
fn locate(bytes: &[u8], start: usize, end: usize, before: Record) -> Record {
    let is_line_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let skipped = bytes[start..end].iter().take_while(|byte| is_line_end(byte)).count();
    let first = start + skipped;
    let trailing = bytes[first..end].iter().rev().take_while(|byte| is_line_end(byte)).count();
    let breaks = &bytes[before.span.start..first];
    Record { line: before.line + line_breaks(breaks), span: first..end - trailing }
}

/// Line ends in a stretch of text: `\n`, `\r\n` and a lone `\r` count one each.
fn line_breaks(text: &[u8]) -> u64 {
    let mut count = 0;
    let mut previous = 0;
    for &byte in text {
        count += u64::from(byte == b'\r' || (byte == b'\n' && previous != b'\r'));
        previous = byte;
    }
    count
}

/// Refuses a record at the end of the file whose quote is still open: then a further line would
/// become part of it instead of a record of its own.
fn closed(bytes: &[u8], last: &Record) -> Result<(), TableError> {
    if bytes[last.span.end..].iter().any(|byte| !matches!(byte, b'\r' | b'\n')) {
        return Ok(());
    }
    let mut text = bytes[last.span.clone()].to_vec();
    text.extend_from_slice(b"\nx");
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(&text[..]);
    if reader.byte_records().count() < 2 {
        return Err(TableError::OpenQuote { line: last.line });
    }
    Ok(())
}

/// The header's names, each present, valid and used once.
fn names(
    record: &csv::ByteRecord,
    line: u64,
    by_name: &mut HashMap<String, usize>,
) -> Result<Vec<String>, TableError> {
    let mut columns = Vec::with_capacity(record.len());
    for (index, field) in record.iter().enumerate() {
        let name = std::str::from_utf8(field)
            .map_err(|_| TableError::Encoding { line, field: index + 1 })?
            .to_owned();
        if name.trim().is_empty() {
            return Err(TableError::UnnamedColumn { line, column: index + 1 });
        }
        if let Some(first) = by_name.insert(name.clone(), index) {
            return Err(TableError::DuplicateColumn {
                line,
                name,
                first: first + 1,
                second: index + 1,
            });
        }
        columns.push(name);
    }
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(text: &str) -> Table {
        Table::parse(text.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn no_bytes_make_the_reader_break_its_word() {
        kiln_fuzzing::Fuzz::new("table")
            .samples([
                &b"a,b,c\n1,2,3\n4,5,6\n"[..],
                b"a,b\r\n\"x\"\"y\",\"1\n2\"\r\n\r\n,\r\n",
                b"\xef\xbb\xbfid,\xc3\xa9\n1,\xff\n",
                b"a\n\"",
            ])
            .words(["\"", ",", "\n", "\r", "\r\n", "\"\"", "1e309", "nan", "\u{feff}"])
            .bytes(|bytes| match Table::parse(bytes.to_vec()) {
                Ok(table) => {
                    for row in 0..table.rows() {
                        let raw = table.raw(row);
                        assert!(bytes.windows(raw.len().max(1)).any(|part| part == raw));
                        assert!(table.line(row) <= bytes.len() as u64 + 1);
                        for column in 0..table.columns().len() {
                            let _ = shortened(table.text(row, column));
                        }
                    }
                    for (place, name) in table.columns().iter().enumerate() {
                        assert_eq!(table.column(name).unwrap(), place);
                        let _ = table.numbers(place).map_err(|error| error.to_string());
                    }
                }
                Err(error) => assert!(!error.to_string().contains('\n')),
            });
    }

    fn refusal(text: &[u8]) -> String {
        Table::parse(text.to_vec()).unwrap_err().to_string()
    }

    #[test]
    fn cells_lines_and_raw_bytes_agree_with_the_file() {
        let table = table("a,b\r\n1,\"x, \"\"y\"\"\nz\"\r\n\r\n\n2,q\r\n");
        assert_eq!(table.columns(), ["a", "b"]);
        assert_eq!(table.rows(), 2);
        assert_eq!(table.text(0, 1), "x, \"y\"\nz");
        assert_eq!(table.raw(0), b"1,\"x, \"\"y\"\"\nz\"");
        assert_eq!(table.raw(1), b"2,q");
        assert_eq!(table.raw_header(), b"a,b");
        assert_eq!((table.line(0), table.line(1)), (2, 6));
    }

    #[test]
    fn numbers_names_the_line_and_the_value_that_is_none() {
        let good = table("a,b\n 1.5 ,x\n-2e3,\n");
        assert_eq!(good.numbers(0).unwrap(), [1.5, -2000.0]);
        assert_eq!(
            good.numbers(1).unwrap_err().to_string(),
            "line 2, column \"b\": \"x\" is not a finite number; help: correct it, or ignore the \
             column if it is not a measurement"
        );
        let missing = table("a\n1\n\"\"\n").numbers(0).unwrap_err().to_string();
        assert!(missing.starts_with("line 3, column \"a\": the value is missing"), "{missing}");
        assert!(table("a\ninf\n").numbers(0).is_err());
        assert!(table("a\nNaN\n").numbers(0).is_err());
    }

    #[test]
    fn a_column_that_is_not_there_gets_the_nearest_name() {
        let text = table("diagnosis,id\n").column("diagnosys").unwrap_err().to_string();
        assert_eq!(text, "there is no column \"diagnosys\"; help: did you mean \"diagnosis\"?");
    }

    #[test]
    fn malformed_files_are_refused_with_the_line() {
        let cases: [(&[u8], &str); 8] = [
            (b"", "line 1: the file is empty"),
            (b"\n\n", "line 1: the file is empty"),
            (b"a,,c\n", "line 1: column 2 has no name"),
            (b"a,b,a\n", "line 1: columns 1 and 3 are both called \"a\""),
            (b"a,b\n1,2\n\n3\n", "line 4: this record has 1 field, the header 2 fields"),
            (b"a,b\n1,\xff\n", "line 2: field 2 is not valid UTF-8"),
            (b"a\n1\n\"open\n", "line 3: a quote that opens in this record is never closed"),
            (b"a,b\n1,2\n\"3,4\n5,6\n", "line 3: a quote that opens in this record"),
        ];
        for (text, start) in cases {
            let message = refusal(text);
            assert!(message.starts_with(start), "{message:?} does not start with {start:?}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Table::read_csv(Path::new("no/such.csv")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read no/such.csv");
        assert!(std::error::Error::source(&error).is_some());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(
            prop_oneof![Just(b','), Just(b'"'), Just(b'\n'), Just(b'\r'), Just(b'a'), any::<u8>()],
            0..60,
        )) {
            if let Ok(table) = Table::parse(bytes) {
                // Header and records, written one a line, are the same table again.
                let mut again = table.raw_header().to_vec();
                for row in 0..table.rows() {
                    again.push(b'\n');
                    again.extend_from_slice(table.raw(row));
                }
                let copy = Table::parse(again).unwrap();
                prop_assert_eq!(copy.columns(), table.columns());
                prop_assert_eq!(copy.cells, table.cells);
                prop_assert_eq!(copy.ends, table.ends);
            }
        }
    }
}
