//! The machine: cloud-init's keys that a node honours, typed, and the others by what becomes of them.

pub(crate) mod files;
mod firewall;
mod host;
pub(crate) mod images;
mod logs;
mod once;
mod registry;
mod storage;
mod time;
mod trust;
pub(crate) mod users;

use std::collections::{BTreeMap, HashSet};

use plan::Gate;
use userdata::{At, KeySpec as Key, Located, Severity, Use, Value};

use crate::container_network::Firewall;

pub use files::File;
pub(crate) use host::full_name;
pub use host::{EtcHosts, Hostname, ResolvConf};
pub use images::{ImageSource, Import, Scrub};
pub use logs::Receiver;
pub use once::{Delay, PhoneHome, Post, PowerMode, PowerState};
pub use registry::{Credentials, Registry};
pub use storage::{DiskSetup, FsSetup, Layout, Mount, Swap};
pub use time::Ntp;
pub use trust::{CaCerts, HostKeys};

/// What the machine shall be, as far as the keys say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Machine {
    /// Its names.
    pub hostname: Hostname,
    /// What `/etc/hosts` says of itself.
    pub etc_hosts: EtcHosts,
    /// `/etc/resolv.conf`; absent: what the network says.
    pub resolv_conf: Option<ResolvConf>,
    /// Name in the time zone database.
    pub timezone: Option<String>,
    /// Time servers; absent: the release's.
    pub ntp: Option<Ntp>,
    /// Keys that may log in, by user. Those without a user belong to the default user.
    pub keys: Vec<(String, String)>,
    /// Whether the keys of the meta-data may log in, too.
    pub allow_meta_data_keys: Option<bool>,
    /// Files in the order they are written.
    pub files: Vec<File>,
    /// Files that cannot be written, with the reason. The configuration has errors then.
    pub rejected_files: BTreeMap<String, &'static str>,
    /// Certificate authorities.
    pub ca_certs: Option<CaCerts>,
    /// Host keys of the SSH front.
    pub host_keys: HostKeys,
    /// File systems to mount.
    pub mounts: Vec<Mount>,
    /// Swap file.
    pub swap: Option<Swap>,
    /// Names for devices.
    pub device_aliases: BTreeMap<String, String>,
    /// Partition tables to write.
    pub disk_setup: Vec<DiskSetup>,
    /// File systems to make.
    pub fs_setup: Vec<FsSetup>,
    /// Bytes for the kernel's random pool.
    pub random_seed: Vec<u8>,
    /// What happens when everything is done, once per instance.
    pub power_state: Option<PowerState>,
    /// Who is told that the instance is up, once per instance.
    pub phone_home: Option<PhoneHome>,
    /// Last line of a boot on the console.
    pub final_message: Option<String>,
    /// Whether vendor-data counts.
    pub vendor_data: Option<bool>,
    /// `bootcmd` and `runcmd`, for the image that [`Holdfast::run_in`] names.
    pub commands: Commands,
    /// The section `holdfast`.
    pub holdfast: Holdfast,
    mount_defaults: Option<[Option<String>; 6]>,
    manage_resolv_conf: bool,
}

/// Commands that run in a container, when the user asked for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commands {
    /// At every boot.
    pub boot: Vec<Vec<String>>,
    /// Once per instance.
    pub run: Vec<Vec<String>>,
}

/// What neither cloud-init nor compose has a word for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Holdfast {
    /// When a boot counts as good.
    pub gate: Gate,
    /// Variables of the compose sections.
    pub env: BTreeMap<String, String>,
    /// Network configuration; wins over the datasource's.
    pub network: Option<netconfig::State>,
    /// Image that `bootcmd` and `runcmd` run in.
    pub run_in: Option<Located<String>>,
    /// Kernel parameters.
    pub sysctl: BTreeMap<String, String>,
    /// Kernel modules to load.
    pub modules: Vec<String>,
    /// Who may reach the node.
    pub firewall: Option<Firewall>,
    /// Where images come from.
    pub registry: Registry,
    /// Images that come from files.
    pub images: Vec<Import>,
    /// How often what is kept of images is read.
    pub scrub: Scrub,
    /// Who gets the logs of services.
    pub logs: Vec<Receiver>,
}

/// A key that is read.
pub(crate) const fn take<T>(name: &'static str, read: fn(&At<'_>, &mut T), doc: &'static str) -> Key<T> {
    Key { name, use_: Use::Read(read), doc }
}

