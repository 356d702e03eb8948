//! The empty state file system, made by mkfs.ext4 and kept as a template: there is no mkfs on the node.

use std::fs::File;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::identity::{Identity, Role};

/// Little more than one block group: mkfs gives the journal at most half of a file system.
const SIZE: u64 = 160 << 20;
/// One for 16 KiB, as usual: the kernel makes each further block group like these two.
const INODES: &str = "16384";
/// Everything is said here, so that the build machine's mke2fs.conf does not matter. fs-verity and quotas are what
/// images and writable layers take; `metadata_csum_seed` lets each node take its own UUID while mounted.
const FEATURES: &str = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,\
                        large_file,huge_file,dir_nlink,extra_isize,metadata_csum,metadata_csum_seed,verity,quota,project";

/// The template. The same identity and time give the same bytes.
pub(crate) fn template(identity: &Identity) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("state");
    let mut image = File::options().read(true).write(true).create_new(true).open(&path)?;
    image.set_len(SIZE)?;
    let hash_seed = identity.guid(Role::StateHashSeed);
    let mut mkfs = Command::new("mkfs.ext4");
    mkfs.env("MKE2FS_CONFIG", "/dev/null").env("E2FSPROGS_FAKE_TIME", identity.epoch.max(1).to_string());
    mkfs.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-N", INODES, "-m", "1", "-O", FEATURES]);
    // 64 MiB of journal; block group descriptors for growing to 4 GiB, beyond which the kernel finds its own room.
    mkfs.args(["-J", "size=64", "-L", "holdfast-state", "-U", &identity.guid(Role::State).to_string()]);
    mkfs.arg("-E").arg(format!(
        "quotatype=prjquota,resize=4G,hash_seed={hash_seed},root_owner=0:0,lazy_itable_init=1,nodiscard"
    ));
    let output = mkfs.arg(&path).output().context("cannot run mkfs.ext4: install the package e2fsprogs")?;
    ensure!(output.status.success(), "mkfs.ext4 failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    let mut template = Vec::new();
    ::template::write(&mut image, &mut template).context("cannot read the new state file system")?;
    Ok(template)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_small_and_the_same_every_time() {
        let identity = Identity { version: "1".to_owned(), epoch: 1_700_000_000 };
        let first = template(&identity).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1100));
        assert!(first == template(&identity).unwrap());
        assert!(first.len() < 1 << 20, "{}", first.len());
        assert_eq!(::template::Template::read(&first[..]).unwrap().size(), SIZE);
    }
}
