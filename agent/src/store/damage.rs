//! Layers whose blocks have changed on the disk are pulled again.
//!
//! The kernel checks each block of a layer when it is read: the container that reads it gets an I/O error, and the kernel
//! log names the file's inode. That is heard here. What the log says is only a reason to look: the file is read through,
//! and the kernel says it again when it is so. Once the layer is there anew, the shims that had the old file mounted are
//! killed; PID 1 replaces a shim that is killed, whatever the service's restart policy.
//!
//! A file that is missing, or is another one than was recorded, is seen without reading it: that is looked at when a
//! generation has been handed to PID 1. Now and then everything is read, also what nothing that runs has: what is damaged
//! of that is pulled again once, and left when it cannot be had.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use config::Scrub;
use images::{Index, Reference};
use plan::{ShimConfig, paths};

use super::pull::{self, Pulling};
use super::scrub::{self, Schedule, read_through};
use super::{Store, StoreError, progress};
use crate::console;
use crate::generations::{Generation, Generations};

/// Waits between attempts to pull a layer again.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// A reason to look.
#[derive(Debug)]
enum Hint {
    /// The kernel has found a block of this inode changed.
    Inode(u64),
    /// This generation runs by now; images are pulled like this, and all are read so often.
    Running { root_hash: String, pulling: Box<Pulling>, scrub: Scrub },
    /// Somebody wants everything to be read.
    Scrub,
}

/// Whoever looks after the layers.
static WATCH: Mutex<Option<Sender<Hint>>> = Mutex::new(None);

