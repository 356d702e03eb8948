//! The virtual machine, and QEMU's command line for it.
//!
//! Nothing is attached that is not asked for: no display, no default devices, no option ROMs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use anyhow::bail;

use super::accelerator::Accelerator;

pub(super) const QEMU: &str = "qemu-system-x86_64";

/// Where distributions keep OVMF's 4 MiB build (code, variables), raw.
const FIRMWARE: [(&str, &str); 3] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"), // Debian, Ubuntu
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"), // Arch
    ("/usr/share/qemu/ovmf-x86_64-4m-code.bin", "/usr/share/qemu/ovmf-x86_64-4m-vars.bin"), // openSUSE
];

/// A TCP port of the host's loopback that leads into the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PortForward {
    host: u16,
    guest: u16,
}

impl FromStr for PortForward {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ports = text.split_once(':').and_then(|(h, g)| Some((h.parse().ok()?, g.parse().ok()?)));
        let (host, guest) = ports.ok_or_else(|| "expected HOST:GUEST, as in 8080:80".to_owned())?;
        Ok(Self { host, guest })
    }
}

/// UEFI firmware: read-only code, and variables the guest writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Firmware {
    pub(super) code: PathBuf,
    pub(super) variables: PathBuf,
}

/// What the machine starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Boot {
    Uefi(Firmware),
    Kernel { kernel: PathBuf, initrd: PathBuf, cmdline: String },
}

/// What the machine's links lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Network {
    /// It has none.
    None,
    /// QEMU's own network, with ports of the host that lead into it.
    User(Vec<PortForward>),
    /// One link for each of these tap devices.
    Taps(Vec<Tap>),
}

/// A tap device of the host, and the hardware address of the guest's link to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tap {
    name: String,
    /// As QEMU writes it; absent: QEMU's own, which begin at the same address in every guest.
    address: Option<String>,
}

impl FromStr for Tap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, address) = text.split_once(',').map_or((text, None), |(name, mac)| (name, Some(mac)));
        let is_byte = |byte: &str| byte.len() == 2 && u8::from_str_radix(byte, 16).is_ok();
        let valid = address.is_none_or(|mac| mac.split(':').count() == 6 && mac.split(':').all(is_byte));
        if name.is_empty() || !valid {
            return Err("expected NAME or NAME,MAC, as in tap0,52:54:00:00:00:01".to_owned());
        }
        Ok(Self { name: name.to_owned(), address: address.map(str::to_owned) })
    }
}

/// What the machine is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Platform {
    /// A PC with virtio devices on PCI.
    Q35,
    /// The same with a real machine's devices: disks on SATA, Intel's network adapter.
    Hardware,
    /// No firmware to speak of and no PCI: what Firecracker and its like offer.
    Microvm,
}

/// Of which kind a device is.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Disk,
    Link,
}

/// One machine.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub(super) platform: Platform,
    pub(super) accelerator: Accelerator,
    pub(super) boot: Boot,
    /// MiB.
    pub(super) memory: u32,
    pub(super) cpus: u32,
    /// Raw images, in the order the guest sees them.
    pub(super) drives: Vec<PathBuf>,
    pub(super) network: Network,
    /// Arguments of `-smbios`.
    pub(super) smbios: Vec<String>,
    /// What the hardware clock says when the machine is switched on, as QEMU's `-rtc base=` takes it.
    pub(super) clock: Option<String>,
    /// Whether it has a slot that devices can be plugged into while it runs.
    pub(super) hot_plug: bool,
    /// Whether a reboot boots again; otherwise it ends QEMU.
    pub(super) reboots: bool,
}

