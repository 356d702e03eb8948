//! The two slots of a disk: their partitions, their root hashes and their kernel images.

use std::str::FromStr;

use anyhow::{Context, Result};
use gpt::{Table, names};
use slots::{Slot, UkiName};
use verity::RootHash;

use crate::esp::Esp;
use crate::uki;

/// Names of the root and the verity partition of a slot.
pub(crate) fn partitions(slot: Slot) -> (&'static str, &'static str) {
    match slot {
        Slot::A => (names::ROOT_A, names::VERITY_A),
        Slot::B => (names::ROOT_B, names::VERITY_B),
    }
}

/// The root hash that the PARTUUIDs of a slot say. An unused slot says one that no kernel image names.
pub(crate) fn root_hash(table: &Table, slot: Slot) -> Option<RootHash> {
    let (root, verity) = partitions(slot);
    let halves = [table.find(root)?, table.find(verity)?].map(|p| p.id.to_u128().to_be_bytes());
    halves.concat().try_into().ok().map(RootHash::from_bytes)
}

/// A kernel image on the ESP.
#[derive(Debug)]
pub(crate) struct Installed {
    /// Its name.
    pub(crate) name: UkiName,
    /// The root that it boots; `None` when it is damaged.
    pub(crate) root_hash: Option<RootHash>,
}

/// Our kernel images on the ESP. Others are left alone.
pub(crate) fn installed(esp: &Esp) -> Vec<Installed> {
    let ours = |(file, image): (&str, &[u8])| {
        Some(Installed { name: UkiName::from_str(file).ok()?, root_hash: uki_root_hash(image).ok() })
    };
    esp.images().filter_map(ours).collect()
}

/// The root hash in the command line of a unified kernel image.
pub(crate) fn uki_root_hash(image: &[u8]) -> Result<RootHash> {
    let sections = uki::sections(image)?;
    let cmdline = sections.get(".cmdline").context("it has no command line")?;
    let cmdline = String::from_utf8_lossy(cmdline);
    let key = format!("{}=", plan::paths::CMDLINE_ROOT);
    let hash = cmdline.split_whitespace().find_map(|word| word.strip_prefix(&key));
    Ok(hash.with_context(|| format!("its command line has no {key}"))?.parse()?)
}
