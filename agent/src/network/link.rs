//! The links of this machine.

use std::fs;
use std::path::Path;

/// An Ethernet link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) name: String,
    pub(super) index: u32,
    pub(super) address: [u8; 6],
}

/// The first Ethernet link that is hardware, by the kernel's numbering.
pub(super) fn first() -> Option<Link> {
    first_in(Path::new("/sys/class/net"))
}

fn first_in(class: &Path) -> Option<Link> {
    let entries = fs::read_dir(class).ok()?.flatten();
    entries.filter_map(|entry| read(&entry.path())).min_by_key(|link| link.index)
}

fn read(path: &Path) -> Option<Link> {
    let text = |name: &str| fs::read_to_string(path.join(name)).map(|text| text.trim_end().to_owned()).ok();
    // Bridges and the like have no device below them; 1 is ARPHRD_ETHER.
    if !path.join("device").exists() || text("type")? != "1" {
        return None;
    }
    let mut bytes =
        text("address")?.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Vec<_>>().into_iter();
    let mut address = [0; 6];
    for byte in &mut address {
        *byte = bytes.next()?.ok()?;
    }
    let name = path.file_name()?.to_str()?.to_owned();
    Some(Link { name, index: text("ifindex")?.parse().ok()?, address })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_hardware_link_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let make = |name: &str, index: &str, kind: &str, hardware: bool| {
            let path = directory.path().join(name);
            fs::create_dir(&path).unwrap();
            for (file, text) in [("ifindex", index), ("type", kind), ("address", "52:54:00:12:34:56")] {
                fs::write(path.join(file), format!("{text}\n")).unwrap();
            }
            if hardware {
                fs::create_dir(path.join("device")).unwrap();
            }
        };
        assert_eq!(first_in(directory.path()), None);
        make("lo", "1", "772", false);
        make("br0", "2", "1", false);
        assert_eq!(first_in(directory.path()), None);
        make("eth1", "10", "1", true);
        make("eth0", "9", "1", true);
        let address = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
        assert_eq!(first_in(directory.path()), Some(Link { name: "eth0".to_owned(), index: 9, address }));
    }
}