/// What is read at the top level, besides the compose sections.
pub(crate) const NATIVE: [Key<Machine>; 33] = [
    take(
        "hostname",
        |at, machine| host::read_hostname(at, &mut machine.hostname),
        "The node's name. Of a name with dots the first label counts, and the whole is the `fqdn`. Without it: the \
         datasource's `local-hostname`, else `holdfast`.",
    ),
    take(
        "fqdn",
        |at, machine| machine.hostname.fqdn = host::full_name(at),
        "The node's full name; its first label is the `hostname` unless that is given.",
    ),
    take(
        "prefer_fqdn_over_hostname",
        |at, machine| machine.hostname.prefer_fqdn = at.truth().unwrap_or_default(),
        "`true`: the kernel's host name is the `fqdn`.",
    ),
    take(
        "preserve_hostname",
        |at, machine| machine.hostname.preserve = at.truth().unwrap_or_default(),
        "`true`: the node keeps the system's own name, `holdfast`, whatever else is given.",
    ),
    take(
        "manage_etc_hosts",
        |at, machine| host::etc_hosts(at, &mut machine.etc_hosts),
        "`true`: `/etc/hosts` is cloud-init's, with the node's full and short name at 127.0.1.1; `localhost`: only that \
         line is set, in whatever the file holds; `false` (default): localhost, and the node's name at 127.0.1.1.",
    ),
    take(
        "manage_resolv_conf",
        |at, machine| machine.manage_resolv_conf = at.truth().unwrap_or_default(),
        "`true`: `/etc/resolv.conf` is made from `resolv_conf`, whatever the network says.",
    ),
    take(
        "resolv_conf",
        |at, machine| machine.resolv_conf = Some(host::resolv_conf(at)),
        "`nameservers`, `searchdomains`, `domain`, `sortlist`, `options`.",
    ),
    take(
        "timezone",
        |at, machine| machine.timezone = time::timezone(at),
        "A name of the time zone database: `Europe/Berlin`. It becomes `/etc/localtime` and `/etc/timezone`. Default \
         `Etc/UTC`.",
    ),
    take(
        "ntp",
        |at, machine| machine.ntp = Some(time::ntp(at)),
        "`servers` and `pools` to take the time from, instead of those that DHCP names or the public pool; `enabled: false` takes none.",
    ),
    take(
        "ssh_authorized_keys",
        |at, machine| users::authorized_keys(at, users::DEFAULT_USER, &mut machine.keys),
        "List of public keys, each as one line of an `authorized_keys` file. They are the user `core`'s, as are those of \
         the datasource's meta-data; the keys of each user are kept in `/var/lib/holdfast/keys/users/NAME`.",
    ),
    take(
        "users",
        users::users,
        "List of users: `name` and `ssh_authorized_keys` of each count; there are no local accounts.",
    ),
    take(
        "allow_public_ssh_keys",
        |at, machine| machine.allow_meta_data_keys = at.truth(),
        "`false`: keys of the datasource's meta-data may not log in.",
    ),
    take(
        "write_files",
        files::write_files,
        "List of files: `path`, `content`, `encoding` (`b64`, `gzip`, `gz+b64` and their other names), `permissions` \
         (default `0644`), `owner` (numbers, `root`, `nobody`), `append`, `defer` (written last), `source` (`uri` and \
         `headers`: fetched; `content` counts when that fails). Written at every boot, whole, with the directories that \
         are missing, below `/etc`, `/run`, `/var`, and `/home`, `/mnt`, `/opt`, `/root` and `/srv`, which are kept with \
         the state. What `append` adds is not added again to a file that ends with it. No link is followed out of \
         the directory it is in.",
    ),
    take(
        "ca_certs",
        |at, machine| machine.ca_certs = Some(trust::ca_certs(at)),
        "`trusted`: list of certificates (PEM), added to those of the release; `remove_defaults: true`: only those. They \
         become `/etc/ssl/certs/ca-certificates.crt`, which containers whose image has the directory \
         `/etc/ssl/certs` see in the same place, read-only.",
    ),
    take(
        "ca-certs",
        |at, machine| {
            machine.ca_certs.get_or_insert_with(|| trust::ca_certs(at));
        },
        "Old spelling of `ca_certs`.",
    ),
    take(
        "ssh_keys",
        |at, machine| trust::ssh_keys(at, &mut machine.host_keys),
        "Host keys: `TYPE_private`, `TYPE_public`, `TYPE_certificate`, where TYPE is rsa, ecdsa or ed25519. They are kept \
         in `/var/lib/holdfast/keys/host`. Without any, a key of type ed25519 is made once per instance.",
    ),
    take(
        "ssh_deletekeys",
        |at, machine| machine.host_keys.delete = at.truth(),
        "`false`: host keys of an earlier instance are kept. Default `true`.",
    ),
    take(
        "ssh_genkeytypes",
        |at, machine| trust::key_types(at, &mut machine.host_keys),
        "Types of host keys. Only ed25519 is made, whatever the list says.",
    ),
    take(
        "mounts",
        storage::mounts,
        "List of `[device, mount point, type, options, dump, pass]`, below `/var`, `/mnt` or `/srv`. A device is a path, a \
         name such as `vdb1`, `LABEL=`, `UUID=`, `PARTLABEL=` or `PARTUUID=`. ext4 (also for ext2 and ext3), vfat, \
         iso9660, tmpfs and swap can be mounted. `pass` other than 0: ext4 is checked before.",
    ),
    take(
        "mount_default_fields",
        |at, machine| machine.mount_defaults = storage::default_fields(at),
        "What fields of `mounts` are that are not given.",
    ),
    take(
        "swap",
        |at, machine| machine.swap = storage::swap(at),
        "A swap file: `filename` (a path outside of `/var` is one below it), `size` (`auto`: as much as there is memory, \
         at most 2 GiB), `maxsize`. At most three quarters of the free state are taken.",
    ),
    take("device_aliases", storage::aliases, "Names for devices, for `disk_setup`, `fs_setup` and `mounts`."),
    take(
        "disk_setup",
        storage::disk_setup,
        "Partition tables by device: `table_type` (mbr, gpt), `layout` (`true`: one partition; or a list of percentages, \
         each with a type or without), `overwrite`. A disk that holds anything is left alone, unless `overwrite: true`, \
         which counts once per instance.",
    ),
    take(
        "fs_setup",
        storage::fs_setup,
        "File systems: `device`, `filesystem` (ext4, of at least 160 MiB, or swap), `label`, `partition` (`none`, a number, \
         `auto`, `any`), `overwrite`, `replace_fs`. What a device holds is left alone, unless `overwrite: true`, which \
         counts once per instance, or `replace_fs` names what it is.",
    ),
    take(
        "random_seed",
        once::random_seed,
        "`data` and its `encoding`: mixed into the kernel's random pool at every boot.",
    ),
    take(
        "power_state",
        |at, machine| machine.power_state = once::power_state(at),
        "`mode` (poweroff, reboot, halt), `delay` (`now` or minutes), `message`, `timeout` (seconds that services may \
         take to start, default 30), `condition` (true or false): once per instance, when the services have started.",
    ),
    take(
        "phone_home",
        |at, machine| machine.phone_home = once::phone_home(at),
        "`url` (`$INSTANCE_ID` is replaced), `post` (`all`, or fields) and `tries` (default 10, 3 s between them): the \
         fields are posted as a form, once per instance, when the services have started.",
    ),
    take(
        "final_message",
        |at, machine| machine.final_message = at.text().map(str::to_owned),
        "Said on the console at every boot when the services have started. `$UPTIME`, `$TIMESTAMP`, `$DATASOURCE` and \
         `$VERSION` are replaced.",
    ),
    take("vendor_data", vendor_data, "`enabled: false`: the datasource's vendor-data does not count."),
    take(
        "bootcmd",
        |at, machine| commands(at, &mut machine.commands.boot),
        "List of commands (a list of words, or a text for `sh -c`) that run at every boot, before those of `runcmd`, in \
         the image of `holdfast.compat.run_in`. Without that they are not applicable.",
    ),
    take("runcmd", |at, machine| commands(at, &mut machine.commands.run), "The same, once per instance."),
    take("disable_root", disable_root, "`true` is so anyway."),
    take(
        "holdfast",
        |at, machine| at.section("'holdfast'", &HOLDFAST, &mut machine.holdfast),
        "What neither cloud-init nor compose has a word for: see below.",
    ),
];

