//! A network of its own for guests and for the servers that a test puts there: a network namespace with one bridge.
//!
//! Nothing of it is reachable from outside, and it is gone with the last process that is in it, however a test ends.
//! Making one takes root; on a machine without that the test fails and says so.

use std::fs::File;
use std::io;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};

use crate::server::{Request, Response, Server};
use crate::time_server::TimeServer;

/// The bridge that every guest's link is a port of.
pub const BRIDGE: &str = "lan0";

/// A network namespace.
#[derive(Clone, Debug)]
pub struct Lan {
    namespace: Arc<File>,
    taps: Arc<AtomicU32>,
}

impl Default for Lan {
    fn default() -> Self {
        Self::new()
    }
}

impl Lan {
    /// Makes one, with its loopback and its bridge up.
    pub fn new() -> Self {
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(io::Error::from)?;
            File::open("/proc/thread-self/ns/net")
        });
        let made = made.join().expect("the thread does not panic");
        let namespace = made.expect("a network namespace can be made: this test has to run as root");
        let lan = Self { namespace: Arc::new(namespace), taps: Arc::default() };
        lan.run(&["ip", "link", "set", "lo", "up"]);
        lan.run(&["ip", "link", "add", BRIDGE, "type", "bridge"]);
        lan.run(&["ip", "link", "set", BRIDGE, "up"]);
        lan
    }

    /// Gives the bridge an address, such as `192.0.2.1/24`.
    pub fn address(&self, address: &str) {
        self.run(&["ip", "address", "add", address, "dev", BRIDGE]);
    }

    /// Runs a command in the namespace and gives what it prints; fails when it fails.
    #[track_caller]
    pub fn run(&self, command: &[&str]) -> String {
        let mut process = words(command);
        let output = self.inside(move || process.output());
        let output = output.unwrap_or_else(|error| panic!("{} cannot be started: {error}", command[0]));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{} failed: {}", command.join(" "), text(&output.stderr));
        text(&output.stdout)
    }

    /// Starts a program in the namespace; it ends with the value.
    #[track_caller]
    pub fn spawn(&self, command: &[&str]) -> Process {
        let mut process = words(command);
        process.stdin(Stdio::null());
        let child = self.inside(move || process.spawn());
        Process { child: child.unwrap_or_else(|error| panic!("{} cannot be started: {error}", command[0])) }
    }

    /// Runs `work` on a thread in the namespace: the sockets it makes and the processes it starts stay in it.
    pub fn inside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let namespace = Arc::clone(&self.namespace);
        let thread = std::thread::spawn(move || {
            setns(&*namespace, CloneFlags::CLONE_NEWNET).expect("a network namespace can be entered");
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Answers HTTP requests on an address of the namespace, such as `169.254.169.254:80`.
    #[track_caller]
    pub fn serve(
        &self,
        address: &str,
        answer: impl Fn(&Request) -> Response + Send + Sync + 'static,
    ) -> Server {
        let address = address.to_owned();
        self.inside(move || Server::start(&address, answer))
    }

    /// Tells the time at an address of the namespace, such as `192.0.2.1`, by NTP: one that is `ahead` of the right one.
    #[track_caller]
    pub fn tell_time(&self, address: &str, ahead: Duration) -> TimeServer {
        let address = format!("{address}:123");
        self.inside(move || TimeServer::start(&address, ahead))
    }

    /// Makes a port of the bridge that a guest's link can be plugged into; gives its name, and the hardware address of
    /// that link.
    pub(crate) fn tap(&self) -> (String, String) {
        let number = self.taps.fetch_add(1, Ordering::Relaxed);
        let name = format!("tap{number}");
        self.run(&["ip", "tuntap", "add", &name, "mode", "tap"]);
        self.run(&["ip", "link", "set", &name, "master", BRIDGE, "up"]);
        (name, format!("52:54:00:00:00:{number:02x}"))
    }
}

fn words(command: &[&str]) -> Command {
    let mut process = Command::new(command[0]);
    process.args(&command[1..]);
    process
}

/// A program in a namespace. It ends with this value.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Asks it to reread its configuration, or whatever SIGHUP means to it.
    pub fn hang_up(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("a child can be signalled");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
