//! The container's root: one EROFS file a layer, overlayfs on top, in a mount namespace of the shim's own.
//!
//! All of it lies on a tmpfs that only this namespace sees: mount points need no clearing up.
//!
//! Layers are mounted straight from their files (no loop devices). `lowerdir+` of the newer mount interface takes
//! one layer at a time, so an image may have more layers than fit the page of options that mount(2) takes.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use plan::ShimConfig;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_bind, mount_change, mount_remount,
};
use sys::verity_digest;

use crate::ids::{Ids, attach};
use crate::quota::{self, QuotaError};
use crate::within;

/// Why there is no root.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootfsError {
    #[error(transparent)]
    Quota(#[from] QuotaError),
    #[error("cannot get a mount namespace")]
    Namespace(#[source] io::Error),
    #[error("cannot make the directory {path}")]
    Directory { path: PathBuf, source: io::Error },
    #[error("cannot mount a tmpfs on {path}")]
    Tmpfs { path: PathBuf, source: io::Error },
    #[error(
        "the layer {path} is not as it was pulled: its fs-verity digest is {found}, and {wanted} is recorded; it is not run, and pulled again"
    )]
    Altered { path: PathBuf, found: String, wanted: String },
    #[error("cannot measure the layer {path}; it is not run, and pulled again")]
    Measure { path: PathBuf, source: io::Error },
    #[error("cannot mount the layer {path}{said}")]
    Layer { path: PathBuf, said: KernelSaid, source: io::Error },
    #[error("cannot mount the root with its writable layer in {path}{said}")]
    Overlay { path: PathBuf, said: KernelSaid, source: io::Error },
    #[error("cannot give the writable layer in {path} the container's ids")]
    Ids { path: PathBuf, source: io::Error },
    #[error("cannot give the container the certificates {path}")]
    Certificates { path: PathBuf, source: io::Error },
}

impl RootfsError {
    /// Whether a layer is not what was pulled.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Altered { .. } | Self::Measure { .. } => true,
            Self::Layer { source, .. } => {
                let number = source.raw_os_error();
                [Errno::IO, Errno::UCLEAN].iter().any(|error| number == Some(error.raw_os_error()))
            }
            _ => false,
        }
    }
}

/// The kernel's own words about a mount that failed, where it has some.
#[derive(Debug)]
pub(crate) struct KernelSaid(Option<String>);

impl std::fmt::Display for KernelSaid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.as_ref().map_or(Ok(()), |text| write!(f, " ({text})"))
    }
}

/// Moves this process into a mount namespace of its own, mounts the root of `config` below `directory`, with the ids of the
/// container, and returns where.
pub(crate) fn mount(
    directory: &Path,
    config: &ShimConfig,
    ids: Option<&Ids>,
) -> Result<PathBuf, RootfsError> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(|error| RootfsError::Namespace(error.into()))?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|error| RootfsError::Namespace(error.into()))?;

    let directory = make_directory(directory.to_owned())?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    // A container's root passes through here when it is nobody to the node. Only its own shim sees it.
    rustix::mount::mount("holdfast", &directory, "tmpfs", flags, Some(c"mode=0711"))
        .map_err(|error| RootfsError::Tmpfs { path: directory.clone(), source: error.into() })?;

    let mut lower = Vec::new();
    for (n, file) in config.layers.iter().enumerate() {
        let target = make_directory(directory.join("layers").join(n.to_string()))?;
        let measured = config.sealed.get(file).map(|wanted| measure(file, wanted)).transpose()?;
        // What was measured is what is mounted, also when the name leads to another file by now.
        let source = measured.as_ref().map_or_else(|| file.clone(), path_of);
        mount_layer(&source, &target, ids).map_err(|(source, said)| RootfsError::Layer {
            path: file.clone(),
            said,
            source,
        })?;
        lower.push(target);
    }
    if lower.is_empty() {
        // Overlayfs wants at least one.
        lower.push(make_directory(directory.join("layers/none"))?);
    }
    if config.layer_size.is_some() {
        quota::limit(&make_directory(config.writable.clone())?, config.layer_size)?;
    }
    make_directory(config.writable.join("upper"))?;
    make_directory(config.writable.join("work"))?;
    let target = make_directory(directory.join("rootfs"))?;
    let mount = |writable: &Path| {
        let (upper, work) = (writable.join("upper"), writable.join("work"));
        mount_overlay(&lower, &upper, &work, &target).map_err(|(source, said)| RootfsError::Overlay {
            path: config.writable.clone(),
            said,
            source,
        })?;
        let Some(file) = &config.certificates else { return Ok(()) };
        mount_certificates(file, &target)
            .map_err(|source| RootfsError::Certificates { path: file.clone(), source })
    };
    match ids {
        None => mount(&config.writable)?,
        Some(ids) => {
            let failed = |source| RootfsError::Ids { path: config.writable.clone(), source };
            let shown = make_directory(directory.join("writable"))?;
            ids.show_at(&config.writable, &shown).map_err(failed)?;
            // The overlay makes files as whoever mounts it.
            ids.as_root(|| mount(&shown)).map_err(failed)??;
        }
    }
    Ok(target)
}

