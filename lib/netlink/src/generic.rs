//! Generic netlink: parts of the kernel that are found by name.

use std::io;

use crate::attributes::{Attributes, as_u16, find};
use crate::socket::{ACK, Kernel};

/// `GENL_ID_CTRL`, and of its commands and attributes what is used (include/uapi/linux/genetlink.h).
const CONTROL: u16 = 16;
const GETFAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

impl Kernel {
    /// The number of a part of the kernel.
    pub(crate) fn part(&mut self, name: &str) -> io::Result<u16> {
        let mut id = None;
        let attributes = Attributes::default().text(FAMILY_NAME, name);
        self.ask(CONTROL, ACK, &header(GETFAMILY), attributes, &mut |(_, body)| {
            id = body.get(4..).and_then(|rest| find(rest, FAMILY_ID)).and_then(as_u16).or(id);
        })?;
        id.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// `struct genlmsghdr`, in version 1.
pub(crate) fn header(command: u8) -> [u8; 4] {
    [command, 1, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_that_names_parts_is_found_by_its_name() {
        assert_eq!(Kernel::generic().unwrap().part("nlctrl").unwrap(), CONTROL);
        assert!(Kernel::generic().unwrap().part("no such part").is_err());
    }
}
