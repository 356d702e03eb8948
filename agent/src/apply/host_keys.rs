//! Host keys: how the node is known to those who log in. They lie in `/var/lib/holdfast/keys/host` under the names that
//! OpenSSH gives them.
//!
//! Keys that are given are kept as they are; when none is, one of type ed25519 is made. A new instance makes new ones: a
//! copied disk must not have the keys of the machine it was copied from.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use config::HostKeys;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use super::{Failures, Instance};
use crate::file::{self, FileError, cannot};

/// Where they lie.
const DIRECTORY: &str = "/var/lib/holdfast/keys/host";

/// The type that is made.
const MADE: &str = "ed25519";

/// Keeps the keys that are given, or makes one.
pub(super) fn keep(keys: &HostKeys, instance: &Instance, failures: &mut Failures) {
    let kept = keep_in(Path::new(DIRECTORY), keys, instance, failures);
    failures.check("ssh_keys", kept);
}

/// The public keys, each as one line, by type.
pub(super) fn public(kind: &str) -> Option<String> {
    fs::read_to_string(path(Path::new(DIRECTORY), kind, ".pub")).ok().map(|line| line.trim().to_owned())
}

fn path(directory: &Path, kind: &str, end: &str) -> PathBuf {
    directory.join(format!("ssh_host_{kind}_key{end}"))
}

fn keep_in(
    directory: &Path,
    keys: &HostKeys,
    instance: &Instance,
    failures: &mut Failures,
) -> Result<(), FileError> {
    let is_stale = instance.is_new && keys.delete != Some(false);
    let is_given = keys.given.keys().any(|name| name.ends_with("_private"));
    if is_stale || is_given {
        // Also those of the same instance that were made before some were given: nobody is to be offered them.
        clear(directory, keys, is_stale)?;
    }
    for (name, content) in &keys.given {
        let Some((kind, part)) = name.split_once('_') else { continue };
        let (end, mode) = match part {
            "private" => ("", 0o600),
            "public" => (".pub", 0o644),
            _ => ("-cert.pub", 0o644),
        };
        file::replace(&path(directory, kind, end), mode, format!("{}\n", content.trim_end()).as_bytes())?;
        if part == "private" && !keys.given.contains_key(&format!("{kind}_public")) {
            match public_part(content) {
                Some(line) => file::replace(&path(directory, kind, ".pub"), 0o644, line.as_bytes())?,
                None => {
                    let why =
                        "its public part cannot be told from it: give it, too, or use OpenSSH's own format";
                    failures.add("ssh_keys", format_args!("{name}: {why}"));
                }
            }
        }
    }
    if is_given || path(directory, MADE, "").exists() {
        return Ok(());
    }
    let (private, public) = make().map_err(cannot("make a key for", directory))?;
    file::replace(&path(directory, MADE, ""), 0o600, private.as_bytes())?;
    file::replace(&path(directory, MADE, ".pub"), 0o644, public.as_bytes())
}

/// Removes keys: all of them, or all that are not given.
fn clear(directory: &Path, keys: &HostKeys, all: bool) -> Result<(), FileError> {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let kind = name.to_str().and_then(|name| name.strip_prefix("ssh_host_")?.split('_').next());
        let is_given = kind.is_some_and(|kind| keys.given.contains_key(&format!("{kind}_private")));
        if all || !is_given {
            fs::remove_file(entry.path()).map_err(cannot("remove", &entry.path()))?;
        }
    }
    Ok(())
}

const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";
/// OpenSSH's PROTOCOL.key.
const MAGIC: &[u8] = b"openssh-key-v1\0";

