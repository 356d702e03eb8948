//! Mounts and file systems: what images, writable layers and state are made of.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use plan::paths;
use rustix::fs::{CWD, MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, move_mount, open_tree, unmount,
};
use template::Template;

use crate::{Checked, Fault, host};

/// Where the checks keep their files: on the state.
const FOLDER: &str = "/var/lib/kernel-probe";

fn folder(name: &str) -> Result<PathBuf, Fault> {
    let path = Path::new(FOLDER).join(name);
    fs::create_dir_all(&path)?;
    Ok(path)
}

/// What this program does as a child of itself.
pub(crate) fn play(role: &str, args: &[String]) -> Checked {
    match (role, args) {
        ("overlay", [folder]) => overlay(Path::new(folder)),
        ("open-device", [cgroup]) => host::open_device(Path::new(cgroup)),
        ("hold-user-namespace", []) => {
            unshare(CloneFlags::CLONE_NEWUSER)?;
            say_ready()?;
            std::io::stdin().read_to_end(&mut Vec::new())?;
            Ok(())
        }
        ("fill", [file, bytes]) => {
            let content = vec![7; bytes.parse()?];
            let file = File::create(file)?;
            (&file).write_all(&content)?;
            Ok(file.sync_all()?)
        }
        _ => Err("no such role".into()),
    }
}

fn say_ready() -> Checked {
    let mut out = std::io::stdout();
    out.write_all(b"ready\n")?;
    Ok(out.flush()?)
}

fn myself(role: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg(role);
    command
}

pub(crate) fn erofs_from_a_file() -> Checked {
    let (image, target) = (folder("erofs")?.join("image"), folder("erofs-mounted")?);
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&image)?;
    let mut writer = erofs::Writer::new(file, erofs::Options::default())?;
    writer.directory("", erofs::Metadata::new(0o755, 0))?;
    writer.file("hello", erofs::Metadata::new(0o644, 0), &b"from a file"[..])?;
    writer.finish()?;
    mount(&image, &target, "erofs", MountFlags::RDONLY, None)?;
    let read = fs::read(target.join("hello"))?;
    unmount(&target, UnmountFlags::empty())?;
    if read == b"from a file" { Ok(()) } else { Err("it holds something else".into()) }
}

pub(crate) fn overlay_in_a_user_namespace() -> Checked {
    let folder = folder("overlay")?;
    let status = myself("overlay").arg(&folder).status()?;
    if status.success() { Ok(()) } else { Err(format!("{status}").into()) }
}

/// In a user namespace of its own: mounts an overlay and writes to it.
fn overlay(folder: &Path) -> Checked {
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", "0 0 1")?;
    fs::write("/proc/self/gid_map", "0 0 1")?;
    for name in ["lower", "upper", "work", "merged"] {
        fs::create_dir_all(folder.join(name))?;
    }
    fs::write(folder.join("lower/file"), "below")?;
    std::env::set_current_dir(folder)?;
    let options = c"lowerdir=lower,upperdir=upper,workdir=work,userxattr";
    mount("overlay", "merged", "overlay", MountFlags::empty(), Some(options))?;
    fs::write("merged/file", "above")?;
    match fs::read("upper/file")?.as_slice() {
        b"above" => Ok(()),
        _ => Err("what was written is not in the upper layer".into()),
    }
}

