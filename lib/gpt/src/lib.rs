//! GUID partition tables (UEFI specification 2.10, chapter 5): read, changed in memory, written back.
//!
//! PID 1 and image-build share it. It must never panic, whatever a disk holds, and it never writes by itself: the
//! caller writes the backup, syncs, writes the primary, syncs ([`Table::write_backup`], [`Table::write_primary`]),
//! so that one of the two is whole at every moment.

#![warn(missing_docs)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod disk;
mod guid;
mod table;

pub use disk::{Origin, ReadError};
pub use guid::{Guid, InvalidGuid};
pub use table::{ChangeError, Extent, Partition, Table};

/// Partition types: from the Discoverable Partitions Specification, and our own.
pub mod types {
    use crate::Guid;

    /// EFI system partition.
    pub const ESP: Guid = Guid::from_u128(0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b);
    /// Root file system, x86-64.
    pub const ROOT: Guid = Guid::from_u128(0x4f68bce3_e8cd_4db1_96e7_fbcaf984b709);
    /// Hash tree of a root file system, x86-64.
    pub const ROOT_VERITY: Guid = Guid::from_u128(0x2c7357ed_ebd2_46d9_aec1_23d437ec2bf5);
    /// `/var`: the state.
    pub const STATE: Guid = Guid::from_u128(0x4d21b016_b534_45c2_a9fb_5c16e091fd2d);
    /// Holdfast's recorder: drawn at random for it.
    pub const RECORDER: Guid = Guid::from_u128(0x069c5c11_d5da_4054_8fd9_2a26e92343b7);
}

/// Names of the partitions on a Holdfast disk.
pub mod names {
    /// EFI system partition.
    pub const ESP: &str = "esp";
    /// Root file system of slot a.
    pub const ROOT_A: &str = "root-a";
    /// Hash tree of slot a.
    pub const VERITY_A: &str = "verity-a";
    /// Root file system of slot b.
    pub const ROOT_B: &str = "root-b";
    /// Hash tree of slot b.
    pub const VERITY_B: &str = "verity-b";
    /// The recorder.
    pub const RECORDER: &str = "recorder";
    /// The state.
    pub const STATE: &str = "state";
}
