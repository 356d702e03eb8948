//! What the initrd's init tells the root's init: a file on `/run`, because nothing else survives the exec.
//!
//! Its presence is also how init knows which of the two it is: in a fresh initrd there is no `/run`.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};
use slots::RootHash;

use super::BootDisk;
use crate::trace::Trace;
use crate::watchdog;

const FILE: &str = "/run/holdfast/handoff.json";

/// Everything the initrd has found out.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Handoff {
    #[serde(with = "root_hash")]
    pub(crate) root_hash: RootHash,
    pub(crate) disk: Option<BootDisk>,
    pub(crate) watchdog: Option<watchdog::Passed>,
    pub(crate) trace: Trace,
}

impl Handoff {
    /// Leaves it for the root's init.
    pub(crate) fn leave(&self) -> io::Result<()> {
        fs::write(FILE, serde_json::to_vec(self)?)
    }

    /// Takes what the initrd's init has left; `None` when this is the initrd.
    pub(crate) fn take() -> io::Result<Option<Self>> {
        match fs::read(FILE) {
            Ok(text) => {
                fs::remove_file(FILE)?;
                Ok(Some(serde_json::from_slice(&text)?))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A slot as its letter.
pub(super) mod slot {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use slots::Slot;

    pub(in super::super) fn serialize<S: Serializer>(slot: &Slot, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(slot)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Slot, D::Error> {
        match String::deserialize(from)?.as_str() {
            "a" => Ok(Slot::A),
            "b" => Ok(Slot::B),
            other => Err(de::Error::custom(format_args!("no slot is named {other}"))),
        }
    }
}

/// A root hash as its digits.
mod root_hash {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use slots::RootHash;

    pub(super) fn serialize<S: Serializer>(hash: &RootHash, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(hash)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<RootHash, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}
