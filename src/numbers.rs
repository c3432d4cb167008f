//! Who reads numbers in files for the engine: the formats that `kiln_ml` knows.

use std::path::Path;

use kiln_engine::{
    difference::{Comparison, Deviation, Numbers},
    graph::Tolerance,
};
use kiln_ml::deviation::{self, Bound, Format};

use crate::cli::chain;

/// See the module.
pub struct NumbersInFiles;

impl Numbers for NumbersInFiles {
    fn compare(
        &self,
        name: &str,
        before: &Path,
        after: &Path,
        tolerance: Tolerance,
    ) -> Option<Result<Comparison, String>> {
        let format = Format::of(name)?;
        let bound = Bound { absolute: tolerance.absolute, relative: tolerance.relative };
        let compared = deviation::compare(format, before, after, bound);
        Some(match compared {
            Ok(deviation::Comparison::Alike { worst, beyond }) => Ok(Comparison::Alike {
                worst: worst.map(|worst| Deviation {
                    file: name.to_owned(),
                    place: worst.place,
                    before: worst.before,
                    after: worst.after,
                    excess: worst.excess,
                }),
                beyond,
            }),
            Ok(deviation::Comparison::Unlike(what)) => Ok(Comparison::Unlike(what)),
            Err(error) => Err(chain(&error)),
        })
    }
}
