//! erofs-utils as the judge.

use std::fs;
use std::process::Command;

use tempfile::TempDir;

/// Lets `fsck.erofs` check the image and unpack it into the folder `out` of the directory returned.
pub(crate) fn extract(image: &[u8]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image.erofs");
    fs::write(&file, image).unwrap();
    let out = format!("--extract={}", folder.path().join("out").display());
    let output = Command::new("fsck.erofs")
        .args([&out, "--preserve-perms", "--no-preserve-owner"])
        .arg(&file)
        .output()
        .expect("fsck.erofs does not run: install erofs-utils");
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "fsck.erofs: {said}");
    folder
}
