//! What a container mounts of the node and cannot find by itself: because its ids are others, or because mounts that are made
//! later are to reach it.
//!
//! Mounts reach each other's places when these are of one peer group (mount_namespaces(7)). The node's mounts are in none,
//! so a directory that is to share becomes a mount, on itself, and that one shared, the first time that somebody asks.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use plan::container::{Bind, Propagation};
use plan::{ServiceName, ShimConfig, paths};
use rustix::fs::{AtFlags, CWD, FlockOperation, StatxAttributes, StatxFlags, flock, statx};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, OpenTreeFlags, mount_change, open_tree};

use crate::ids::{CLONE, Ids, attach};

/// What is mounted of the node is not.
#[derive(Debug, thiserror::Error)]
#[error("cannot bring {path} into the container")]
pub(crate) struct BindError {
    path: PathBuf,
    source: io::Error,
}

/// What is to share mounts with the node, by its place in the list of binds.
#[derive(Debug)]
pub(crate) struct Peers(Vec<Option<OwnedFd>>);

impl Peers {
    /// Opens them. Only while this process is in the node's mount namespace are they the node's.
    pub(crate) fn open(config: &ShimConfig) -> Result<Self, BindError> {
        let open = |bind: &Bind| {
            bind.propagation?;
            let made = config.directories.iter().any(|directory| directory.path == bind.source);
            let made = if made { fs::create_dir_all(&bind.source) } else { Ok(()) };
            let peer = made.and_then(|()| peer_of(&bind.source));
            Some(peer.map_err(|source| BindError { path: bind.source.clone(), source }))
        };
        config.binds.iter().map(|bind| open(bind).transpose()).collect::<Result<_, _>>().map(Self)
    }

    /// Mounts all binds of `config` where `config.json` mounts them from.
    pub(crate) fn mount(self, config: &ShimConfig, ids: Option<&Ids>) -> Result<(), BindError> {
        for (number, (bind, peer)) in config.binds.iter().zip(self.0).enumerate() {
            mount(&config.name, number, bind, peer, ids)
                .map_err(|source| BindError { path: bind.source.clone(), source })?;
        }
        Ok(())
    }
}

fn mount(
    name: &ServiceName,
    number: usize,
    bind: &Bind,
    peer: Option<OwnedFd>,
    ids: Option<&Ids>,
) -> io::Result<()> {
    let whole = if bind.whole { OpenTreeFlags::AT_RECURSIVE } else { OpenTreeFlags::empty() };
    let tree = peer.map_or_else(|| open_tree(CWD, &bind.source, CLONE | whole), Ok)?;
    if let Some(ids) = ids.filter(|_| bind.whole) {
        match ids.show(&tree) {
            // Some file systems, as those of the kernel's own, have no other ids than the node's.
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {}
            shown => shown?,
        }
    }
    let target = paths::bind(name.as_str(), number);
    make_target(&target, fs::metadata(&bind.source)?.is_dir())?;
    attach(&tree, &target)?;
    if bind.propagation == Some(Propagation::Slave) {
        mount_change(&target, MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    }
    Ok(())
}

fn make_target(path: &Path, directory: bool) -> io::Result<()> {
    if directory {
        return fs::create_dir_all(path);
    }
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    File::create(path).map(drop)
}

/// A mount of `source` that is not attached yet, in one peer group with the node's.
fn peer_of(source: &Path) -> io::Result<OwnedFd> {
    let source = source.canonicalize()?;
    // Of two shims that find it alone both would mount it on itself, one above the other.
    let lock = File::create(Path::new(paths::RUN).join("shared-mounts.lock"))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    let whole = CLONE | OpenTreeFlags::AT_RECURSIVE;
    let found = statx(CWD, &source, AtFlags::empty(), StatxFlags::MNT_ID)?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    if !has_peers(&mounts, &found.stx_mnt_id.to_string()) {
        if !found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
            attach(&open_tree(CWD, &source, whole)?, &source)?;
        }
        mount_change(&source, MountPropagationFlags::SHARED | MountPropagationFlags::REC)?;
    }
    Ok(open_tree(CWD, &source, whole)?)
}

/// Whether the mount `id` is in a peer group, by the text of proc_pid_mountinfo(5).
fn has_peers(mounts: &str, id: &str) -> bool {
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mut found = fields.filter(|fields| fields.first() == Some(&id));
    found.next().is_some_and(|fields| {
        let mut optional = fields.iter().skip(6).take_while(|field| **field != "-");
        optional.any(|field| field.starts_with("shared:"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_s_peer_group_is_among_its_optional_fields() {
        let mounts = "22 1 0:20 / / rw - erofs /dev/dm-0 ro\n\
                      23 22 0:21 / /srv rw,relatime master:2 shared:7 - tmpfs shared:x rw\n\
                      24 22 0:22 / /mnt rw master:2 - tmpfs shared:x rw\n";
        assert!(has_peers(mounts, "23"));
        assert!(!has_peers(mounts, "22") && !has_peers(mounts, "24") && !has_peers(mounts, "2"));
    }
}
