//! Disks: partition tables, file systems, mounts, swap.

use std::collections::BTreeMap;

use userdata::{At, KeySpec as Key, Mark, Node, Severity, Use, Value};

use super::files::path;
use super::{Machine, take};

/// A file system to mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The device as it is written: `/dev/sdb1`, `sdb1`, `LABEL=x`, `ephemeral0`, an alias.
    pub device: String,
    /// Where; absent for swap.
    pub target: Option<String>,
    /// File system.
    pub kind: String,
    /// Options, with commas between them.
    pub options: String,
    /// Whether it is checked, and when: fstab's last two fields.
    pub dump_pass: (String, String),
    /// Where it stands.
    pub mark: Mark,
}

/// A swap file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swap {
    /// Where.
    pub filename: String,
    /// Bytes; absent: as large as memory asks for.
    pub size: Option<u64>,
    /// The most bytes.
    pub max_size: Option<u64>,
}

/// A partition table to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskSetup {
    /// The device or its alias.
    pub device: String,
    /// GPT, else MBR.
    pub gpt: bool,
    /// What is on it.
    pub layout: Layout,
    /// A table that is there is replaced.
    pub overwrite: bool,
}

/// The partitions of a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// None.
    #[default]
    Nothing,
    /// One over the whole disk.
    Whole,
    /// By parts of a hundred, each with its type.
    Parts(Vec<(u32, Option<String>)>),
}

/// A file system to make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FsSetup {
    /// The device or its alias.
    pub device: String,
    /// What it is.
    pub filesystem: String,
    /// Its label.
    pub label: Option<String>,
    /// `auto`, `any`, `none`, or a number.
    pub partition: Option<String>,
    /// What is there is replaced.
    pub overwrite: bool,
    /// A file system of this kind that is there is replaced.
    pub replace: Option<String>,
}

/// File systems that the node can mount; `ext4` also stands for its elders, which the same driver reads.
const MOUNTABLE: [&str; 8] = ["auto", "ext4", "ext3", "ext2", "vfat", "iso9660", "tmpfs", "swap"];
/// File systems that the node can make.
const MAKEABLE: [&str; 2] = ["ext4", "swap"];
/// Below what file systems can be mounted.
const MOUNT_POINTS: [&str; 3] = ["/var", "/mnt", "/srv"];

/// A field of fstab: nothing, `None` and `null` mean that the default counts.
fn word(node: &Node) -> Option<&str> {
    node.text().filter(|text| !matches!(*text, "None" | "null" | ""))
}

pub(super) fn default_fields(at: &At<'_>) -> Option<[Option<String>; 6]> {
    let fields: Vec<At<'_>> = at.list()?.collect();
    if fields.len() != 6 {
        at.error("must have 6 fields");
        return None;
    }
    Some(std::array::from_fn(|index| word(fields[index].node).map(str::to_owned)))
}

pub(super) fn mounts(at: &At<'_>, _: &mut Machine) {
    for entry in at.list().into_iter().flatten() {
        let Some(fields) = entry.list() else { continue };
        for (index, field) in fields.enumerate() {
            if index == 6 {
                field.error("a mount has at most 6 fields");
            } else if !field.is_null() {
                field.text();
            }
        }
    }
}

/// Reads the mounts, when the default fields are known whatever the order of the keys.
pub(super) fn finish(root: &At<'_>, machine: &mut Machine) {
    let Some(at) = root.get("mounts").filter(At::is_list) else { return };
    let defaults = machine.mount_defaults.take().unwrap_or_default();
    for entry in at.list().into_iter().flatten() {
        let Value::List(fields) = &entry.node.value else { continue };
        let own: Vec<Option<&str>> = fields.iter().map(word).collect();
        let field = |index: usize| own.get(index).copied().flatten().or(defaults[index].as_deref());
        let Some(device) = field(0) else {
            entry.error("a mount has no device");
            continue;
        };
        let target = own.get(1).copied().flatten();
        let kind = field(2).unwrap_or("auto");
        if own.get(1).is_none_or(|_| fields[1].text().is_none_or(|text| text == "None")) && kind != "swap" {
            // Only the device: that takes a default mount away, and there are none.
            continue;
        }
        if !MOUNTABLE.contains(&kind) {
            entry.error_with_hint(format!("the file system '{kind}' cannot be mounted"), &known(&MOUNTABLE));
        }
        let target = target.filter(|target| *target != "none");
        if let Some(target) = target {
            mount_point(&entry, target);
        } else if kind != "swap" {
            entry.error(format!("'{device}' has no mount point"));
        }
        machine.mounts.push(Mount {
            device: device.to_owned(),
            target: target.map(str::to_owned),
            kind: kind.to_owned(),
            options: field(3).unwrap_or("defaults,nofail").to_owned(),
            dump_pass: (field(4).unwrap_or("0").to_owned(), field(5).unwrap_or("2").to_owned()),
            mark: entry.node.mark,
        });
    }
}

fn mount_point(at: &At<'_>, target: &str) {
    let below = |top: &str| target.strip_prefix(top).is_some_and(|rest| rest.starts_with('/'));
    let allowed = MOUNT_POINTS.iter().any(|top| below(top)) || ["/mnt", "/srv"].contains(&target);
    if !allowed || target.split('/').any(|part| part == "..") {
        let hint = "file systems are mounted below /var, /mnt or /srv";
        at.error_with_hint(format!("nothing can be mounted at '{target}'"), hint);
    }
}

fn known(words: &[&str]) -> String {
    format!("{} can", userdata::alternatives(words).replace(" or ", " and "))
}

