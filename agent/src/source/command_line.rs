//! What the kernel command line itself holds.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plan::paths;

use super::{Datasource, Found};

/// The key of a network configuration.
pub(super) const NETWORK_CONFIG: &str = "network-config";

/// User-data, in base64.
pub(super) fn user_data(text: &str) -> Found {
    let (source, name) = (Datasource::CommandLine, paths::CMDLINE_USER_DATA);
    match STANDARD.decode(text) {
        Ok(user_data) => Found::new(source, name, user_data),
        Err(error) => Found::unreadable(source, name, format!("is not base64: {error}")),
    }
}

/// A network configuration, in base64 and maybe gzip, or the word `disabled`.
pub(super) fn network_config(text: &str) -> Result<Vec<u8>, String> {
    if text == "disabled" {
        return Ok(b"config: disabled\n".to_vec());
    }
    let bytes = STANDARD.decode(text).map_err(|error| format!("is not base64 and is left out: {error}"))?;
    let mut left = config::MAX_SIZE;
    userdata::gunzip(Cow::Owned(bytes), &mut left).map(Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_is_base64() {
        let found = user_data("I2Nsb3VkLWNvbmZpZwo=");
        assert_eq!(found.user_data, b"#cloud-config\n");
        assert!(found.problems.is_empty());
        let broken = user_data("?");
        assert!(broken.problems[0].to_string().starts_with("error holdfast.user-data: is not base64"));
    }

    #[test]
    fn a_network_is_base64_maybe_packed_or_none() {
        // Made by: printf 'version: 2\n' | gzip -n | base64
        let packed = "H4sIAAAAAAAAAytLLSrOzM+zUjDiAgCXBaTdCwAAAA==";
        for (text, read) in [
            ("disabled", Ok("config: disabled\n")),
            ("dmVyc2lvbjogMgo=", Ok("version: 2\n")),
            (packed, Ok("version: 2\n")),
            ("?", Err("is not base64")),
            ("H4sIAAAAAAAA", Err("begins like gzip")),
        ] {
            let result = network_config(text);
            match read {
                Ok(read) => assert_eq!(result.as_deref(), Ok(read.as_bytes()), "{text}"),
                Err(why) => assert!(result.unwrap_err().starts_with(why), "{text}"),
            }
        }
    }
}
