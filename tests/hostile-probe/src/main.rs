//! A program that tries to get out of its container, or at what is not its own: one line for each attempt, with what the
//! kernel said. It is the only program of its image, and statically linked.
//!
//! An attempt counts as allowed when the kernel got as far as doing it, also when it then found the request to make no sense;
//! so no attempt does damage where it is allowed, and a privileged container can show that each of them can be.

#![expect(unsafe_code, reason = "attempts are system calls, as an attacker would make them")]

use std::io;
use std::process::ExitCode;
use std::time::Duration;

mod bombs;
mod files;
mod kernel;
mod others;

/// The result of an attempt: allowed, or the kernel's refusal.
type Tried = io::Result<()>;

/// An attempt and its name.
type Attempt = (&'static str, fn() -> Tried);

/// All attempts. `tests/tests/vm/hostile_container.rs` has the same names.
const ATTEMPTS: &[Attempt] = &[
    ("mount", files::mount),
    ("mount-new-api", files::mount_new_api),
    ("unmount", files::unmount),
    ("pivot-root", files::pivot_root),
    ("raw-disk", files::raw_disk),
    ("dev-mem", files::dev_mem),
    ("dev-kmsg", files::dev_kmsg),
    ("open-by-handle", files::open_by_handle),
    ("host-files", files::host_files),
    ("project-id", files::project_id),
    ("write-sysctl", files::write_sysctl),
    ("write-sysrq", files::write_sysrq),
    ("write-sys", files::write_sys),
    ("move-cgroup", files::move_cgroup),
    ("lift-own-limits", files::lift_own_limits),
    ("load-module", kernel::load_module),
    ("kexec", kernel::kexec),
    ("reboot", kernel::reboot),
    ("set-clock", kernel::set_clock),
    ("set-hostname", kernel::set_hostname),
    ("kernel-log", kernel::log),
    ("port-io", kernel::port_io),
    ("bpf", kernel::bpf),
    ("perf", kernel::perf),
    ("userfaultfd", kernel::userfaultfd),
    ("io-uring", kernel::io_uring),
    ("keyring", kernel::keyring),
    ("swap", kernel::swap),
    ("accounting", kernel::accounting),
    ("new-user-namespace", kernel::new_user_namespace),
    ("clone-user-namespace", kernel::clone_user_namespace),
    ("clone3", kernel::clone3),
    ("join-namespace", kernel::join_namespace),
    ("more-capabilities", kernel::more_capabilities),
    ("packet-socket", others::packet_socket),
    ("raw-socket", others::raw_socket),
    ("change-link", others::change_link),
    ("other-processes", others::other_processes),
    ("trace-others", others::trace_others),
    ("node-sockets", others::node_sockets),
    ("terminal-input", others::terminal_input),
    ("engine-program", others::engine_program),
    ("no-process-limit", bombs::no_process_limit),
];

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        // What a health check is.
        Some("true") => {}
        Some("fork") => bombs::fork(),
        Some("memory") => bombs::memory(),
        Some("disk") => bombs::disk(),
        _ => {
            for (name, attempt) in ATTEMPTS {
                match attempt() {
                    Ok(()) => say(&format!("{name}: allowed")),
                    Err(error) => say(&format!("{name}: denied ({error})")),
                }
            }
            say("done");
            loop {
                std::thread::sleep(Duration::from_secs(3600));
            }
        }
    }
    ExitCode::SUCCESS
}

fn say(text: &str) {
    use std::io::Write as _;
    // Nobody listens any more: there is nothing left to do about it.
    writeln!(io::stdout(), "{text}").unwrap_or(());
}

/// A system call as a result; one that failed for `reached` got as far as being done.
fn call(number: i64, args: [usize; 5], reached: &[i32]) -> Tried {
    let [a, b, c, d, e] = args;
    // SAFETY: each caller passes what the call takes: numbers, or addresses of values that live as long as the call.
    let result = unsafe { libc::syscall(number, a, b, c, d, e) };
    if result >= 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error().is_some_and(|error| reached.contains(&error)) { Ok(()) } else { Err(error) }
}

/// The address of a value, for [`call`].
fn at<T: ?Sized>(value: &T) -> usize {
    std::ptr::from_ref(value).cast::<u8>().addr()
}