/// A new key in OpenSSH's format, and its public part as a line.
fn make() -> io::Result<(String, String)> {
    let mut seed = [0; 32];
    rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())?;
    let mut check = [0; 4];
    rustix::rand::getrandom(&mut check, rustix::rand::GetRandomFlags::empty())?;
    let pair =
        Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|error| io::Error::other(error.to_string()))?;
    let point = pair.public_key().as_ref();
    let blob = [field(b"ssh-ed25519"), field(point)].concat();
    let secret = [&seed[..], point].concat();
    // The check number twice, the key, its comment, and 1, 2, 3 and so on up to a whole block of 8 bytes.
    let mut inner = [&check[..], &check, &blob, &field(&secret), &field(b"")].concat();
    inner.extend((1..8).take((8 - inner.len() % 8) % 8));
    let one = 1_u32.to_be_bytes();
    let whole =
        [MAGIC, &field(b"none"), &field(b"none"), &field(b""), &one, &field(&blob), &field(&inner)].concat();
    let text = STANDARD.encode(whole);
    let lines: Vec<&str> =
        text.as_bytes().chunks(70).map(|line| std::str::from_utf8(line).unwrap_or_default()).collect();
    let private = format!("{BEGIN}\n{}\n{END}\n", lines.join("\n"));
    Ok((private, line(&blob).ok_or(io::ErrorKind::InvalidData)?))
}

/// A length-prefixed field (RFC 4251, section 5).
fn field(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], bytes].concat()
}

/// Takes a field off the front.
fn take<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (field, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    *bytes = rest;
    Some(field)
}

/// The public part of a private key, as a line. OpenSSH's format has it in the clear.
fn public_part(private: &str) -> Option<String> {
    let body = private.trim().strip_prefix(BEGIN)?.strip_suffix(END)?;
    let text: String = body.split_whitespace().collect();
    let bytes = STANDARD.decode(text).ok()?;
    let mut rest = bytes.strip_prefix(MAGIC)?;
    for _ in ["cipher", "key derivation", "its options"] {
        take(&mut rest)?;
    }
    let (_, mut rest) = rest.split_first_chunk::<4>()?;
    line(take(&mut rest)?)
}

/// A public key as a line of an `authorized_keys` file.
fn line(blob: &[u8]) -> Option<String> {
    let kind = std::str::from_utf8(take(&mut &*blob)?).ok()?;
    Some(format!("{kind} {}\n", STANDARD.encode(blob)))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn instance(directory: &Path, is_new: bool) -> Instance {
        Instance { directory: directory.to_owned(), is_new }
    }

    fn kept(directory: &Path, keys: &HostKeys, is_new: bool) -> Failures {
        let mut failures = Failures::default();
        keep_in(directory, keys, &instance(directory, is_new), &mut failures).unwrap();
        failures
    }

    fn read(directory: &Path, kind: &str, end: &str) -> String {
        fs::read_to_string(path(directory, kind, end)).unwrap()
    }

    #[test]
    fn openssh_reads_the_key_that_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        kept(directory, &HostKeys::default(), true);
        let private = path(directory, MADE, "");
        let output = Command::new("ssh-keygen").args(["-y", "-f"]).arg(&private).output();
        let output = output.unwrap_or_else(|error| panic!("this test needs ssh-keygen: {error}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), read(directory, MADE, ".pub").trim());
    }

    #[test]
    fn keys_stay_with_the_instance() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let keys = HostKeys::default();
        kept(directory, &keys, true);
        let first = read(directory, MADE, "");
        kept(directory, &keys, false);
        assert_eq!(read(directory, MADE, ""), first);
        kept(directory, &HostKeys { delete: Some(false), ..HostKeys::default() }, true);
        assert_eq!(read(directory, MADE, ""), first);
        kept(directory, &keys, true);
        assert_ne!(read(directory, MADE, ""), first);
    }

    #[test]
    fn given_keys_take_the_place_of_made_ones() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        kept(directory, &HostKeys::default(), true);
        let (private, public) = make().unwrap();
        let given = |name: &str, content: &str| HostKeys {
            given: [(name.to_owned(), content.to_owned())].into(),
            ..HostKeys::default()
        };
        kept(directory, &given("ecdsa_private", &private), false);
        assert!(!path(directory, MADE, "").exists());
        assert_eq!(read(directory, "ecdsa", ".pub"), public);
        let failures = kept(directory, &given("rsa_private", "-----BEGIN RSA PRIVATE KEY-----"), false);
        assert!(failures.0[0].message.contains("rsa_private: its public part"), "{failures:?}");
    }
}