pub(crate) fn idmapped_mount() -> Checked {
    const OWNER: u32 = 100_000;
    let (from, to) = (folder("ids")?, folder("ids-mapped")?);
    fs::write(from.join("file"), "")?;
    let mut holder = myself("hold-user-namespace").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    holder.stdout.as_mut().ok_or("no pipe")?.read_exact(&mut [0; 6])?;
    let process = Path::new("/proc").join(holder.id().to_string());
    fs::write(process.join("uid_map"), format!("0 {OWNER} 1000"))?;
    fs::write(process.join("gid_map"), format!("0 {OWNER} 1000"))?;
    let namespace = File::open(process.join("ns/user"))?;
    let tree = open_tree(CWD, &from, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    let mapped = sys::id_map::set(tree.as_fd(), namespace.as_fd());
    drop(holder.stdin.take());
    holder.wait()?;
    mapped?;
    move_mount(tree.as_fd(), "", CWD, &to, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    // It keeps the mount busy.
    drop(tree);
    let owner = fs::metadata(to.join("file"))?.uid();
    unmount(&to, UnmountFlags::empty())?;
    if owner == OWNER { Ok(()) } else { Err(format!("the owner is {owner}").into()) }
}

/// An empty state file system in memory, mounted: the file that holds it, and where it is.
fn small_state(name: &str) -> Result<(File, PathBuf), Fault> {
    let backing = File::from(memfd_create("state", MemfdFlags::CLOEXEC)?);
    let template = Template::read(File::open(paths::STATE_TEMPLATE)?)?;
    backing.set_len(template.size())?;
    for block in template {
        let (number, content) = block?;
        backing.write_all_at(&content, number * template::BLOCK as u64)?;
    }
    let (device, target) = (sys::loop_device::attach(&backing, false)?, folder(name)?);
    mount(&device, &target, "ext4", MountFlags::empty(), Some(c"prjquota"))?;
    Ok((backing, target))
}

/// A block of a sealed file that was changed on the disk must not be read.
pub(crate) fn changed_block_is_denied() -> Checked {
    const BLOCK: usize = 4096;
    let (backing, target) = small_state("verity")?;
    let path = target.join("sealed");
    let content: Vec<u8> =
        b"a block of a file that is sealed".iter().copied().cycle().take(4 * BLOCK).collect();
    fs::write(&path, &content)?;
    let file = File::open(&path)?;
    file.sync_all()?;
    sys::fsverity::enable(&file)?;
    rustix::fs::syncfs(&file)?;
    if fs::read(&path)? != content {
        return Err("the sealed file is not what was written".into());
    }
    let mut block = vec![0; BLOCK];
    let blocks = (0..backing.metadata()?.len()).step_by(BLOCK);
    for at in blocks {
        backing.read_exact_at(&mut block, at)?;
        if content.starts_with(&block) {
            backing.write_all_at(b"A", at)?;
        }
    }
    fs::write("/proc/sys/vm/drop_caches", "3")?;
    match fs::read(&path) {
        Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => Ok(()),
        Err(error) => Err(format!("reading it fails otherwise: {error}").into()),
        Ok(_) => Err("what was changed is read".into()),
    }
}

pub(crate) fn project_quota() -> Checked {
    const PROJECT: u32 = 42;
    const LIMIT: u64 = 1 << 20;
    /// Somebody whom quotas stop.
    const USER: u32 = 1000;
    let (_backing, target) = small_state("quota")?;
    let folder = target.join("project");
    fs::create_dir(&folder)?;
    chown(&folder, Some(USER), Some(USER))?;
    let opened = File::open(&folder)?;
    sys::quota::set_project(&opened, PROJECT)?;
    sys::quota::limit_project(&opened, PROJECT, LIMIT)?;
    let fill = |name: &str, bytes: u64| {
        let mut command = myself("fill");
        command.arg(folder.join(name)).arg(bytes.to_string()).uid(USER).gid(USER).stderr(Stdio::null());
        command.status()
    };
    if !fill("within", LIMIT / 2)?.success() {
        return Err("what fits is refused".into());
    }
    if fill("beyond", LIMIT)?.success() { Err("what does not fit is taken".into()) } else { Ok(()) }
}

pub(crate) fn encryption() -> Checked {
    const SECTORS: u64 = 2048;
    let backing = File::from(memfd_create("secret", MemfdFlags::CLOEXEC)?);
    backing.set_len(SECTORS * 512)?;
    let device = sys::loop_device::attach(&backing, true)?;
    let table = format!("aes-xts-plain64 {} 0 {} 0", "5a".repeat(64), device.display());
    let mapped = sys::dm::create("kernel-probe", "crypt", SECTORS, &table)?;
    let mut first = [0; 512];
    File::open(format!("/dev/dm-{}", mapped.minor))?.read_exact(&mut first)?;
    sys::dm::remove("kernel-probe")?;
    // Zeroes, decrypted, are none.
    if first.iter().all(|byte| *byte == 0) { Err("nothing was decrypted".into()) } else { Ok(()) }
}
