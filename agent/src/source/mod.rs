//! Where user-data comes from: the kernel command line, a NoCloud disk, a file in the root; the first one there counts.

mod datasource;
pub(crate) mod label;
mod nocloud;

use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use config::{MetaData, Problem};
pub(crate) use datasource::Datasource;
use plan::paths;

use crate::console;
use crate::host;

/// How long to wait for a disk when no other source is there. Drivers of other than virtio disks are loaded after
/// PID 1 has given up waiting for a first plan; a CD drive then takes another second.
const PATIENCE: Duration = Duration::from_secs(8);
const POLL: Duration = Duration::from_millis(100);

/// User-data and what came with it.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Its name in problems: one word.
    pub(crate) name: String,
    pub(crate) datasource: Datasource,
    pub(crate) user_data: Vec<u8>,
    /// The platform's own, with its name in problems.
    pub(crate) vendor_data: Option<(String, Vec<u8>)>,
    pub(crate) meta: MetaData,
    /// The network configuration that came with it, with its name in problems.
    pub(crate) network_config: Option<(String, Vec<u8>)>,
    /// What is wrong with the source itself. An error makes the configuration invalid.
    pub(crate) problems: Vec<Problem>,
}

impl Found {
    /// User-data by itself.
    fn new(datasource: Datasource, name: &str, user_data: Vec<u8>) -> Self {
        Self {
            name: name.to_owned(),
            datasource,
            user_data,
            vendor_data: None,
            meta: MetaData::default(),
            network_config: None,
            problems: Vec::new(),
        }
    }

    /// A source that is there and cannot be read.
    fn unreadable(datasource: Datasource, name: &str, why: impl Into<String>) -> Self {
        let problems = vec![Problem::error(name, None, "", why)];
        Self { problems, ..Self::new(datasource, name, Vec::new()) }
    }
}

/// Looks for user-data and says on the console where it is from.
pub(crate) fn detect(cmdline: &str) -> Option<Found> {
    if let Some(text) = host::value(cmdline, paths::CMDLINE_USER_DATA) {
        console::notice("user-data: from the kernel command line");
        return Some(from_command_line(text));
    }
    let begun = Instant::now();
    let mut seeds = nocloud::Seeds::default();
    if let Some(found) = seeds.look() {
        return Some(found);
    }
    match fs::read(paths::BAKED_USER_DATA) {
        Ok(user_data) => {
            console::notice("user-data: the one baked into the system");
            return Some(Found::new(Datasource::BakedIn, paths::BAKED_USER_DATA, user_data));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => console::error(format_args!("cannot read {}: {error}", paths::BAKED_USER_DATA)),
    }
    while begun.elapsed() < PATIENCE {
        thread::sleep(POLL);
        if let Some(found) = seeds.look() {
            return Some(found);
        }
    }
    console::warning(format_args!(
        "no user-data found: '{}' is not on the kernel command line, none of the disks {:?} has the label CIDATA, and \
         nothing is baked in",
        paths::CMDLINE_USER_DATA,
        seeds.names(),
    ));
    None
}

fn from_command_line(text: &str) -> Found {
    let (source, name) = (Datasource::CommandLine, paths::CMDLINE_USER_DATA);
    match STANDARD.decode(text) {
        Ok(user_data) => Found::new(source, name, user_data),
        Err(error) => Found::unreadable(source, name, format!("is not base64: {error}")),
    }
}

/// Reads at most one byte more than user-data may have, so that a larger file is seen to be too large.
fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    io::Read::read_to_end(
        &mut io::Read::take(fs::File::open(path)?, config::MAX_SIZE as u64 + 1),
        &mut content,
    )?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_holds_base64() {
        let found = from_command_line("I2Nsb3VkLWNvbmZpZwo=");
        assert_eq!(found.user_data, b"#cloud-config\n");
        assert!(found.problems.is_empty());
        let broken = from_command_line("?");
        assert!(broken.problems[0].to_string().starts_with("error holdfast.user-data: is not base64"));
    }
}