impl Machine {
    /// QEMU's command line.
    pub(super) fn command(&self) -> Command {
        let mut qemu = Command::new(QEMU);
        qemu.args(match self.accelerator {
            Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Accelerator::Tcg => ["-accel", "tcg", "-cpu", "max"],
        });
        let machine = match self.platform {
            Platform::Q35 | Platform::Hardware => "q35",
            Platform::Microvm => "microvm",
        };
        qemu.args(["-machine", machine, "-nodefaults", "-display", "none", "-vga", "none"]);
        qemu.args(["-m", &self.memory.to_string(), "-smp", &self.cpus.to_string()]);
        qemu.args(["-chardev", "stdio,id=console,mux=on,signal=off"]);
        qemu.args(["-serial", "chardev:console", "-mon", "chardev=console"]);
        if self.platform != Platform::Microvm {
            qemu.args(["-device", "i6300esb", "-action", "watchdog=reset"]);
        }
        if let Some(time) = &self.clock {
            qemu.args(["-rtc", &format!("base={time}")]);
        }
        if self.hot_plug {
            qemu.args(["-device", "pcie-root-port,id=later"]);
        }
        if !self.reboots {
            qemu.arg("-no-reboot");
        }
        self.add_boot(&mut qemu);
        for (number, file) in self.drives.iter().enumerate() {
            let file = escaped(file);
            qemu.args(["-drive", &format!("if=none,id=drive{number},format=raw,discard=unmap,file={file}")]);
            // A kernel given directly comes before every disk.
            let order = match self.boot {
                Boot::Uefi(_) => format!(",bootindex={number}"),
                Boot::Kernel { .. } => String::new(),
            };
            let device = self.device(Kind::Disk);
            // QEMU gives the second disk of a port to the first one's bus, and SATA has one for each.
            let bus = match self.platform {
                Platform::Hardware => format!(",bus=ide.{number}"),
                Platform::Q35 | Platform::Microvm => String::new(),
            };
            qemu.args(["-device", &format!("{device},drive=drive{number}{bus}{order}")]);
        }
        for fields in &self.smbios {
            qemu.args(["-smbios", fields]);
        }
        self.add_network(&mut qemu);
        qemu
    }

    fn add_network(&self, qemu: &mut Command) {
        let no_rom = if self.platform == Platform::Microvm { "" } else { ",romfile=" };
        let mut link = |number: usize, backend: String, address: Option<&String>| {
            let address = address.map(|mac| format!(",mac={mac}")).unwrap_or_default();
            qemu.args(["-netdev", &backend]);
            let device = self.device(Kind::Link);
            qemu.args(["-device", &format!("{device},netdev=net{number}{address}{no_rom}")]);
        };
        match &self.network {
            Network::None => {}
            Network::User(ports) => {
                let forward = |p: &PortForward| format!(",hostfwd=tcp:127.0.0.1:{}-:{}", p.host, p.guest);
                let forwards: String = ports.iter().map(forward).collect();
                link(0, format!("user,id=net0{forwards}"), None);
            }
            Network::Taps(taps) => {
                for (number, Tap { name, address }) in taps.iter().enumerate() {
                    let backend = format!("tap,id=net{number},ifname={name},script=no,downscript=no");
                    link(number, backend, address.as_ref());
                }
            }
        }
    }

    /// QEMU's name of a device.
    fn device(&self, kind: Kind) -> &'static str {
        match (self.platform, kind) {
            (Platform::Q35, Kind::Disk) => "virtio-blk-pci",
            (Platform::Q35, Kind::Link) => "virtio-net-pci",
            (Platform::Hardware, Kind::Disk) => "ide-hd",
            (Platform::Hardware, Kind::Link) => "e1000e",
            (Platform::Microvm, Kind::Disk) => "virtio-blk-device",
            (Platform::Microvm, Kind::Link) => "virtio-net-device",
        }
    }

    fn add_boot(&self, qemu: &mut Command) {
        match &self.boot {
            Boot::Uefi(firmware) => {
                let (code, variables) = (escaped(&firmware.code), escaped(&firmware.variables));
                qemu.args(["-drive", &format!("if=pflash,unit=0,format=raw,readonly=on,file={code}")]);
                qemu.args(["-drive", &format!("if=pflash,unit=1,format=raw,file={variables}")]);
            }
            Boot::Kernel { kernel, initrd, cmdline } => {
                qemu.arg("-kernel").arg(kernel).arg("-initrd").arg(initrd).args(["-append", cmdline]);
            }
        }
    }
}

/// The kernel parameter without which an emulated microvm stands still: it has no clock to measure the time-stamp counter
/// by, and no KVM that tells its pace. The emulator hands the host's counter on.
pub(super) fn time_stamp_counter() -> String {
    format!("tsc_early_khz={}", sys::tsc::frequency_khz())
}