/// The section `holdfast`.
pub(crate) const HOLDFAST: [Key<Holdfast>; 11] = [
    take(
        "gate",
        |at, holdfast| at.section("'holdfast.gate'", &GATE, &mut holdfast.gate),
        "When a boot of a new version counts as good: see below.",
    ),
    take(
        "env",
        |at, holdfast| holdfast.env = variables(at),
        "Variables for the compose sections: a map of names to texts.",
    ),
    take(
        "network",
        |at, holdfast| holdfast.network = netconfig::read(at),
        "Network configuration, version 1 or 2: see `network.md`. It counts before the platform's.",
    ),
    take(
        "compat",
        |at, holdfast| {
            let table =
                [take("run_in", |at, run_in: &mut Option<_>| *run_in = at.located_text(), "An image.")];
            at.section("'holdfast.compat'", &table, &mut holdfast.run_in);
        },
        "`run_in: IMAGE`: `bootcmd` and `runcmd` run in a container of that image, which must have `sh`: a service called \
         `commands`, privileged, with the node's network and processes; the node's files are in `/proc/1/root`. A \
         command that fails is said, and the others run.",
    ),
    take(
        "sysctl",
        |at, holdfast| holdfast.sysctl = sysctl(at),
        "Kernel parameters: a map of names, as in `net.core.somaxconn`, to values.",
    ),
    take(
        "modules",
        |at, holdfast| holdfast.modules = at.texts().unwrap_or_default(),
        "List of kernel modules to load, of those that the release has.",
    ),
    take(
        "firewall",
        |at, holdfast| holdfast.firewall = Some(firewall::read(at)),
        "`accept`: what the node lets in beside the ports that services say: see `container-network.md`.",
    ),
    take(
        "registry",
        |at, holdfast| holdfast.registry = registry::registry(at),
        "Where images are pulled from, and as whom: see below and `images.md`.",
    ),
    take(
        "images",
        images::images,
        "List of images that are imported from files, each with `name` and `from`: see below and `images.md`.",
    ),
    take(
        "scrub",
        |at, holdfast| holdfast.scrub = images::scrub(at),
        "How often all layers of images on the disk are read, so that what has changed there is found: `daily` \
         (default), `weekly`, `monthly` or `never`: see `images.md`.",
    ),
    take(
        "logs",
        |at, holdfast| holdfast.logs = logs::logs(at),
        "`forward`: who gets the logs of services: see below and `services.md`.",
    ),
];

