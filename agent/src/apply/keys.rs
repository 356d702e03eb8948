//! Who may log in: one file of keys for each user, `/var/lib/holdfast/keys/users/NAME`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::Failures;
use crate::file::{self, FileError, cannot};

/// A file for each user.
const USERS: &str = "/var/lib/holdfast/keys/users";

/// Keeps the keys of every user, and takes away those of users that are no longer there.
pub(super) fn keep(keys: &[(&str, &str)], failures: &mut Failures) {
    failures.check("ssh_authorized_keys", keep_in(Path::new(USERS), keys));
}

fn keep_in(directory: &Path, keys: &[(&str, &str)]) -> Result<(), FileError> {
    let mut users: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (user, key) in keys {
        let keys = users.entry(user).or_default();
        // The platform often gives the same key that the file has.
        if !keys.contains(key) {
            keys.push(key);
        }
    }
    for (user, keys) in &users {
        let text: String = keys.iter().map(|key| format!("{key}\n")).collect();
        file::replace(&directory.join(user), 0o600, text.as_bytes())?;
    }
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if !users.keys().any(|user| name == **user) {
            fs::remove_file(entry.path()).map_err(cannot("remove", &entry.path()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn each_user_has_a_file_and_others_have_none() {
        let directory = tempfile::tempdir().unwrap();
        let users = directory.path().join("users");
        keep_in(&users, &[("core", "a"), ("anna", "b"), ("core", "c"), ("core", "a")]).unwrap();
        assert_eq!(fs::read_to_string(users.join("core")).unwrap(), "a\nc\n");
        assert_eq!(fs::metadata(users.join("anna")).unwrap().permissions().mode() & 0o777, 0o600);
        keep_in(&users, &[("anna", "b")]).unwrap();
        assert!(users.join("anna").exists() && !users.join("core").exists());
        keep_in(&users, &[]).unwrap();
        assert_eq!(fs::read_dir(&users).unwrap().count(), 0);
    }
}