pub(super) fn swap(at: &At<'_>) -> Option<Swap> {
    #[derive(Default)]
    struct Draft {
        filename: Option<String>,
        size: Option<u64>,
        max_size: Option<u64>,
    }
    let table: [Key<Draft>; 3] = [
        take("filename", |at, draft: &mut Draft| draft.filename = path(at).ok(), "Where: a path. Required."),
        take(
            "size",
            |at, draft| draft.size = if at.node.text() == Some("auto") { None } else { size(at) },
            "Bytes, or a number with K, M or G, or `auto`.",
        ),
        take("maxsize", |at, draft| draft.max_size = size(at), "The most, with `size: auto`."),
    ];
    let mut draft = Draft::default();
    at.section("'swap'", &table, &mut draft);
    Some(Swap { filename: draft.filename?, size: draft.size, max_size: draft.max_size })
}

/// Bytes, with K, M, G or T behind the number.
fn size(at: &At<'_>) -> Option<u64> {
    let bytes = crate::compose::parse_size(at.text()?);
    if bytes.is_none() {
        at.error_with_hint("not a size", "bytes, or a number with K, M or G");
    }
    bytes
}

pub(super) fn aliases(at: &At<'_>, machine: &mut Machine) {
    let mut aliases = BTreeMap::new();
    for (name, _, value) in at.map().into_iter().flatten() {
        let Some(device) = value.text() else { continue };
        if device.starts_with("/dev/") && !device.contains("..") {
            aliases.insert(name.to_owned(), device.to_owned());
        } else {
            value.error("must be a path below /dev");
        }
    }
    machine.device_aliases = aliases;
}

pub(super) fn disk_setup(at: &At<'_>, machine: &mut Machine) {
    let table: [Key<DiskSetup>; 3] = [
        take(
            "table_type",
            |at, disk: &mut DiskSetup| {
                disk.gpt = at.word(&[("gpt", true), ("mbr", false)]).unwrap_or_default()
            },
            "`mbr` (default) or `gpt`.",
        ),
        take(
            "layout",
            |at, disk| disk.layout = layout(at).unwrap_or_default(),
            "`true`: one partition; a list of percentages, each alone or with a type: several; `false`: none.",
        ),
        take(
            "overwrite",
            |at, disk| disk.overwrite = at.truth().unwrap_or_default(),
            "`true`: what is there is replaced. Default `false`.",
        ),
    ];
    for (device, _, at) in at.map().into_iter().flatten() {
        let device = device.to_owned();
        let mut disk = DiskSetup { device, gpt: false, layout: Layout::Nothing, overwrite: false };
        at.section("a disk", &table, &mut disk);
        machine.disk_setup.push(disk);
    }
}

fn layout(at: &At<'_>) -> Option<Layout> {
    if !at.is_list() {
        // cloud-init's `remove` would wipe the disk; that is not for a node to do on a word.
        return at.truth().map(|whole| if whole { Layout::Whole } else { Layout::Nothing });
    }
    let mut parts = Vec::new();
    let mut sum = 0;
    for item in at.list()? {
        let fields = item.list_or_one();
        let percent = u32::try_from(fields.first()?.int(1..=100)?).ok()?;
        let kind = fields.get(1).and_then(|kind| kind.text()).map(str::to_owned);
        sum += percent;
        parts.push((percent, kind));
    }
    if sum > 100 {
        at.error("the parts are more than 100 percent");
    }
    Some(Layout::Parts(parts))
}

pub(super) fn fs_setup(at: &At<'_>, machine: &mut Machine) {
    let command = "there is no shell: 'filesystem' and 'label' say what is made";
    let table: [Key<FsSetup>; 9] = [
        take(
            "device",
            |at, fs: &mut FsSetup| fs.device = at.text().unwrap_or_default().to_owned(),
            "A path below /dev, a name of `device_aliases`, `LABEL=` or `UUID=`. Required.",
        ),
        take(
            "filesystem",
            |at, fs| {
                let text = at.text().unwrap_or_default();
                if !MAKEABLE.contains(&text) {
                    at.error_with_hint(format!("the file system '{text}' cannot be made"), &known(&MAKEABLE));
                }
                text.clone_into(&mut fs.filesystem);
            },
            "`ext4` or `swap`. Required.",
        ),
        take("label", |at, fs| fs.label = at.text().map(str::to_owned), "Label of the file system."),
        take("partition", partition, "`auto`, `any`, `none` or the number of the partition."),
        take(
            "overwrite",
            |at, fs| fs.overwrite = at.truth().unwrap_or_default(),
            "`true`: what is there is replaced. Default `false`.",
        ),
        take(
            "replace_fs",
            |at, fs| fs.replace = at.text().map(str::to_owned),
            "A file system of this kind is replaced.",
        ),
        Key {
            name: "cmd",
            use_: Use::Read(|at, _| at.error("'cmd' is a shell command, which a node cannot run")),
            doc: command,
        },
        Key {
            name: "extra_opts",
            use_: Use::Read(|at, _| {
                at.error("'extra_opts' are options of a command, which a node does not have")
            }),
            doc: command,
        },
        Key { name: "special", use_: Use::Refused, doc: "" },
    ];
    for at in at.list().into_iter().flatten() {
        let mut fs = FsSetup::default();
        at.section("a file system", &table, &mut fs);
        for key in ["device", "filesystem"] {
            if at.is_map() && at.get(key).is_none() {
                at.add(Severity::Error, at.node.mark, format!("has no '{key}'"), "");
            }
        }
        machine.fs_setup.push(fs);
    }
}

fn partition(at: &At<'_>, fs: &mut FsSetup) {
    let Some(text) = at.text() else { return };
    if ["auto", "any", "none"].contains(&text) || text.parse::<u8>().is_ok_and(|number| number > 0) {
        fs.partition = Some(text.to_owned());
    } else {
        at.error("must be 'auto', 'any', 'none' or the number of a partition");
    }
}
