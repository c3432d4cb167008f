//! The store's file system: which, how much is free, what it can do.

use std::{fs::File, path::Path};

use kiln_cache::Store;

use super::{Finding, Health};
use crate::cli::{failure::chain, style};

/// Less free space than this is said.
const LITTLE: u64 = 1 << 30;

/// Looks at the store in `home`, making it if it is not there.
pub fn look(home: &Path) -> Vec<Finding> {
    let store = match Store::open(home) {
        Ok(store) => store,
        Err(error) => {
            let help = "mend it, or name another place: --home DIR, or KILN_HOME=DIR";
            return vec![Finding::wrong("store", "opens", Health::Broken, chain(&error), help)];
        }
    };
    let mut findings = vec![match store.read_only() {
        None => Finding::works("store", "opens", "can be read and written"),
        Some(why) => Finding::wrong(
            "store",
            "opens",
            Health::Missing,
            format!("can only be read: {why}"),
            "what is in it is used; to build more, name another place: --home DIR, or KILN_HOME=DIR",
        ),
    }];
    let notices = store.take_notices();
    findings.push(
        match notices.iter().find(|notice| notice.path.starts_with(home.join("index"))) {
            None => Finding::works("store", "index", "opens"),
            Some(notice) => Finding::wrong(
                "store",
                "index",
                Health::Missing,
                notice.what.clone(),
                "it is derived: remove the folder index/ in the store, and it is made again",
            ),
        },
    );
    findings.extend(file_system(home));
    findings.push(reflinks(&store));
    findings
}

fn file_system(home: &Path) -> Vec<Finding> {
    let found = match rustix::fs::statfs(home) {
        Ok(found) => found,
        Err(error) => {
            let what = format!("cannot be asked: {error}");
            return vec![Finding::wrong("store", "file system", Health::Missing, what, "")];
        }
    };
    // The field's type differs between architectures; magic numbers have 32 bits.
    let (name, network) = name(found.f_type as u32);
    let kind = match network {
        false => Finding::works("store", "file system", name),
        true => Finding::wrong(
            "store",
            "file system",
            Health::Missing,
            format!("{name}: over a network, locks and times cannot be relied on"),
            "put the store on a local disk: --home DIR, or KILN_HOME=DIR",
        ),
    };
    let free = found.f_bavail.saturating_mul(u64::try_from(found.f_bsize).unwrap_or(0));
    let space = match free {
        0..LITTLE => Finding::wrong(
            "store",
            "free space",
            if free == 0 { Health::Broken } else { Health::Missing },
            style::bytes(free),
            "kiln gc removes what nothing holds any more",
        ),
        _ => Finding::works("store", "free space", style::bytes(free)),
    };
    vec![kind, space]
}

/// A file system's name by its magic number (`linux/magic.h`), and whether it lies behind a network.
fn name(magic: u32) -> (String, bool) {
    let (name, network) = match magic {
        0xEF53 => ("ext4", false),
        0x9123_683E => ("btrfs", false),
        0x5846_5342 => ("xfs", false),
        0x2FC1_2FC1 => ("zfs", false),
        0xCA45_1A4E => ("bcachefs", false),
        0xF2F5_2010 => ("f2fs", false),
        0x0102_1994 => ("tmpfs", false),
        0x794C_7630 => ("overlayfs", false),
        0x6573_5546 => ("FUSE", false),
        0x6969 => ("NFS", true),
        0xFF53_4D42 => ("CIFS", true),
        0xFE53_4D42 => ("SMB", true),
        0x0102_1997 => ("9p", true),
        0x00C3_6400 => ("Ceph", true),
        0x0BD0_0BD0 => ("Lustre", true),
        0x4750_4653 => ("GPFS", true),
        0x5346_414F => ("AFS", true),
        _ => return (format!("unknown (0x{magic:x})"), false),
    };
    (name.to_owned(), network)
}

fn reflinks(store: &Store) -> Finding {
    match try_reflink(store) {
        Ok(()) => Finding::works("store", "reflinks", "copies share their blocks"),
        Err(error) => Finding::wrong(
            "store",
            "reflinks",
            Health::Missing,
            format!("not here ({error}); kiln copy and snapshots copy bytes"),
            "btrfs, xfs and bcachefs have them",
        ),
    }
}

fn try_reflink(store: &Store) -> Result<(), String> {
    let scratch = store.scratch_dir().map_err(|error| chain(&error))?;
    let (from, to) = (scratch.path().join("from"), scratch.path().join("to"));
    std::fs::write(&from, [0; 8192]).map_err(|error| error.to_string())?;
    let from = File::open(&from).map_err(|error| error.to_string())?;
    let to = File::create(&to).map_err(|error| error.to_string())?;
    rustix::fs::ioctl_ficlone(&to, &from).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_told_from_local_ones() {
        assert_eq!(name(0x6969), ("NFS".to_owned(), true));
        assert_eq!(name(0xEF53), ("ext4".to_owned(), false));
    }

    #[test]
    fn a_home_that_is_a_file_stops_builds() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("home");
        std::fs::write(&file, "").unwrap();
        assert!(look(&file).iter().any(|finding| finding.health == Health::Broken));
    }
}
