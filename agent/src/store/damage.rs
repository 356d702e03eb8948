//! Layers whose blocks have changed on the disk are pulled again.
//!
//! The kernel checks each block of a layer when it is read: the container that reads it gets an I/O error, and the kernel
//! log names the file's inode. That is heard here. What the log says is only a reason to look: the file is read through,
//! and the kernel says it again when it is so. Once the layer is there anew, the shims that had the old file mounted are
//! killed; PID 1 replaces a shim that is killed, whatever the service's restart policy.
//!
//! A file that is missing, or is another one than was recorded, is seen without reading it: that is looked at when a
//! generation has been handed to PID 1. Once a day everything is read.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use images::Reference;
use plan::{ShimConfig, paths};

use super::pull::Pulling;
use super::{Store, StoreError};
use crate::console;
use crate::generations::{Generation, Generations};

/// How often every layer is read.
const SCRUB: Duration = Duration::from_secs(24 * 60 * 60);
/// Waits between attempts to pull a layer again.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// A reason to look.
#[derive(Debug)]
enum Hint {
    /// The kernel has found a block of this inode changed.
    Inode(u64),
    /// This generation runs by now; images are pulled like this.
    Running { root_hash: String, pulling: Box<Pulling> },
}

/// Whoever looks after the layers.
static WATCH: Mutex<Option<Sender<Hint>>> = Mutex::new(None);

/// Looks after the layers of what runs, from now on in threads of its own. To be called with every generation that was
/// handed to PID 1.
pub(crate) fn watch(root_hash: &str, pulling: Pulling) {
    let mut watch = WATCH.lock().unwrap_or_else(PoisonError::into_inner);
    let hint = Hint::Running { root_hash: root_hash.to_owned(), pulling: Box::new(pulling) };
    if let Some(sender) = &*watch {
        // The thread lives as long as the agent.
        sender.send(hint).ok();
        return;
    }
    let (sender, hints) = channel();
    // Before whatever the log has to say: that is about what runs.
    sender.send(hint).ok();
    let listener = sender.clone();
    let begin = || -> io::Result<()> {
        thread::Builder::new().name("images".to_owned()).spawn(move || look_after(&hints))?;
        thread::Builder::new().name("images-log".to_owned()).spawn(move || listen(&listener))?;
        Ok(())
    };
    if let Err(error) = begin() {
        console::error(format_args!("cannot look after the layers of images: {error}"));
        return;
    }
    *watch = Some(sender);
}

/// Follows the kernel log from the boot's beginning.
fn listen(hints: &Sender<Hint>) {
    let mut log = match File::open("/dev/kmsg") {
        Ok(log) => log,
        Err(error) => return console::error(format_args!("cannot read the kernel log: {error}")),
    };
    // A read gives one record, whole (Documentation/ABI/testing/dev-kmsg).
    let mut record = [0; 8192];
    loop {
        match log.read(&mut record) {
            Ok(length) => {
                let text = String::from_utf8_lossy(record.get(..length).unwrap_or_default());
                if let Some(inode) = damaged_inode(&text)
                    && hints.send(Hint::Inode(inode)).is_err()
                {
                    return;
                }
            }
            // Records were overwritten before they were read: on with those that are there.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return console::error(format_args!("cannot read the kernel log: {error}")),
        }
    }
}

/// The inode that `fs-verity (vda7, inode 12): FILE CORRUPTED! ...` names (fs/verity/verify.c).
fn damaged_inode(record: &str) -> Option<u64> {
    let (_, rest) = record.split_once("fs-verity (")?;
    let (place, rest) = rest.split_once("): ")?;
    let inode = place.split_once("inode ")?.1.parse().ok()?;
    rest.starts_with("FILE CORRUPTED").then_some(inode)
}

