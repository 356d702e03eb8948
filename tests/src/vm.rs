//! A virtual machine: how it is to be booted, and what is expected of it while it runs.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

use regex::Regex;

use crate::build::{Build, binary, workspace};
use crate::console::{Console, Missing};
use crate::disk::Disk;
use crate::lan::Lan;

/// How long a sentence waits for what it expects: an emulated guest on a busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(180);

/// When a guest is ended, whatever it does; a test that was killed leaves nothing running for longer.
const LIFETIME_SECONDS: u32 = 1800;

/// How many guests run at the same time, at most.
fn guests_at_once() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(2)
}

/// The directory of the running test, named like it.
pub fn directory() -> PathBuf {
    let thread = std::thread::current();
    let directory = workspace().join(thread.name().unwrap_or("main").replace("::", "-"));
    std::fs::create_dir_all(&directory).expect("target/vm-tests can be made");
    directory
}

/// A machine that is not yet running.
#[derive(Clone, Debug)]
#[must_use = "a machine runs when it is booted"]
pub struct VmBuilder {
    args: Vec<String>,
    user_data: Option<String>,
    ports: Vec<u16>,
    lan: Option<Lan>,
}

/// A running machine. It ends with this value.
#[derive(Debug)]
pub struct Vm {
    child: Child,
    console: Console,
    /// The first line that no expectation has passed.
    next: usize,
    ports: Vec<(u16, u16)>,
    serial: PathBuf,
    _turn: Turn,
}

impl Vm {
    /// Boots kernel and initrd of `build` directly, with a copy of its disk attached.
    pub fn direct(build: Build) -> VmBuilder {
        VmBuilder::new("--direct", &build)
    }

    /// Boots a copy of the disk of `build` through UEFI.
    pub fn disk(build: Build) -> VmBuilder {
        VmBuilder::new("--disk", &build)
    }

    /// Boots the uncompressed kernel of `build` on a machine without firmware and PCI, with a copy of its disk attached.
    pub fn microvm(build: Build) -> VmBuilder {
        VmBuilder::new("--microvm", &build)
    }

    /// Boots `build` without a disk.
    pub fn netboot(build: Build) -> VmBuilder {
        VmBuilder::new("--netboot", &build)
    }
}

impl VmBuilder {
    fn new(mode: &str, build: &Build) -> Self {
        let args = [mode, "--out", &build.out().display().to_string(), "--accel", accelerator(build)];
        Self { args: args.map(str::to_owned).to_vec(), user_data: None, ports: Vec::new(), lan: None }
            .memory(512)
    }

    fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|a| (*a).to_owned()));
        self
    }

    /// Gives it user-data, on a FAT disk unless [`seed`](Self::seed) says otherwise.
    pub fn user_data(mut self, text: &str) -> Self {
        self.user_data = Some(text.to_owned());
        self
    }

    /// How the user-data comes: `vfat`, `iso` or `cmdline`.
    pub fn seed(self, kind: &str) -> Self {
        self.args(&["--seed", kind])
    }

    /// Makes a TCP port of the guest reachable for [`Vm::http`].
    pub fn port(mut self, guest: u16) -> Self {
        self.ports.push(guest);
        self
    }

    /// Its memory in MiB.
    pub fn memory(mut self, mib: u32) -> Self {
        if let Some(at) = self.args.iter().position(|a| a == "--memory") {
            self.args.drain(at..at + 2);
        }
        self.args(&["--memory", &mib.to_string()])
    }

    /// Boots this disk instead of a copy, and writes to it.
    pub fn on(self, disk: &Disk) -> Self {
        self.args(&["--disk-image", &disk.path().display().to_string()])
    }

    /// The least size of its disk, such as `64G`.
    pub fn disk_size(self, size: &str) -> Self {
        self.args(&["--disk-size", size])
    }

    /// No disk at all.
    pub fn without_disk(self) -> Self {
        self.args(&["--no-disk"])
    }

    /// Disks and adapters as real machines have them (SATA, e1000e) instead of virtual ones.
    pub fn on_hardware(self) -> Self {
        self.args(&["--hardware"])
    }

    /// No network at all.
    pub fn without_network(self) -> Self {
        self.args(&["--no-network"])
    }

    /// A link on the bridge of `lan` instead of the usual network; once more for one more link. Links of one `lan`
    /// have the hardware addresses 52:54:00:00:00:00, :01 and so on.
    pub fn on_lan(mut self, lan: &Lan) -> Self {
        self.lan = Some(lan.clone());
        let (tap, address) = lan.tap();
        self.args(&["--tap", &format!("{tap},{address}")])
    }

    /// Lets links be plugged in while it runs: [`Vm::plug_in`].
    pub fn hot_plug(self) -> Self {
        self.args(&["--hot-plug"])
    }

    /// What its firmware tells of the machine: an argument of QEMU's `-smbios`, such as `type=1,serial=x`.
    pub fn smbios(self, fields: &str) -> Self {
        self.args(&["--smbios", fields])
    }

    /// What its hardware clock says at first, such as `1970-01-01`.
    pub fn clock(self, time: &str) -> Self {
        self.args(&["--clock", time])
    }

    /// One more disk, which it may write to.
    pub fn drive(self, image: &std::path::Path) -> Self {
        self.args(&["--drive", &image.display().to_string()])
    }

    /// More for the kernel command line.
    pub fn append(self, text: &str) -> Self {
        self.args(&[&format!("--append={text}")])
    }

    /// A kernel panic is part of the story: the guest reboots, and the test goes on.
    pub fn surviving_panics(self) -> Self {
        self.args(&["--ignore-panic"])
    }

    /// Starts it, when fewer than the most guests at once are running.
    pub fn boot(self) -> Vm {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let turn = Turn::wait();
        let directory = directory();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let serial = directory.join(format!("serial-{number}.log"));
        let mut command = Command::new(binary("image-build"));
        command.arg("run").args(&self.args).args(["--timeout", &LIFETIME_SECONDS.to_string()]);
        command.arg("--serial").arg(&serial);
        if let Some(user_data) = &self.user_data {
            let file = directory.join(format!("user-data-{number}"));
            std::fs::write(&file, user_data).expect("target/vm-tests can be written");
            command.arg("--user-data").arg(file);
        }
        let ports: Vec<_> = self.ports.iter().map(|guest| (*guest, free_port())).collect();
        for (guest, host) in &ports {
            command.args(["--port", &format!("{host}:{guest}")]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = match &self.lan {
            Some(lan) => lan.inside(move || command.spawn()),
            None => command.spawn(),
        };
        let mut child = child.expect("image-build starts");
        let console = Console::follow(child.stdout.take().expect("its output is a pipe"));
        Vm { child, console, next: 0, ports, serial, _turn: turn }
    }
}

impl Vm {
    /// Waits for a line that matches `pattern`, after the one expected before; gives its time since the start.
    #[track_caller]
    pub fn expect(&mut self, pattern: &str) -> Duration {
        self.expect_within(pattern, PATIENCE)
    }

    /// As [`expect`](Self::expect), for things that take longer or must be fast.
    #[track_caller]
    pub fn expect_within(&mut self, pattern: &str, patience: Duration) -> Duration {
        let regex = Regex::new(pattern).expect("a regular expression");
        match self.console.wait(&regex, self.next, patience) {
            Ok((number, line)) => {
                self.next = number + 1;
                line.at
            }
            Err(Missing::TimedOut) => panic!("'{pattern}' did not come within {patience:?}"),
            Err(Missing::GuestEnded) => panic!("the guest ended before '{pattern}' came"),
        }
    }

    /// Waits for all of `patterns`, in any order.
    #[track_caller]
    pub fn expect_all(&mut self, patterns: &[&str]) {
        let from = self.next;
        let mut last = from;
        for pattern in patterns {
            self.next = from;
            self.expect(pattern);
            last = last.max(self.next);
        }
        self.next = last;
    }

    /// Fails when a line so far matches `pattern`.
    #[track_caller]
    pub fn never_said(&self, pattern: &str) {
        let lines = self.lines(pattern);
        assert!(lines.is_empty(), "'{pattern}' was not to come, but did: {lines:#?}");
    }

    /// The lines so far that match `pattern`.
    pub fn lines(&self, pattern: &str) -> Vec<String> {
        let regex = Regex::new(pattern).expect("a regular expression");
        self.console.lines().into_iter().map(|l| l.text).filter(|t| regex.is_match(t)).collect()
    }

    /// Fetches `/` from a TCP port of the guest, again and again until it answers.
    #[track_caller]
    pub fn http(&self, guest: u16) -> Page {
        let (_, host) = *self.ports.iter().find(|(g, _)| *g == guest).expect("a port given to the builder");
        let deadline = Instant::now() + PATIENCE;
        loop {
            match get(host) {
                Ok(text) if !text.is_empty() => return Page { text },
                _ if Instant::now() > deadline => panic!("port {guest} did not answer within {PATIENCE:?}"),
                _ => std::thread::sleep(Duration::from_millis(300)),
            }
        }
    }

    /// Presses the power button until the machine is off: a press before the button's driver is there is lost.
    #[track_caller]
    pub fn power_off(mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.monitor("system_powerdown");
            if let Some(status) = self.wait(Duration::from_secs(2)) {
                assert!(status.success(), "the machine did not power off but ended with {status}");
                return;
            }
            assert!(Instant::now() < deadline, "the machine did not power off within {PATIENCE:?}");
        }
    }

    /// Cuts its power.
    pub fn cut_power(mut self) {
        self.end();
    }

    /// Types a command into QEMU's monitor, which shares the console.
    pub fn monitor(&mut self, command: &str) {
        let input = self.child.stdin.as_mut().expect("its input is a pipe");
        // Without the monitor there is no machine any more, and whoever waits for it sees that.
        write!(input, "\x01c{command}\n\x01c").and_then(|()| input.flush()).ok();
    }

    /// Plugs in one more link on the bridge of `lan`; gives its hardware address.
    pub fn plug_in(&mut self, lan: &Lan) -> String {
        let (name, address) = lan.tap();
        self.monitor(&format!("netdev_add tap,id=late,ifname={name},script=no,downscript=no"));
        self.monitor(&format!("device_add virtio-net-pci,netdev=late,bus=later,mac={address},romfile="));
        address
    }

    /// Pulls or plugs the cable of a link, by its number.
    pub fn cable(&mut self, link: u32, plugged: bool) {
        self.monitor(&format!("set_link net{link} {}", if plugged { "on" } else { "off" }));
    }

    fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            let status = self.child.try_wait().expect("image-build can be waited for");
            if status.is_some() || Instant::now() >= deadline {
                return status;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends `image-build`, which ends QEMU.
    fn end(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_some()) {
            return;
        }
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a child can be ended");
        self.child.wait().expect("a child can be waited for");
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.end();
        if !std::thread::panicking() {
            // Gone already when image-build did not come to write it.
            std::fs::remove_file(&self.serial).ok();
            return;
        }
        let lines = self.console.lines();
        eprintln!("--- end of the console, all of it in {} ---", self.serial.display());
        for line in lines.iter().skip(lines.len().saturating_sub(60)) {
            eprintln!("{:8.3} {}", line.at.as_secs_f64(), line.text);
        }
    }
}

