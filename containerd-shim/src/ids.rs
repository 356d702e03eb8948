//! A container's own ids: a user namespace, in which its root is nobody to the node, and mounts through which files have the
//! ids that the container means.
//!
//! What lies on a disk has the container's ids, from 0 up: in images, in the writable layer, in volumes. Only the mounts that
//! this container sees make ids of the node of them, so it does not matter on which node, or with which range of ids, files
//! were written. The user namespace has to be there before the first mount, so it is made here and not by libcontainer.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use oci_spec::runtime::Process;
use plan::container::IdRange;
use rustix::fs::{AtFlags, CWD, Mode, chownat, mknodat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsmount,
    fsopen, move_mount, open_tree,
};

use crate::exec::resource;

/// Why a container has no ids of its own.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdError {
    #[error("cannot make a user namespace")]
    Namespace(#[source] io::Error),
    #[error("cannot {what}")]
    Step { what: &'static str, source: io::Error },
}

/// The ids of a container.
#[derive(Debug)]
pub(crate) struct Ids {
    namespace: OwnedFd,
    range: IdRange,
}

/// A device of the node, as it is to be in a container.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    pub(crate) mode: u32,
    pub(crate) device: u64,
    pub(crate) owner: (u32, u32),
}

impl Ids {
    pub(crate) fn new(range: IdRange) -> Result<Self, IdError> {
        let namespace =
            sys::id_map::user_namespace(range.first, IdRange::COUNT).map_err(IdError::Namespace)?;
        Ok(Self { namespace, range })
    }

    /// Those of another container.
    pub(crate) fn of(namespace: OwnedFd, range: IdRange) -> Self {
        Self { namespace, range }
    }

    /// What ids of the container are on the node, and the other way round.
    pub(crate) fn range(&self) -> IdRange {
        self.range
    }

    /// Lets a mount that is not attached yet show the container's ids.
    pub(crate) fn show(&self, tree: impl AsFd) -> io::Result<()> {
        sys::id_map::set(tree, &self.namespace)
    }

    /// Puts `directory`, with the container's ids, on `target`.
    pub(crate) fn show_at(&self, directory: &Path, target: &Path) -> io::Result<()> {
        let tree = open_tree(CWD, directory, CLONE)?;
        self.show(&tree)?;
        Ok(attach(&tree, target)?)
    }

    /// Does something to files as the container's root, but with the rights of the node's: the only one whose files the
    /// container's mounts can make.
    pub(crate) fn as_root<T>(&self, act: impl FnOnce() -> T) -> io::Result<T> {
        let held = caps::read(None, caps::CapSet::Permitted).map_err(io::Error::other)?;
        setfsgid(Gid::from_raw(self.range.first));
        setfsuid(Uid::from_raw(self.range.first));
        // The kernel takes those over files away with the id (capabilities(7)), and gives them back with it.
        let raised = caps::set(None, caps::CapSet::Effective, &held).map_err(io::Error::other);
        let result = raised.map(|()| act());
        setfsuid(Uid::from_raw(0));
        setfsgid(Gid::from_raw(0));
        result
    }

    /// Makes what `config.json` names below the shim's own `directory`: the user namespace and the container's files.
    pub(crate) fn prepare(&self, directory: &Path) -> Result<(), IdError> {
        let step = |what| move |source| IdError::Step { what, source };
        symlink(path_of(&self.namespace), directory.join("userns"))
            .map_err(step("name the user namespace"))?;
        let files = directory.join("files");
        if files.exists() {
            self.show_at(&files, &files).map_err(step("give the container its files"))?;
        }
        Ok(())
    }

    /// Makes device nodes, with the container's ids as their owners, and gives their paths. No container with a user namespace
    /// can make any itself.
    pub(crate) fn devices(&self, directory: &Path, nodes: &[Node]) -> io::Result<Vec<PathBuf>> {
        let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&fs)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let mount = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        let target = directory.join("devices");
        for (number, node) in nodes.iter().enumerate() {
            let name = number.to_string();
            let kind = rustix::fs::FileType::from_raw_mode(node.mode);
            mknodat(&mount, &name, kind, Mode::from_raw_mode(node.mode & 0o777), node.device)?;
            let (user, group) = node.owner;
            let (user, group) = (rustix::fs::Uid::from_raw(user), rustix::fs::Gid::from_raw(group));
            chownat(&mount, &name, Some(user), Some(group), AtFlags::empty())?;
        }
        self.show(&mount)?;
        fs::create_dir(&target)?;
        attach(&mount, &target)?;
        Ok((0..nodes.len()).map(|number| target.join(number.to_string())).collect())
    }
}

pub(crate) const CLONE: OpenTreeFlags =
    OpenTreeFlags::OPEN_TREE_CLONE.union(OpenTreeFlags::OPEN_TREE_CLOEXEC);

/// Attaches a mount that is not attached yet.
pub(crate) fn attach(mount: &OwnedFd, target: &Path) -> rustix::io::Result<()> {
    move_mount(mount, c"", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// A path that leads to what is open, for this process and its forks.
fn path_of(fd: &impl AsRawFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

/// Raises the most that this process may allow itself to what `process` has. Only the node's root may, and with a user
/// namespace of its own a process is not that any more when it takes its limits on.
pub(crate) fn raise_limits(process: &Process) -> io::Result<()> {
    for limit in process.rlimits().iter().flatten() {
        let kind = resource(limit.typ());
        let (soft, hard) = nix::sys::resource::getrlimit(kind)?;
        nix::sys::resource::setrlimit(kind, soft, hard.max(limit.hard()))?;
    }
    Ok(())
}
