//! The top level of a `#cloud-config`: every key of cloud-init's schema (26.2), compose's top level, and `holdfast`.

use std::time::Duration;

use plan::Gate;

use crate::authorized_keys;
use crate::desired::Desired;
use crate::problem::Report;
use crate::read::{At, Key, Use};
use crate::tree::{Node, Value};
use crate::{depends, service, variables};

/// What is read at the top level.
pub(crate) const NATIVE: [Key<Desired>; 4] = [
    Key {
        name: "hostname",
        use_: Use::Read(|at, desired| desired.hostname = hostname(at)),
        doc: "The node's name. Of a name with dots the first label counts. Without it: the datasource's \
              `local-hostname`, else `holdfast`.",
    },
    Key {
        name: "ssh_authorized_keys",
        use_: Use::Read(ssh_authorized_keys),
        doc: "List of public keys, each as one line of an `authorized_keys` file. They are kept in \
              `/var/lib/holdfast/keys/authorized_keys`.",
    },
    Key { name: "services", use_: Use::Read(services), doc: "Map of services by name: see below." },
    Key {
        name: "holdfast",
        use_: Use::Read(|at, desired| at.section("'holdfast'", &HOLDFAST, desired)),
        doc: "What neither cloud-init nor compose has a word for: see below.",
    },
];

/// The section `holdfast`.
const HOLDFAST: [Key<Desired>; 1] = [Key {
    name: "gate",
    use_: Use::Read(|at, desired| at.section("'holdfast.gate'", &GATE, &mut desired.gate)),
    doc: "When a boot of a new version counts as good.",
}];

/// The section `holdfast.gate`.
pub(crate) const GATE: [Key<Gate>; 2] = [
    Key {
        name: "settle",
        use_: Use::Read(|at, gate| read_millis(at, &mut gate.settle_ms)),
        doc: "How long every service must have run, as a duration. Default `10s`.",
    },
    Key {
        name: "deadline",
        use_: Use::Read(|at, gate| read_millis(at, &mut gate.deadline_ms)),
        doc: "How long the node waits for that before it goes back to the old version. Default `5m`.",
    },
];

/// Keys that this version does not do, and that a node can run without.
const UNSUPPORTED: &str = "allow_public_ssh_keys ca-certs ca_certs device_aliases disk_setup final_message fqdn fs_setup \
     launch-index manage_etc_hosts manage_resolv_conf merge_how merge_type mount_default_fields mounts ntp phone_home \
     power_state prefer_fqdn_over_hostname preserve_hostname random_seed resolv_conf rsyslog ssh_deletekeys \
     ssh_genkeytypes ssh_keys swap timezone users vendor_data wireguard write_files";

/// Keys for what a node does not have, with what to do instead.
const NOT_APPLICABLE: [(&str, &str); 6] = [
    (
        "apk_repos apt apt_pipelining apt_reboot_if_required apt_update apt_upgrade autoinstall grub-dpkg grub_dpkg \
         package_reboot_if_required package_update package_upgrade packages rh_subscription rpi snap spacewalk \
         ubuntu_advantage ubuntu_pro updates yum_repo_dir yum_repos zypper",
        "there is no package manager: software comes in container images",
    ),
    ("bootcmd runcmd", "there is no shell: run it in a container under 'services'"),
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

/// Keys that have no bearing here: they tune cloud-init itself, or ask for what is so anyway.
const QUIET: &str = "authkey_hash create_hostname_file disable_root_opts growpart no_ssh_fingerprints output reporting \
     resize_rootfs ssh ssh_fp_console_blacklist ssh_key_console_blacklist ssh_publish_hostkeys ssh_quiet_keygen version";

/// Compose's other top-level keys.
const COMPOSE: [(&str, &str); 7] = [
    ("configs", "bake the files into the image"),
    ("include", "put its content into this file"),
    ("models", "run the model in a service"),
    ("name", "the node is the project: remove it"),
    ("networks", "services use the network of the node: 'network_mode: host', or none"),
    ("secrets", "give values in 'environment'"),
    ("volumes", "what a container writes is kept until its service changes"),
];

/// Reads the whole file.
pub(crate) fn read(root: &Node, report: &Report) -> Desired {
    let mut desired = Desired::default();
    if !matches!(root.value, Value::Null) {
        At::new(root, "", report).section("a node's configuration", &table(), &mut desired);
    }
    desired
}

fn table() -> Vec<Key<Desired>> {
    let mut table = Vec::from(NATIVE);
    let mut add = |names: &'static str, use_: fn() -> Use<Desired>, doc| {
        table.extend(names.split_whitespace().map(|name| Key { name, use_: use_(), doc }));
    };
    add(UNSUPPORTED, || Use::Unsupported, "");
    add(QUIET, || Use::Quiet, "");
    add("disable_root", || Use::Read(disable_root), "");
    for (names, doc) in NOT_APPLICABLE {
        add(names, || Use::NotApplicable, doc);
    }
    for (name, doc) in COMPOSE {
        add(name, || Use::Refused, doc);
    }
    table
}

/// The first label of a host name by RFC 1123.
pub(crate) fn hostname(at: &At<'_>) -> Option<String> {
    let name = at.text()?;
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > 253 || !name.split('.').all(label) {
        let rule = "labels of letters, digits and '-' with dots between them, each of 1 to 63 characters";
        at.error_with_hint("not a host name", rule);
        return None;
    }
    name.split('.').next().map(str::to_owned)
}

fn ssh_authorized_keys(at: &At<'_>, desired: &mut Desired) {
    for item in at.list().unwrap_or_default() {
        let Some(key) = item.text().map(str::trim) else { continue };
        match authorized_keys::judge(key) {
            Ok(()) if desired.ssh_authorized_keys.iter().any(|known| known == key) => {}
            Ok(()) => desired.ssh_authorized_keys.push(key.to_owned()),
            Err(why) => item.error(why),
        }
    }
}

fn services(at: &At<'_>, desired: &mut Desired) {
    let node = variables::substitute(at.node, &at.path, at.report);
    let at = At::new(&node, &at.path, at.report);
    desired.services = service::read_all(&at);
    depends::check(&at, &desired.services);
}

fn disable_root(at: &At<'_>, _: &mut Desired) {
    if at.truth() == Some(false) {
        at.warn("root cannot be enabled: there are no local accounts");
    }
}

fn read_millis(at: &At<'_>, millis: &mut u64) {
    // A day is longer than any boot; the bound keeps the sums in PID 1 far from overflow.
    const LONGEST: Duration = Duration::from_secs(24 * 3600);
    match at.duration() {
        Some(duration) if duration > LONGEST => at.error("must not be longer than 24h"),
        Some(duration) => *millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        None => {}
    }
}
