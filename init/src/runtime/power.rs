//! The power button: an input device with the key `KEY_POWER`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// linux/input-event-codes.h
const EV_KEY: u16 = 1;
/// linux/input-event-codes.h
const KEY_POWER: u16 = 116;
/// Size of `struct input_event` on a 64-bit machine: a time of two 64-bit words, type, code, value.
const INPUT_EVENT: usize = 24;

/// The devices that have a power button, by name. A keyboard may be one of them.
#[derive(Debug, Default)]
pub(super) struct Buttons {
    open: BTreeMap<OsString, File>,
}

impl Buttons {
    /// Opens those that are there and not yet open: devices come up one by one while drivers are loaded.
    pub(super) fn look(&mut self) {
        let devices = fs::read_dir("/sys/class/input").into_iter().flatten().flatten();
        for device in devices {
            let keys = fs::read_to_string(device.path().join("device/capabilities/key")).unwrap_or_default();
            if !self.open.contains_key(&device.file_name()) && has_key(&keys, KEY_POWER) {
                let node = Path::new("/dev/input").join(device.file_name());
                let flags = OFlags::NONBLOCK.bits().cast_signed();
                let button = File::options().read(true).custom_flags(flags).open(node);
                self.open.extend(button.ok().map(|button| (device.file_name(), button)));
            }
        }
    }

    /// Whether one was pressed since the last time. A device that is gone is forgotten.
    pub(super) fn were_pressed(&mut self) -> bool {
        let mut pressed = false;
        self.open.retain(|_, button| {
            let state = was_pressed(button);
            pressed |= state == Some(true);
            state.is_some()
        });
        pressed
    }

    /// What becomes readable when one is pressed.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.open.values().map(AsFd::as_fd)
    }
}

/// Whether the button was pressed. None: the device is gone.
fn was_pressed(mut button: &File) -> Option<bool> {
    let mut events = [0; 64 * INPUT_EVENT];
    let read = match button.read(&mut events) {
        Ok(read) => read,
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => 0,
        Err(_) => return None,
    };
    let (events, _) = events.get(..read)?.as_chunks::<INPUT_EVENT>();
    Some(events.iter().any(is_press))
}

fn is_press(event: &[u8; INPUT_EVENT]) -> bool {
    let [.., t0, t1, c0, c1, v0, v1, v2, v3] = *event;
    let (kind, code) = (u16::from_le_bytes([t0, t1]), u16::from_le_bytes([c0, c1]));
    (kind, code, i32::from_le_bytes([v0, v1, v2, v3])) == (EV_KEY, KEY_POWER, 1)
}

/// Whether a key is in a capability bit map as sysfs writes it: 64-bit words in hexadecimal, the highest first.
fn has_key(capabilities: &str, key: u16) -> bool {
    let word = capabilities.split_whitespace().rev().nth(usize::from(key / 64));
    let word = word.and_then(|word| u64::from_str_radix(word, 16).ok()).unwrap_or(0);
    word >> (key % 64) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_button_is_told_by_its_capabilities() {
        assert!(has_key("10000000000000 0\n", KEY_POWER));
        assert!(!has_key("0\n", KEY_POWER));
        assert!(!has_key("", KEY_POWER));
        assert!(has_key("402000000 3803078f800d001 feffffdfffefffff fffffffffffffffe", 1));
    }

    #[test]
    fn only_the_press_of_the_power_key_counts() {
        let event = |kind: u16, code: u16, value: i32| {
            let mut event = [0; INPUT_EVENT];
            event[16..18].copy_from_slice(&kind.to_le_bytes());
            event[18..20].copy_from_slice(&code.to_le_bytes());
            event[20..].copy_from_slice(&value.to_le_bytes());
            event
        };
        assert!(is_press(&event(EV_KEY, KEY_POWER, 1)));
        assert!(!is_press(&event(EV_KEY, KEY_POWER, 0)));
        assert!(!is_press(&event(EV_KEY, 30, 1)));
        assert!(!is_press(&event(4, KEY_POWER, 1)));
    }
}
