//! `random_seed`: bytes for the kernel's random pool. They are mixed in and never counted as random: whoever gave them
//! knows them.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use super::Failures;
use crate::file::cannot;

/// Mixes in what the configuration and the platform give.
pub(super) fn seed(configured: &[u8], given: &[u8], failures: &mut Failures) {
    for bytes in [configured, given].into_iter().filter(|bytes| !bytes.is_empty()) {
        let path = Path::new("/dev/urandom");
        let written = OpenOptions::new().write(true).open(path).and_then(|mut pool| pool.write_all(bytes));
        failures.check("random_seed", written.map_err(cannot("write to", path)));
    }
}