/// Looks after the layers of what runs, from now on in threads of its own. To be called with every generation that was
/// handed to PID 1.
pub(crate) fn watch(root_hash: &str, pulling: Pulling, scrub: Scrub) {
    let mut watch = WATCH.lock().unwrap_or_else(PoisonError::into_inner);
    let hint = Hint::Running { root_hash: root_hash.to_owned(), pulling: Box::new(pulling), scrub };
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

/// Has everything read that is kept of images.
pub(crate) fn scrub_now() {
    match &*WATCH.lock().unwrap_or_else(PoisonError::into_inner) {
        // The thread lives as long as the agent.
        Some(sender) => drop(sender.send(Hint::Scrub)),
        None => console::notice("images: nothing was pulled or imported, so there is nothing to read"),
    }
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
    /// Longer than there is anything to wait for.
    const LONG: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    let mut schedule = Schedule::new();
    let mut running: Option<(String, Pulling, Scrub)> = None;
    loop {
        let due = running.as_ref().and_then(|(_, pulling, scrub)| schedule.wait(pulling.store(), *scrub));
        let look: &dyn Fn(&Layers, &Pulling) -> Vec<PathBuf> = match hints.recv_timeout(due.unwrap_or(LONG)) {
            Ok(Hint::Running { root_hash, pulling, scrub }) => {
                running = Some((root_hash, *pulling, scrub));
                &|layers, pulling| layers.altered(pulling.store())
            }
            Ok(Hint::Inode(inode)) => &move |layers, _| layers.with_inode(inode),
            Ok(Hint::Scrub) => &Layers::scrub,
            Err(RecvTimeoutError::Timeout) if due.is_some() => {
                schedule.passed();
                &Layers::scrub
            }
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let Some((root_hash, pulling, _)) = &running else { continue };
        let Ok(Some(generation)) = Generations::of_node().current(root_hash) else { continue };
        let layers = Layers::of(&generation);
        let damaged = look(&layers, pulling);
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

    /// Reads everything in the store. Gives what these have of it that is damaged; the rest is seen to.
    fn scrub(&self, pulling: &Pulling) -> Vec<PathBuf> {
        let store = pulling.store();
        let own: BTreeSet<PathBuf> = self.files().into_iter().map(|(path, _)| path.to_owned()).collect();
        let index = store.index();
        let kept = index.layers.keys().filter_map(|diff_id| store.layer(diff_id));
        let all: Vec<PathBuf> = own.iter().cloned().chain(kept.filter(|path| !own.contains(path))).collect();
        let damaged = scrub::read_all(&all);
        scrub::done(store);
        let (used, unused) = damaged.into_iter().partition::<Vec<_>, _>(|path| own.contains(path));
        if !unused.is_empty() {
            restore(&index, &unused, pulling);
        }
        used
    }

    /// The services that have one of these mounted.
    fn users(&self, damaged: &[PathBuf]) -> impl Iterator<Item = &ShimConfig> {
        self.0.iter().filter(|shim| damaged.iter().any(|path| shim.sealed.contains_key(path)))
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

/// Pulls the images that have these layers, which nothing that runs has, if they can be had.
fn restore(index: &Index, damaged: &[PathBuf], pulling: &Pulling) {
    let store = pulling.store();
    let is_damaged = |diff_id: &String| store.layer(diff_id).is_some_and(|path| damaged.contains(&path));
    let images = having(index, is_damaged);
    for path in damaged {
        let names: Vec<String> = images.iter().map(ToString::to_string).collect();
        let (names, path) = (names.join(", "), path.display());
        console::error(format_args!(
            "image {names}: the layer {path}, which nothing uses now, is damaged or gone: it is pulled again"
        ));
    }
    if let Err(error) = store.change(|index| index.layers.retain(|diff_id, _| !is_damaged(diff_id))) {
        return console::error(console::chain(&error));
    }
    for image in images {
        let _turn = pull::turn();
        if let Err(error) = pulling.image(&image) {
            progress::forget(|name| name == image.to_string());
            let why = console::chain(&error);
            console::error(format_args!("image {image}: {why}; it is left until something asks for it"));
        }
    }
}

/// The images that have a layer of these, as they are asked for again: by their digests, and imports by their names, too.
fn having(index: &Index, is_one: impl Fn(&String) -> bool) -> BTreeSet<Reference> {
    let imported: BTreeSet<&str> =
        index.imports.keys().filter_map(|name| Some(index.images.get(name)?.digest.as_str())).collect();
    let having = index.images.iter().filter(|(_, image)| image.layers.iter().any(&is_one));
    let references = having.filter_map(|(name, image)| {
        let named = Reference::parse(name).ok()?;
        if index.imports.contains_key(name) {
            return Some(Reference { digest: Some(image.digest.clone()), ..named });
        }
        (!imported.contains(image.digest.as_str())).then(|| named.pinned(&image.digest))
    });
    references.collect()
}

#[cfg(test)]
mod tests {
    use images::{Config, Image};

    use super::*;

    #[test]
    fn an_image_is_asked_for_again_once_and_as_it_came() {
        let digest = |n: u8| format!("sha256:{}", n.to_string().repeat(64));
        let image = |n: u8, layers: &[u8]| Image {
            digest: digest(n),
            layers: layers.iter().map(|n| digest(*n)).collect(),
            config: Config::default(),
        };
        let images = [
            ("docker.io/library/a:1".to_owned(), image(1, &[5])),
            (format!("docker.io/library/a@{}", digest(1)), image(1, &[5])),
            ("docker.io/library/b:1".to_owned(), image(2, &[5, 6])),
            (format!("docker.io/library/b@{}", digest(2)), image(2, &[5, 6])),
            ("docker.io/library/c:1".to_owned(), image(3, &[6])),
        ];
        let index = Index {
            images: images.into(),
            imports: [("docker.io/library/b:1".to_owned(), digest(9))].into(),
            ..Index::default()
        };
        let having = |n: u8| having(&index, |layer| *layer == digest(n));
        let asked = |n: u8| having(n).iter().map(ToString::to_string).collect::<Vec<_>>();
        let (a, b, c) = (
            format!("docker.io/library/a@{}", digest(1)),
            format!("docker.io/library/b:1@{}", digest(2)),
            format!("docker.io/library/c@{}", digest(3)),
        );
        assert_eq!(asked(5), [a, b.clone()]);
        assert_eq!(asked(6), [b, c]);
        assert_eq!(asked(7), <[String; 0]>::default());
    }

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
