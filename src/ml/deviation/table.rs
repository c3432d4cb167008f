//! Tables: records of fields, compared a record at a time.

use std::{fs::File, io::BufReader, path::Path};

use csv::ByteRecord;

use super::{Found, Source, Stop};

pub(super) fn compare(
    before: &Path,
    after: &Path,
    delimiter: u8,
    found: &mut Found,
) -> Result<(), Stop> {
    let mut old = Records::open(Source(before), delimiter)?;
    let mut new = Records::open(Source(after), delimiter)?;
    let mut header = None;
    for row in 1u64.. {
        let (one, other) = (old.next()?, new.next()?);
        let (one, other) = match (one, other) {
            (None, None) => break,
            (Some(one), Some(other)) => (one, other),
            (Some(_), None) => return Err(Stop::Unlike(format!("row {row} is gone"))),
            (None, Some(_)) => return Err(Stop::Unlike(format!("row {row} is new"))),
        };
        if one.len() != other.len() {
            let (one, other) = (one.len(), other.len());
            return Err(Stop::Unlike(format!("row {row} had {one} fields, and has {other}")));
        }
        if row == 1 {
            let names_columns = one.iter().all(|cell| number(cell).is_none()) && one == other;
            header = names_columns.then(|| one.clone());
        }
        for (column, (cell, another)) in one.iter().zip(other.iter()).enumerate() {
            if cell == another {
                continue;
            }
            let place = || {
                let name = header.as_ref().and_then(|header| header.get(column));
                match name.map(String::from_utf8_lossy) {
                    Some(name) => format!("row {row}, column `{name}`"),
                    None => format!("row {row}, column {}", column + 1),
                }
            };
            let are_numbers = match (number(cell), number(another)) {
                (Some(one), Some(other)) => found.texts(one, other, place),
                _ => false,
            };
            if !are_numbers {
                let (cell, another) = (shown(cell), shown(another));
                return Err(Stop::Unlike(format!("{}: {cell} → {another}", place())));
            }
        }
    }
    Ok(())
}

fn number(cell: &[u8]) -> Option<&str> {
    let text = str::from_utf8(cell).ok()?.trim();
    text.parse::<f64>().ok().map(|_| text)
}

fn shown(cell: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(cell).chars().take(40).collect();
    format!("{text:?}")
}

struct Records<'a> {
    source: Source<'a>,
    reader: csv::Reader<BufReader<File>>,
    record: ByteRecord,
}

impl<'a> Records<'a> {
    fn open(source: Source<'a>, delimiter: u8) -> Result<Self, Stop> {
        let file = File::open(source.0).map_err(|error| source.unread(error))?;
        let reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter)
            .from_reader(BufReader::new(file));
        Ok(Self { source, reader, record: ByteRecord::new() })
    }

    fn next(&mut self) -> Result<Option<&ByteRecord>, Stop> {
        match self.reader.read_byte_record(&mut self.record) {
            Ok(true) => Ok(Some(&self.record)),
            Ok(false) => Ok(None),
            Err(error) => Err(match error.into_kind() {
                csv::ErrorKind::Io(error) => self.source.unread(error),
                other => self.source.wrong(format!("{other:?}")),
            }
            .into()),
        }
    }
}
