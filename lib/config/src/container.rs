//! What a service's container is made of beside its program and its network: groups, mounts, files, rights and limits.
//! Everything is resolved: a value that is `None` is the system's default or the image's.

use std::collections::BTreeMap;
use std::time::Duration;

use plan::ServiceName;

/// One container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// More groups of its process, each a name of the image's `/etc/group` or a number.
    pub groups: Vec<String>,
    /// What is mounted into it.
    pub mounts: Vec<Mount>,
    /// Size of `/dev/shm` in bytes.
    pub shm_size: Option<u64>,
    /// The space that what it writes to its root may take, in bytes.
    pub layer_size: Option<u64>,
    /// Its root cannot be written.
    pub read_only: bool,
    /// Secrets and configs.
    pub files: Vec<GivenFile>,
    /// How it is seen that it works.
    pub health: Health,
    /// What it may use.
    pub limits: Limits,
    /// Whose ids its users have, when that is said.
    pub user_namespace: Option<UserNamespace>,
    /// Its host name is the node's.
    pub node_name: bool,
    /// It sees all control groups of the node.
    pub node_cgroups: bool,
    /// Capabilities on top of the default ones, in the kernel's spelling (`CAP_NET_ADMIN`); `ALL` is all of them.
    pub cap_add: Vec<String>,
    /// Capabilities that it does not get, in the same form.
    pub cap_drop: Vec<String>,
    /// Its programs gain no rights by being executed.
    pub no_new_privileges: bool,
    /// It may make every system call.
    pub unconfined: bool,
    /// Its filter on system calls, in place of the default one: a profile that [`seccomp::resolve`] takes.
    pub filter: Option<String>,
    /// Devices of the node.
    pub devices: Vec<Device>,
    /// Devices that it may use where it finds or makes them.
    pub device_rules: Vec<DeviceRule>,
    /// Kernel parameters of its namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// The signal that asks it to stop, by number.
    pub stop_signal: Option<i32>,
    /// Its name among hosts.
    pub hostname: Option<String>,
    /// The domain of that name.
    pub domainname: Option<String>,
    /// Its program is the child of an init, which reaps what others leave.
    pub init: bool,
    /// Its program has a terminal.
    pub terminal: bool,
    /// Its input stays open for clients.
    pub stdin_open: bool,
    /// Labels and annotations.
    pub annotations: BTreeMap<String, String>,
}

impl Default for Container {
    fn default() -> Self {
        Self {
            groups: Vec::new(),
            mounts: Vec::new(),
            shm_size: None,
            layer_size: None,
            read_only: false,
            files: Vec::new(),
            health: Health::default(),
            limits: Limits::default(),
            user_namespace: None,
            node_name: false,
            node_cgroups: false,
            cap_add: Vec::new(),
            cap_drop: Vec::new(),
            no_new_privileges: true,
            init: false,
            terminal: false,
            stdin_open: false,
            unconfined: false,
            filter: None,
            devices: Vec::new(),
            device_rules: Vec::new(),
            sysctls: BTreeMap::new(),
            stop_signal: None,
            hostname: None,
            domainname: None,
            annotations: BTreeMap::new(),
        }
    }
}

/// Whose processes a container sees (`pid`), or whose message queues and shared memory it has (`ipc`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Namespace {
    /// Its own.
    #[default]
    Own,
    /// The node's.
    Node,
    /// That of the container of this service, which shares with nobody else's.
    Of(ServiceName),
}

impl Namespace {
    /// The service.
    pub fn joined(&self) -> Option<&ServiceName> {
        match self {
            Self::Of(service) => Some(service),
            Self::Own | Self::Node => None,
        }
    }
}

/// Compose's `userns_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserNamespace {
    /// The node's.
    Host,
    /// Its own.
    Private,
}

/// Something mounted into a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where in the container: an absolute path in normal form.
    pub target: String,
    /// It cannot be written.
    pub read_only: bool,
    /// What.
    pub source: MountSource,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountSource {
    /// A named volume.
    Volume {
        /// Its name.
        name: String,
        /// What the image has there is copied into it while it is empty.
        copy: bool,
        /// The space that it may take, in bytes.
        size: Option<u64>,
    },
    /// A file or directory of the node.
    Bind {
        /// Its path.
        path: String,
        /// It is made, as a directory, when it is not there.
        create: bool,
        /// How mounts below it that are made later reach it.
        propagation: Propagation,
    },
    /// Memory, with options of mount(8).
    Tmpfs {
        /// The options.
        options: Vec<String>,
    },
}

/// Whether mounts that are made below a directory of the node are also in a container that has it, and the other way round
/// (mount_namespaces(7)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    /// Neither.
    #[default]
    Private,
    /// Those of the node are in the container.
    Slave,
    /// Both.
    Shared,
}

/// A secret or a config: a file that the container reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenFile {
    /// Where in the container.
    pub target: String,
    /// What it holds.
    pub content: GivenContent,
    /// Permission bits.
    pub mode: u32,
    /// User and group by number.
    pub owner: (u32, u32),
}

/// What a secret or a config holds.
#[derive(Clone, PartialEq, Eq)]
pub enum GivenContent {
    /// This text.
    Text(String),
    /// What the file of the node with this path holds when the container is started.
    File(String),
}

/// Without the text: it may be secret.
impl std::fmt::Debug for GivenContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text"),
            Self::File(path) => write!(f, "File({path})"),
        }
    }
}

/// A health check, as far as the service says; the rest is the image's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// There is none, whatever the image says.
    pub disable: bool,
    /// What is executed in the container; code 0 means that it works.
    pub test: Option<Vec<String>>,
    /// Time between two checks.
    pub interval: Option<Duration>,
    /// Time that one may take.
    pub timeout: Option<Duration>,
    /// Failures in a row that make it unhealthy.
    pub retries: Option<u32>,
    /// Time after the start in which a failure does not count.
    pub start_period: Option<Duration>,
    /// Time between two checks until then.
    pub start_interval: Option<Duration>,
    /// The container is ended when it is unhealthy, and `restart` says what follows.
    pub restart: bool,
    /// Nothing is executed: its program says itself that it works.
    pub notify: bool,
    /// It says so again within this time, or is ended.
    pub watchdog: Option<Duration>,
}

/// What a container may use. Bytes, and processors in millionths of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The most memory.
    pub memory: Option<u64>,
    /// The most memory and swap together; -1: without limit.
    pub memory_and_swap: Option<i64>,
    /// Memory that is kept for it.
    pub memory_reservation: Option<u64>,
    /// The most time on processors.
    pub cpus: Option<u64>,
    /// Docker's weight, 2 to 262,144, when processors are short; 1024 is the usual one.
    pub cpu_shares: Option<u64>,
    /// The processors that it runs on, as in `0-2,5`.
    pub cpuset: Option<String>,
    /// The most processes and threads; -1: without limit.
    pub pids: Option<i64>,
    /// Who is ended first when memory is short: -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// Limits of each process by the kernel's name (`RLIMIT_NOFILE`): soft and hard.
    pub ulimits: BTreeMap<String, (u64, u64)>,
}

/// Devices by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    /// `a` for all, `b` for block devices, `c` for character devices.
    pub kind: char,
    /// The major number; `None`: any.
    pub major: Option<u32>,
    /// The minor number; `None`: any.
    pub minor: Option<u32>,
    /// What may be done with them: letters of `rwm`.
    pub access: String,
}

/// A device of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its path on the node.
    pub path: String,
    /// Its path in the container.
    pub target: String,
    /// What may be done with it: letters of `rwm`.
    pub access: String,
}