/// The section `holdfast.gate`.
pub(crate) const GATE: [Key<Gate>; 2] = [
    take(
        "settle",
        |at, gate| read_millis(at, &mut gate.settle_ms),
        "How long every service must have run, as a duration. Default `10s`.",
    ),
    take(
        "deadline",
        |at, gate| read_millis(at, &mut gate.deadline_ms),
        "How long the node waits for that before it goes back to the old version. Default `5m`.",
    ),
];

/// Keys that no release does yet, and that a node can run without.
const UNSUPPORTED: &str = "rsyslog wireguard";

/// Keys for what a node does not have, with what to do instead.
const NOT_APPLICABLE: [(&str, &str); 5] = [
    (
        "apk_repos apt apt_pipelining apt_reboot_if_required apt_update apt_upgrade autoinstall grub-dpkg grub_dpkg \
         package_reboot_if_required package_update package_upgrade packages rh_subscription rpi snap spacewalk \
         ubuntu_advantage ubuntu_pro updates yum_repo_dir yum_repos zypper",
        "there is no package manager: software comes in container images",
    ),
    (
        "ansible chef landscape mcollective puppet salt_minion",
        "run the agent in a container under 'services'",
    ),
    (
        "chpasswd groups password ssh_import_id ssh_pwauth user",
        "there are no local accounts; give keys in 'ssh_authorized_keys'",
    ),
    ("byobu_by_default keyboard locale locale_configfile", "nobody logs in to a shell here"),
    (
        "cloud_config_modules cloud_final_modules cloud_init_modules disable_ec2_metadata drivers fan lxd migrate \
         system_info",
        "",
    ),
];

/// Keys that have no bearing here: they tune cloud-init itself, or ask for what is so anyway. The merge rules were
/// used when the parts were put together.
const QUIET: &str = "authkey_hash create_hostname_file disable_root_opts growpart launch-index no_ssh_fingerprints output \
     reporting resize_rootfs ssh ssh_fp_console_blacklist ssh_key_console_blacklist ssh_publish_hostkeys \
     ssh_quiet_keygen version";