/// A path as a value in QEMU's option syntax, where a comma is doubled.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// Fails with what to do when QEMU is not installed.
pub(super) fn find_qemu() -> anyhow::Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|dir| dir.join(QEMU).is_file()) {
        return Ok(());
    }
    bail!("cannot find {QEMU} in PATH: install QEMU (on Debian: apt install qemu-system-x86)");
}

/// The installed firmware, with its pristine variables.
pub(super) fn find_firmware() -> anyhow::Result<Firmware> {
    let installed =
        FIRMWARE.iter().find(|(code, variables)| [code, variables].iter().all(|f| Path::new(f).exists()));
    match installed {
        Some((code, variables)) => Ok(Firmware { code: code.into(), variables: variables.into() }),
        None => bail!(
            "cannot find UEFI firmware at {}: install OVMF (on Debian: apt install ovmf), or use --direct",
            FIRMWARE.map(|(code, _)| code).join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            platform: Platform::Q35,
            accelerator: Accelerator::Tcg,
            boot: Boot::Kernel { kernel: "k".into(), initrd: "i".into(), cmdline: "a=b".into() },
            memory: 512,
            cpus: 1,
            drives: vec!["a,b.raw".into()],
            network: Network::User(vec![PortForward { host: 8080, guest: 80 }]),
            smbios: Vec::new(),
            clock: None,
            hot_plug: false,
            reboots: true,
        }
    }

    fn words(machine: &Machine) -> Vec<String> {
        machine.command().get_args().map(|a| a.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn ports_are_forwarded_from_the_loopback_only() {
        assert!(words(&machine()).contains(&"user,id=net0,hostfwd=tcp:127.0.0.1:8080-:80".to_owned()));
        assert!("80".parse::<PortForward>().is_err());
        assert!("8080:http".parse::<PortForward>().is_err());
    }

    #[test]
    fn a_slot_for_devices_is_there_when_it_is_asked_for() {
        let slot = "pcie-root-port,id=later".to_owned();
        assert!(!words(&machine()).contains(&slot));
        assert!(words(&Machine { hot_plug: true, ..machine() }).contains(&slot));
    }

    #[test]
    fn each_tap_device_is_a_link() {
        let tap = |text: &str| text.parse::<Tap>().expect("a tap device");
        let taps = vec![tap("t0"), tap("t1,52:54:00:00:00:07")];
        let words = words(&Machine { network: Network::Taps(taps), ..machine() });
        assert!(words.contains(&"tap,id=net0,ifname=t0,script=no,downscript=no".to_owned()));
        assert!(words.contains(&"virtio-net-pci,netdev=net1,mac=52:54:00:00:00:07,romfile=".to_owned()));
        for text in ["", ",52:54:00:00:00:07", "t0,52:54", "t0,52:54:00:00:00:7x"] {
            assert!(text.parse::<Tap>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_comma_in_a_path_does_not_end_it() {
        assert!(words(&machine()).iter().any(|w| w.ends_with("file=a,,b.raw")));
    }

    #[test]
    fn the_hardware_clock_is_right_unless_asked() {
        assert!(!words(&machine()).contains(&"-rtc".to_owned()));
        let wrong = Machine { clock: Some("1970-01-01".to_owned()), ..machine() };
        assert!(words(&wrong).windows(2).any(|w| w == ["-rtc", "base=1970-01-01"]));
    }

    #[test]
    fn a_microvm_has_no_pci() {
        let machine = Machine { platform: Platform::Microvm, ..machine() };
        let on_pci = |word: &String| ["-pci", "i6300esb", "romfile"].iter().any(|pci| word.contains(pci));
        assert_eq!(words(&machine).into_iter().find(on_pci), None);
    }

    #[test]
    fn a_real_machine_has_no_virtio() {
        let words = words(&Machine { platform: Platform::Hardware, ..machine() });
        assert!(words.iter().any(|word| word.starts_with("ide-hd,")), "{words:?}");
        assert_eq!(words.into_iter().find(|word| word.contains("virtio")), None);
    }

    #[test]
    fn reboots_are_allowed_unless_asked() {
        assert!(!words(&machine()).contains(&"-no-reboot".to_owned()));
        assert!(words(&Machine { reboots: false, ..machine() }).contains(&"-no-reboot".to_owned()));
    }
}
