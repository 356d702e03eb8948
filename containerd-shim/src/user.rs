//! Whose rights the container's program has: names of users and groups become numbers by the image's own files.
//!
//! The rules are Docker's. A user that the image knows brings its own group and, when no group is asked for, the groups
//! that it is a member of; a number that the image does not know is taken as it is, with root's group.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use plan::container::User;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::within;

/// More than this is no list of users but an attempt to take the node's memory.
const MAX_FILE: u64 = 1 << 20;

/// Why there is no such user.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UserError {
    #[error("cannot read {file} of the image")]
    Read { file: &'static str, source: io::Error },
    #[error("the image has no user '{name}' in its /etc/passwd")]
    NoUser { name: String },
    #[error("the image has no group '{name}' in its /etc/group")]
    NoGroup { name: String },
}

/// A user in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups, each once, in order.
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

/// Looks `user` up in the container's root.
pub(crate) fn resolve(rootfs: &Path, user: &User) -> Result<Resolved, UserError> {
    let read = |file| read(rootfs, file).map_err(|source| UserError::Read { file, source });
    look_up(&read("/etc/passwd")?, &read("/etc/group")?, user)
}

/// A file of the image; empty when there is none. Links are followed as the container itself would.
fn read(rootfs: &Path, file: &str) -> io::Result<String> {
    let root = openat(CWD, rootfs, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    // A pipe or a device of the image's must not hold the shim up.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match within::open(&root, file, flags) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
        file => File::from(file?),
    };
    if !file.metadata()?.is_file() {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The fields of each line of /etc/passwd or /etc/group.
fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.trim().split(':').collect())
}

fn look_up(passwd: &str, group: &str, user: &User) -> Result<Resolved, UserError> {
    let (name, own_group) = user.user.split_once(':').unwrap_or((&user.user, ""));
    let wanted: Option<u32> = if name.is_empty() { Some(0) } else { name.parse().ok() };
    let known = lines(passwd).find_map(|fields| {
        let [known, _, uid, gid, _, home, ..] = fields[..] else { return None };
        let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
        (known == name || Some(uid) == wanted).then(|| (known.to_owned(), uid, gid, home.to_owned()))
    });
    let (name, uid, gid, home) = match (known, wanted) {
        (Some(known), _) => known,
        // Every system has a root, also one without files.
        (None, _) if name == "root" => (String::new(), 0, 0, String::new()),
        (None, Some(uid)) => (String::new(), uid, 0, String::new()),
        (None, None) => return Err(UserError::NoUser { name: name.to_owned() }),
    };
    let by_name = |wanted: &str| -> Result<u32, UserError> {
        let found = lines(group).find_map(|fields| {
            let [known, _, gid, ..] = fields[..] else { return None };
            if known == wanted { gid.parse().ok() } else { None }
        });
        let number = || wanted.parse().ok().or((wanted == "root").then_some(0));
        found.or_else(number).ok_or_else(|| UserError::NoGroup { name: wanted.to_owned() })
    };
    let mut groups = Vec::new();
    let gid = if own_group.is_empty() {
        groups.extend(lines(group).filter_map(|fields| -> Option<u32> {
            let [_, _, gid, members] = fields[..] else { return None };
            let member = !name.is_empty() && members.split(',').any(|member| member.trim() == name);
            if member { gid.parse().ok() } else { None }
        }));
        gid
    } else {
        by_name(own_group)?
    };
    for group in &user.groups {
        groups.push(by_name(group)?);
    }
    // A group that is only the first one could be left by changing it, and with it what its files deny.
    if uid != 0 {
        groups.push(gid);
    }
    groups.sort_unstable();
    groups.dedup();
    let home = if home.is_empty() { "/".to_owned() } else { home };
    Ok(Resolved { uid, gid, groups, home })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:101:102:Web:/srv/web:/bin/false\nbroken\n";
    const GROUP: &str =
        "root:x:0:\nweb:x:102:\nssl:x:110:other,web\nlog:x:111:web\nempty:x:112:\nrooted:x:113:root\n";

    fn user(user: &str, groups: &[&str]) -> User {
        User { user: user.to_owned(), groups: groups.iter().map(|g| (*g).to_owned()).collect() }
    }

    #[test]
    fn users_are_looked_up_by_docker_s_rules() {
        for (given, more, uid, gid, groups, home) in [
            ("", &[][..], 0, 0, &[113][..], "/root"),
            ("root", &[], 0, 0, &[113], "/root"),
            ("web", &[], 101, 102, &[102, 110, 111], "/srv/web"),
            ("101", &[], 101, 102, &[102, 110, 111], "/srv/web"),
            ("web:log", &[], 101, 111, &[111], "/srv/web"),
            ("web:7", &["ssl", "5", "ssl"], 101, 7, &[5, 7, 110], "/srv/web"),
            ("1000", &["empty"], 1000, 0, &[0, 112], "/"),
            ("1000:1000", &[], 1000, 1000, &[1000], "/"),
            ("1000:root", &[], 1000, 0, &[0], "/"),
        ] {
            let home = home.to_owned();
            let expected = Resolved { uid, gid, groups: groups.to_vec(), home };
            assert_eq!(look_up(PASSWD, GROUP, &user(given, more)).expect(given), expected, "{given}");
        }
        let none = look_up("", "", &user("root", &[])).expect("root");
        assert_eq!((none.uid, none.gid, none.home.as_str()), (0, 0, "/"));
    }

    #[test]
    fn who_is_not_there_is_named() {
        let error =
            |given, more: &[&str]| look_up(PASSWD, GROUP, &user(given, more)).expect_err(given).to_string();
        assert_eq!(error("nginx", &[]), "the image has no user 'nginx' in its /etc/passwd");
        assert_eq!(error("web:nginx", &[]), "the image has no group 'nginx' in its /etc/group");
        assert_eq!(error("web", &["nginx"]), "the image has no group 'nginx' in its /etc/group");
        assert_eq!(error("4294967296", &[]), "the image has no user '4294967296' in its /etc/passwd");
    }

    #[test]
    fn no_link_of_an_image_leads_to_the_node_s_files() {
        let image = tempfile::tempdir().unwrap();
        std::fs::create_dir(image.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("../../../../../../../../etc/passwd", image.path().join("etc/passwd"))
            .unwrap();
        assert!(matches!(
            resolve(image.path(), &user("daemon", &[])),
            Err(UserError::Read { .. } | UserError::NoUser { .. })
        ));
    }
}
