//! What is done once per instance. An instance is what the platform calls one by its `instance-id`: the same disk under
//! another id is another instance, and everything is done again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Failures;
use crate::file::{self, FileError, cannot};

/// `id`, and an empty file for each thing that was done.
const DIRECTORY: &str = "/var/lib/holdfast/instance";

/// The id of an instance whose datasource gives none.
const NO_ID: &str = "none";

/// The running instance.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(super) directory: PathBuf,
    /// It was not the running one before.
    pub(super) is_new: bool,
}

impl Instance {
    /// The instance with this id. What an earlier one has done does not count for it.
    pub(crate) fn enter(id: Option<&str>, failures: &mut Failures) -> Self {
        Self::enter_in(Path::new(DIRECTORY), id.unwrap_or(NO_ID), failures)
    }

    fn enter_in(directory: &Path, id: &str, failures: &mut Failures) -> Self {
        let kept = directory.join("id");
        let is_new = fs::read_to_string(&kept).ok().as_deref() != Some(id);
        if is_new {
            let gone = match fs::remove_dir_all(directory) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(cannot("remove", directory)(error))
                }
                _ => file::replace(&kept, 0o600, id.as_bytes()),
            };
            failures.check("instance-id", gone);
        }
        Self { directory: directory.to_owned(), is_new }
    }

    /// Whether something is still to be done.
    pub(crate) fn has_yet_to(&self, what: &str) -> bool {
        !self.directory.join(what).exists()
    }

    /// Notes that something is done. When that cannot be kept, it must not be done.
    pub(crate) fn done(&self, what: &str) -> Result<(), FileError> {
        file::replace(&self.directory.join(what), 0o600, b"done\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_are_done_once_per_instance() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("instance");
        let enter = |id: &str| Instance::enter_in(&directory, id, &mut Failures::default());
        let first = enter("i-1");
        assert!(first.is_new && first.has_yet_to("phone-home"));
        first.done("phone-home").unwrap();
        let again = enter("i-1");
        assert!(!again.is_new && !again.has_yet_to("phone-home") && again.has_yet_to("other"));
        let other = enter("i-2");
        assert!(other.is_new && other.has_yet_to("phone-home"));
    }
}
