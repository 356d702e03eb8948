//! Whether a text is a line of an `authorized_keys` file: options, type, base64 of the key, comment (sshd(8)).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Why a text is not a public key.
pub(crate) fn judge(line: &str) -> Result<(), &'static str> {
    if line.contains(['\n', '\r']) {
        return Err("holds a line break: give each key as an item of its own");
    }
    let words: Vec<&str> = line.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
    let is_type = |word: &&str| ["ssh-", "ecdsa-sha2-", "sk-"].iter().any(|begin| word.starts_with(begin));
    let Some(at) = words.iter().position(is_type) else {
        return Err("is not a public key: it has no key type such as ssh-ed25519");
    };
    let Some(blob) = words.get(at + 1).and_then(|word| STANDARD.decode(word).ok()) else {
        return Err("is not a public key: what follows the type is not base64");
    };
    let fields =
        fields(&blob).ok_or("is not a whole public key: it is cut off or has something behind it")?;
    // OpenSSH's SSH_RSA_MINIMUM_MODULUS_SIZE: it would not let such a key in.
    let short = |modulus: &&[u8]| modulus.iter().skip_while(|byte| **byte == 0).count() < 1024 / 8;
    if words[at] == "ssh-rsa" && fields.get(2).is_some_and(short) {
        return Err("is an RSA key of fewer than 1024 bits, which SSH refuses");
    }
    if fields.first() == Some(&words[at].as_bytes()) && fields.len() > 1 {
        Ok(())
    } else {
        Err("is not a public key: the key is of another type than it says")
    }
}

/// The length-prefixed fields of a key (RFC 4253, section 6.6).
fn fields(mut blob: &[u8]) -> Option<Vec<&[u8]>> {
    let mut fields = Vec::new();
    while !blob.is_empty() {
        let (length, rest) = blob.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (field, rest) = rest.split_at_checked(length)?;
        fields.push(field);
        blob = rest;
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    #[test]
    fn keys_are_told_from_other_text() {
        assert_eq!(judge(KEY), Ok(()));
        assert_eq!(judge(&format!("restrict,command=\"a b\" {KEY} me@host")), Ok(()));
        assert!(judge("me@host").is_err());
        assert!(judge("ssh-rsa AAAA...").is_err());
        assert!(judge(&KEY.replace("ssh-ed25519", "ssh-rsa")).is_err());
        assert!(judge(&KEY[..KEY.len() - 8]).is_err());
        assert!(judge(&format!("{KEY}\n{KEY}")).is_err());
    }
}
