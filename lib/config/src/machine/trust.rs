//! Whom the node trusts (certificate authorities) and how it is known (host keys).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use userdata::{At, KeySpec as Key, Severity};

use super::take;

/// Certificate authorities, on the node and in containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaCerts {
    /// Certificates in PEM, each with its lines.
    pub trusted: Vec<String>,
    /// Only these.
    pub remove_defaults: bool,
}

pub(super) fn ca_certs(at: &At<'_>) -> CaCerts {
    let defaults = |at: &At<'_>, certs: &mut CaCerts| certs.remove_defaults = at.truth().unwrap_or_default();
    let table: [Key<CaCerts>; 3] = [
        take("trusted", trusted, "Certificates in PEM."),
        take("remove_defaults", defaults, "`true`: the system's own are not trusted."),
        take("remove-defaults", defaults, "Old spelling."),
    ];
    let mut certs = CaCerts::default();
    at.section("'ca_certs'", &table, &mut certs);
    certs
}

fn trusted(at: &At<'_>, certs: &mut CaCerts) {
    for item in at.list().into_iter().flatten() {
        let Some(text) = item.text().map(str::trim) else { continue };
        if is_pem(text) {
            certs.trusted.push(format!("{text}\n"));
        } else {
            item.warn("is not a certificate in PEM and is left out");
        }
    }
}

/// Whether a text is blocks of certificates, with nothing else between them. What is in them is not looked at.
fn is_pem(text: &str) -> bool {
    let mut blocks = 0;
    let mut body: Option<String> = None;
    for line in text.lines().map(str::trim) {
        match (line, &mut body) {
            ("-----BEGIN CERTIFICATE-----", None) => body = Some(String::new()),
            ("-----END CERTIFICATE-----", Some(text))
                if STANDARD.decode(text.as_bytes()).is_ok_and(|der| der.len() > 100) =>
            {
                body = None;
                blocks += 1;
            }
            ("", None) => {}
            (line, Some(text)) => text.push_str(line),
            (_, None) => return false,
        }
    }
    body.is_none() && blocks > 0
}

/// Host keys of the SSH front.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HostKeys {
    /// By their names: `ed25519_private`.
    pub given: BTreeMap<String, String>,
    /// Keys of an earlier instance are thrown away.
    pub delete: Option<bool>,
    /// Which are made.
    pub types: Option<Vec<String>>,
}

impl std::fmt::Debug for HostKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.given.keys()).finish()
    }
}

const TYPES: [&str; 3] = ["rsa", "ecdsa", "ed25519"];

pub(super) fn ssh_keys(at: &At<'_>, keys: &mut HostKeys) {
    for (name, mark, value) in at.map().into_iter().flatten() {
        let known = name.split_once('_').is_some_and(|(kind, part)| {
            TYPES.contains(&kind) && ["private", "public", "certificate"].contains(&part)
        });
        if !known {
            let hint = "TYPE_private, TYPE_public and TYPE_certificate, with TYPE rsa, ecdsa or ed25519";
            value.add(Severity::Warning, mark, format!("'{name}' is not a host key and is left out"), hint);
        } else if let Some(text) = value.text() {
            keys.given.insert(name.to_owned(), text.to_owned());
        }
    }
}

pub(super) fn key_types(at: &At<'_>, keys: &mut HostKeys) {
    let mut types = Vec::new();
    for item in at.list().into_iter().flatten() {
        match item.text() {
            Some(kind) if TYPES.contains(&kind) => types.push(kind.to_owned()),
            Some(kind) => {
                item.warn(format!("'{kind}' is not a type of host key that is made: rsa, ecdsa, ed25519 are"))
            }
            None => {}
        }
    }
    keys.types = Some(types);
}
