//! Where things are on a running node: the one place that names them.

/// PID 1, in the root and (as `/init`) in the initrd.
pub const INIT: &str = "/usr/sbin/init";
/// The agent.
pub const AGENT: &str = "/usr/sbin/holdfastd";
/// The shim.
pub const SHIM: &str = "/usr/bin/containerd-shim-holdfast-v1";
/// Checks the state partition.
pub const E2FSCK: &str = "/usr/sbin/e2fsck";
/// Kernel modules and their index, in the root and in the initrd.
pub const MODULES: &str = "/usr/lib/modules";
/// What the release says of itself: `release.json`. Its time, like that of all files of the root, is that of the build.
pub const RELEASE: &str = "/usr/share/holdfast/release.json";
/// User-data that was baked into the root.
pub const BAKED_USER_DATA: &str = "/usr/share/holdfast/user-data";
/// Images that were baked into the root: an image store (`images::Index`).
pub const BAKED_IMAGES: &str = "/usr/share/holdfast/images";
/// The default seccomp profile, in the OCI runtime-spec's form.
pub const SECCOMP: &str = "/usr/share/holdfast/seccomp.json";
/// An empty state file system: see `docs/architecture.md` for its form.
pub const STATE_TEMPLATE: &str = "/usr/share/holdfast/state.template";
/// The skeleton that `/etc` is made from at every boot.
pub const ETC_SKELETON: &str = "/usr/share/holdfast/etc";

/// State that outlives a boot.
pub const STATE: &str = "/var";
/// Generations: `<N>/{plan.json,generation.json,user-data,bundles/NAME/{config.json,shim.json}}`, and the links
/// `current` and `current-<root hash>` to the last accepted one (of any release, and of that release).
pub const GENERATIONS: &str = "/var/lib/holdfast/generations";
/// Writable layers of containers, one directory a service and digest.
pub const CONTAINERS: &str = "/var/lib/holdfast/containers";
/// Named volumes, one directory each.
pub const VOLUMES: &str = "/var/lib/holdfast/volumes";
/// The last time that the node has known: the file's own, of its last change.
pub const CLOCK: &str = "/var/lib/holdfast/clock";
/// Images that were pulled: an image store (`images::Index`), and `new` with layers that are being written.
pub const IMAGES: &str = "/var/lib/holdfast/images";
/// What the network remembers from boot to boot.
pub const NETWORK: &str = "/var/lib/holdfast/network";
/// Certificate authorities that containers are given: `<SHA-256>.crt`.
pub const CERTIFICATES: &str = "/var/lib/holdfast/certificates";
/// How far each receiver of logs has come.
pub const LOG_PLACES: &str = "/var/lib/holdfast/logs";
/// Logs of services: `<service>.log`, and older files with `.1` and so on behind that.
pub const LOGS: &str = "/var/log/holdfast";

/// What is true until the next boot.
pub const RUN: &str = "/run/holdfast";
/// The datagram socket on which PID 1 hears sd_notify messages.
pub const NOTIFY: &str = "/run/holdfast/notify.sock";
/// The boot's stages with their times.
pub const BOOT_TRACE: &str = "/run/holdfast/boot.json";
/// What PID 1 knows of its services; replaced whole at each change.
pub const STATUS: &str = "/run/holdfast/status.json";

/// What becomes of images that are being pulled; replaced whole at each change.
pub const PULLS: &str = "/run/holdfast/images.json";

/// The kernel command line's key of the root hash (64 hex digits).
pub const CMDLINE_ROOT: &str = "holdfast.root";
/// The kernel command line's key of user-data (base64, maybe gzipped).
pub const CMDLINE_USER_DATA: &str = "holdfast.user-data";

/// The cgroup of a service, below `/sys/fs/cgroup`; the shim lives in `shim`, the container in `container`.
pub const SERVICES_SLICE: &str = "services.slice";

/// Where the shim of `service` puts the `number`th of its [`crate::container::Bind`]s.
pub fn bind(service: &str, number: usize) -> std::path::PathBuf {
    std::path::Path::new(RUN).join("shim").join(service).join("binds").join(number.to_string())
}

/// Where the shim of `service` writes a secret or config of this name: memory that only it and its container see.
pub fn given_file(service: &str, name: &str) -> std::path::PathBuf {
    std::path::Path::new(RUN).join("shim").join(service).join("files").join(name)
}

/// The name of the socket among the files of [`given_file`] at which it hears the container's program.
pub const NOTIFY_FILE: &str = "notify.sock";
/// Where the container has that socket.
pub const NOTIFY_IN_CONTAINER: &str = "/run/notify.sock";

/// Where the shim of `service` serves its container's task.
pub fn task_socket(service: &str) -> std::path::PathBuf {
    std::path::Path::new(RUN).join("tasks").join(format!("{service}.sock"))
}