/// Every key of the top level that is not compose's.
pub(crate) fn table() -> Vec<Key<Machine>> {
    let mut table = Vec::from(NATIVE);
    let mut add = |names: &'static str, use_: fn() -> Use<Machine>, doc| {
        table.extend(names.split_whitespace().map(|name| Key { name, use_: use_(), doc }));
    };
    add(UNSUPPORTED, || Use::Unsupported, "");
    add(QUIET, || Use::Quiet, "");
    for (names, doc) in NOT_APPLICABLE {
        add(names, || Use::NotApplicable, doc);
    }
    table
}

/// What depends on several keys.
pub(crate) fn finish(root: &At<'_>, machine: &mut Machine) {
    let mut seen = HashSet::new();
    machine.keys.retain(|key| seen.insert(key.clone()));
    if !machine.manage_resolv_conf
        && let Some(resolv_conf) = root.get("resolv_conf").filter(|at| !at.asks_for_nothing())
    {
        resolv_conf.warn("has no effect without 'manage_resolv_conf: true'");
        machine.resolv_conf = None;
    }
    if machine.holdfast.run_in.is_none() {
        for key in ["bootcmd", "runcmd"] {
            if let Some(at) = root.get(key).filter(|at| !at.asks_for_nothing()) {
                let hint = "there is no shell: run it in a container under 'services', or name an image in \
                            'holdfast.compat.run_in'";
                let message = format!("'{key}' is not applicable on a node");
                at.add(Severity::NotApplicable, at.key_mark(root), message, hint);
            }
        }
        machine.commands = Commands::default();
    }
    storage::finish(root, machine);
}

fn vendor_data(at: &At<'_>, machine: &mut Machine) {
    if !at.is_map() {
        machine.vendor_data = at.truth();
        return;
    }
    let table = [
        take(
            "enabled",
            |at, enabled: &mut Option<bool>| *enabled = at.truth(),
            "`false`: vendor-data does not count.",
        ),
        Key { name: "prefix", use_: Use::NotApplicable, doc: "vendor-data runs no scripts here" },
        Key { name: "disabled_handlers", use_: Use::Quiet, doc: "" },
    ];
    at.section("'vendor_data'", &table, &mut machine.vendor_data);
}

/// Each command a list (run as it is) or a text (for `sh -c`). Without an image to run in they are only reported, so
/// what is wrong with them is no error then: `finish` says which it is.
fn commands(at: &At<'_>, commands: &mut Vec<Vec<String>>) {
    let Value::List(items) = &at.node.value else { return };
    for item in items.iter() {
        match &item.value {
            Value::Scalar(scalar) => {
                commands.push(vec!["sh".to_owned(), "-c".to_owned(), scalar.text.to_string()]);
            }
            Value::List(words) => {
                commands.push(words.iter().filter_map(|word| word.text().map(str::to_owned)).collect());
            }
            Value::Null | Value::Map(_) => {}
        }
    }
}

fn disable_root(at: &At<'_>, _: &mut Machine) {
    if at.truth() == Some(false) {
        at.warn("root cannot be enabled: there are no local accounts");
    }
}

fn variables(at: &At<'_>) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for (name, mark, value) in at.map().into_iter().flatten() {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(word) {
            let hint = "letters, digits and '_', not beginning with a digit";
            value.add(Severity::Error, mark, format!("'{name}' is not a variable name"), hint);
        } else if value.is_null() {
            variables.insert(name.to_owned(), String::new());
        } else if let Some(text) = value.text() {
            variables.insert(name.to_owned(), text.to_owned());
        }
    }
    variables
}

fn sysctl(at: &At<'_>) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for (name, mark, value) in at.map().into_iter().flatten() {
        let word = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
        if name.is_empty() || !name.chars().all(word) || name.split(['.', '/']).any(str::is_empty) {
            value.add(
                Severity::Error,
                mark,
                format!("'{name}' is not a kernel parameter"),
                "as in net.core.somaxconn",
            );
        } else if let Some(text) = value.text() {
            values.insert(name.to_owned(), text.to_owned());
        }
    }
    values
}

fn read_millis(at: &At<'_>, millis: &mut u64) {
    // A day is longer than any boot; the bound keeps the sums in PID 1 far from overflow.
    const LONGEST: std::time::Duration = std::time::Duration::from_secs(24 * 3600);
    match at.duration() {
        Some(duration) if duration > LONGEST => at.error("must not be longer than 24h"),
        Some(duration) => *millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        None => {}
    }
}

/// Texts of a list; what is not text is an error.
pub(crate) fn texts(at: &At<'_>) -> Vec<String> {
    at.list().into_iter().flatten().filter_map(|item| item.text().map(str::to_owned)).collect()
}