/// An HTTP answer with its head.
#[derive(Clone, Debug)]
pub struct Page {
    text: String,
}

impl Page {
    /// The answer with its head.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Fails when the answer does not hold `text`.
    #[track_caller]
    pub fn expect(&self, text: &str) {
        assert!(self.text.contains(text), "the answer does not hold '{text}':\n{}", self.text);
    }
}

fn get(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A port of 127.0.0.1 that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port can be had");
    listener.local_addr().expect("a listener has an address").port()
}

/// Whether guests run on KVM here, tried once.
fn accelerator(build: &Build) -> &'static str {
    static ACCELERATOR: OnceLock<&str> = OnceLock::new();
    ACCELERATOR.get_or_init(|| {
        let mut trial = Command::new(binary("image-build"));
        trial.args([
            "run",
            "--accel",
            "kvm",
            "--netboot",
            "--no-network",
            "--until",
            ".",
            "--timeout",
            "20",
            "--out",
        ]);
        let output = trial.arg(build.out()).stdin(Stdio::null()).output().expect("image-build starts");
        if output.status.success() { "kvm" } else { "tcg" }
    })
}

/// The right to run one of the guests that run at once.
#[derive(Debug)]
struct Turn;

static RUNNING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

impl Turn {
    fn wait() -> Self {
        let running = RUNNING.0.lock().expect("nobody panics with this lock");
        let free = RUNNING.1.wait_while(running, |n| *n >= guests_at_once());
        *free.expect("nobody panics with this lock") += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *RUNNING.0.lock().expect("nobody panics with this lock") -= 1;
        RUNNING.1.notify_one();
    }
}