fn look_after(hints: &Receiver<Hint>) {
    let mut running: Option<(String, Pulling)> = None;
    loop {
        let look: &dyn Fn(&Layers, &Store) -> Vec<PathBuf> = match hints.recv_timeout(SCRUB) {
            Ok(Hint::Running { root_hash, pulling }) => {
                running = Some((root_hash, *pulling));
                &Layers::altered
            }
            Ok(Hint::Inode(inode)) => &move |layers, _| layers.with_inode(inode),
            Err(RecvTimeoutError::Timeout) => &|layers, _| layers.scrub(),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let Some((root_hash, pulling)) = &running else { continue };
        let Ok(Some(generation)) = Generations::of_node().current(root_hash) else { continue };
        let layers = Layers::of(&generation);
        let damaged = look(&layers, pulling.store());
        if !damaged.is_empty() {
            repair(&generation, &layers, &damaged, pulling);
        }
    }
}

/// The layers that a generation's services have, with the services.
#[derive(Debug)]
struct Layers(Vec<ShimConfig>);

impl Layers {
    fn of(generation: &Generation) -> Self {
        let bundles = generation.plan.services.values();
        Self(bundles.filter_map(|service| plan::read_json(&service.bundle.join("shim.json")).ok()).collect())
    }

    fn files(&self) -> BTreeSet<(&Path, &str)> {
        let sealed = self.0.iter().flat_map(|shim| &shim.sealed);
        sealed.map(|(path, verity)| (path.as_path(), verity.as_str())).collect()
    }

    /// Those that are not what was recorded, or not there.
    fn altered(&self, store: &Store) -> Vec<PathBuf> {
        let is_altered = |path: &Path, verity: &str| {
            File::open(path).and_then(|file| (store.measure)(&file)).is_ok_and(|found| found == verity)
        };
        let altered = self.files().into_iter().filter(|(path, verity)| !is_altered(path, verity));
        altered.map(|(path, _)| path.to_owned()).collect()
    }

    /// The one with this inode, when it cannot be read to its end.
    fn with_inode(&self, inode: u64) -> Vec<PathBuf> {
        let files = self.files().into_iter().map(|(path, _)| path);
        let named = files.filter(|path| fs::metadata(path).is_ok_and(|metadata| metadata.ino() == inode));
        named.filter(|path| read_through(path).is_err()).map(Path::to_owned).collect()
    }

    /// Reads all of them.
    fn scrub(&self) -> Vec<PathBuf> {
        let files = self.files();
        let (mut damaged, mut bytes) = (Vec::new(), 0);
        for (path, _) in &files {
            match read_through(path) {
                Ok(read) => bytes += read,
                Err(_) => damaged.push(path.to_path_buf()),
            }
        }
        if !files.is_empty() {
            let (all, bad, read) = (files.len(), damaged.len(), bytes >> 20);
            console::notice(format_args!("images: read {all} layers, {read} MiB: {bad} are damaged"));
        }
        damaged
    }

    /// The services that have one of these mounted.
    fn users(&self, damaged: &[PathBuf]) -> impl Iterator<Item = &ShimConfig> {
        self.0.iter().filter(|shim| damaged.iter().any(|path| shim.sealed.contains_key(path)))
    }
}

/// Reads a file to its end.
fn read_through(path: &Path) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let (mut buffer, mut read) = (vec![0; 1 << 18], 0);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(read),
            Ok(count) => read += count as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Pulls the images that have these layers until they are here, then has the services started again that had them.
fn repair(generation: &Generation, layers: &Layers, damaged: &[PathBuf], pulling: &Pulling) {
    let images = match affected(generation, pulling, damaged) {
        Ok(images) => images,
        Err(error) => return console::error(console::chain(&error)),
    };
    for path in damaged {
        let names: Vec<String> = images.iter().map(ToString::to_string).collect();
        let (names, path) = (names.join(", "), path.display());
        console::error(format_args!(
            "image {names}: the layer {path} is damaged or gone: it is pulled again"
        ));
    }
    let mut left = images;
    let mut pause = FIRST_PAUSE;
    loop {
        left.retain(|image| !pulling.pull(image, |_| ()));
        if left.is_empty() {
            break;
        }
        let current = Generations::of_node().current(&generation.record.root_hash).ok().flatten();
        if current.is_none_or(|current| current.record.number != generation.record.number) {
            // Another one runs by now, which is looked at next.
            return;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    for shim in layers.users(damaged) {
        let cgroup = Path::new("/sys/fs/cgroup").join(paths::SERVICES_SLICE).join(shim.name.as_str());
        match fs::write(cgroup.join("shim/cgroup.kill"), "1") {
            Ok(()) => console::notice(format_args!("service {}: started again on the new layer", shim.name)),
            // It is not running: PID 1 starts it when it is due.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => console::error(format_args!("cannot end the service {}: {error}", shim.name)),
        }
    }
}

/// The images of a generation that have these layers, by their digests. Their records go, so that they are pulled.
fn affected(
    generation: &Generation,
    pulling: &Pulling,
    damaged: &[PathBuf],
) -> Result<Vec<Reference>, StoreError> {
    let store = pulling.store();
    let index = store.index();
    let is_damaged = |diff_id: &String| store.layer(diff_id).is_some_and(|path| damaged.contains(&path));
    let images = generation.record.images.iter().filter_map(|(name, digest)| {
        let named = Reference::parse(name).ok()?;
        let pinned = named.pinned(digest);
        // An image that the index has lost is pulled as a whole.
        let known = index.images.get(&pinned.to_string());
        // An import is known by its name.
        let reference = match pulling.import_of(&named) {
            Some(import) => Reference { digest: Some(digest.clone()), ..import.name.clone() },
            None => pinned,
        };
        known.is_none_or(|image| image.layers.iter().any(is_damaged)).then_some(reference)
    });
    let images: BTreeSet<Reference> = images.collect();
    store.change(|index| index.layers.retain(|diff_id, _| !is_damaged(diff_id)))?;
    Ok(images.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_word_of_a_damaged_file_is_understood() {
        let record = "3,812,9120334,-;fs-verity (vda7, inode 131): FILE CORRUPTED! pos=4096, level=-1, want_hash=sha256:00";
        assert_eq!(damaged_inode(record), Some(131));
        for other in [
            "6,1,1,-;fs-verity: sha256 using implementation \"sha256-ni\"",
            "3,1,1,-;fs-verity (vda7, inode 131): Unrecognized descriptor version: 0",
            "5,1,1,-;holdfast: service web running",
        ] {
            assert_eq!(damaged_inode(other), None, "{other}");
        }
    }
}
