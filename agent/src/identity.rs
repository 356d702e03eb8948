//! Who the node is: its name, `/etc/hostname` and `/etc/hosts`, and the keys that may log in.

use std::io;
use std::path::Path;

use crate::console;
use crate::file::{self, FileError};

/// The keys of `ssh_authorized_keys`, one a line.
const AUTHORIZED_KEYS: &str = "/var/lib/holdfast/keys/authorized_keys";

/// Gives the node its name. What fails is said, and the rest is done.
pub(crate) fn set_hostname(name: &str) {
    let kernel = rustix::system::sethostname(name.as_bytes()).map_err(io::Error::from);
    if let Err(error) = kernel {
        console::warning(format_args!("cannot set the host name '{name}': {error}"));
    }
    say(file::overwrite(Path::new("/etc/hostname"), format!("{name}\n").as_bytes()));
    say(file::overwrite(Path::new("/etc/hosts"), hosts(name).as_bytes()));
}

/// Keeps the keys that may log in.
pub(crate) fn keep_keys(keys: &[String]) {
    let text: String = keys.iter().map(|key| format!("{key}\n")).collect();
    say(file::replace(Path::new(AUTHORIZED_KEYS), 0o600, text.as_bytes()));
}

fn say(result: Result<(), FileError>) {
    if let Err(error) = result {
        console::warning(console::chain(&error));
    }
}

fn hosts(name: &str) -> String {
    // 127.0.1.1 is Debian's way to give a host without a fixed address its own name.
    format!("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 {name}\n")
}