/// Opens a layer's file when its content is the one that is recorded. The kernel checks each block against that when it
/// is read, also for the mount.
fn measure(file: &Path, wanted: &str) -> Result<File, RootfsError> {
    let measured = File::open(file).and_then(|file| Ok((verity_digest::measure(&file)?, file)));
    let (found, opened) =
        measured.map_err(|source| RootfsError::Measure { path: file.to_owned(), source })?;
    if found == wanted {
        return Ok(opened);
    }
    Err(RootfsError::Altered { path: file.to_owned(), found, wanted: wanted.to_owned() })
}

/// Where programs look for certificate authorities (Debian's and Alpine's place).
const CERTIFICATES: &str = "etc/ssl/certs";
const CERTIFICATES_FILE: &str = "etc/ssl/certs/ca-certificates.crt";

/// Mounts `file` as the container's certificate authorities, read-only. An image without the directory has no program
/// that would look there. Links in the image are followed as the container itself would.
fn mount_certificates(file: &Path, rootfs: &Path) -> io::Result<()> {
    let root = openat(CWD, rootfs, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let open = |path: &str, flags: OFlags| within::open(&root, path, OFlags::PATH | OFlags::CLOEXEC | flags);
    let directory = match open(CERTIFICATES, OFlags::DIRECTORY) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        result => result?,
    };
    let target = match open(CERTIFICATES_FILE, OFlags::empty()) {
        Err(Errno::NOENT) => {
            let name = Path::new(CERTIFICATES_FILE).file_name().unwrap_or_default();
            // A link that leads nowhere is in the way.
            match unlinkat(&directory, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            drop(openat(&directory, name, flags, Mode::from_raw_mode(0o644))?);
            open(CERTIFICATES_FILE, OFlags::empty())?
        }
        result => result?,
    };
    mount_bind(file, path_of(&target))?;
    // Opened again, to be what is now mounted there.
    let mounted = open(CERTIFICATES_FILE, OFlags::empty())?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount_remount(path_of(&mounted), MountFlags::BIND | flags, "")?;
    Ok(())
}

/// A path that leads to what is open.
fn path_of(fd: &impl AsRawFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

fn make_directory(path: PathBuf) -> Result<PathBuf, RootfsError> {
    match fs::create_dir_all(&path) {
        Ok(()) => Ok(path),
        Err(source) => Err(RootfsError::Directory { path, source }),
    }
}

/// A layer needs neither devices nor set-user-id bits: containers reach it through the overlay only, whose own
/// flags decide.
fn mount_layer(file: &Path, target: &Path, ids: Option<&Ids>) -> Result<(), (io::Error, KernelSaid)> {
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOSUID;
    mount_new("erofs", attributes, target, ids, |fs| {
        fsconfig_set_string(fs, "source", file)?;
        fsconfig_set_flag(fs, "ro")
    })
}

/// Set-user-id programs stay possible (`noNewPrivileges` is what forbids them); device nodes are the runtime's to
/// make, in a /dev of its own, so those in an image are not honoured.
fn mount_overlay(
    lower: &[PathBuf],
    upper: &Path,
    work: &Path,
    target: &Path,
) -> Result<(), (io::Error, KernelSaid)> {
    mount_new("overlay", MountAttrFlags::MOUNT_ATTR_NODEV, target, None, |fs| {
        fsconfig_set_string(fs, "source", "holdfast")?;
        // The first one is the topmost (Documentation/filesystems/overlayfs.rst, "Multiple lower layers").
        for layer in lower.iter().rev() {
            fsconfig_set_string(fs, "lowerdir+", layer)?;
        }
        fsconfig_set_string(fs, "upperdir", upper)?;
        fsconfig_set_string(fs, "workdir", work)
    })
}

fn mount_new(
    kind: &str,
    attributes: MountAttrFlags,
    target: &Path,
    ids: Option<&Ids>,
    configure: impl FnOnce(&OwnedFd) -> rustix::io::Result<()>,
) -> Result<(), (io::Error, KernelSaid)> {
    let fs = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(|error| (error.into(), KernelSaid(None)))?;
    configure(&fs)
        .and_then(|()| fsconfig_create(&fs))
        .and_then(|()| fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes))
        .map_err(io::Error::from)
        .and_then(|mount| {
            ids.map_or(Ok(()), |ids| ids.show(&mount))?;
            Ok(attach(&mount, target)?)
        })
        .map_err(|error| (error, KernelSaid(message(&fs))))
}

/// The first message of a file system context: a level, a space, the text.
fn message(fs: &impl AsFd) -> Option<String> {
    let mut text = [0; 256];
    let length = rustix::io::read(fs, &mut text).ok()?;
    let text = String::from_utf8_lossy(&text[..length]);
    Some(text.get(2..)?.trim().to_owned())
}
