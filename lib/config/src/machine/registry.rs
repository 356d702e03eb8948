//! `holdfast.registry`: where images are pulled from, and as whom.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use userdata::{At, KeySpec as Key, Use};

use super::take;

/// How registries are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registry {
    /// Those (`HOST:PORT`) that are spoken to without TLS.
    pub insecure: Vec<String>,
    /// Addresses that are asked before the registry itself, by its name.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Who the node is, by the registry's name.
    pub credentials: BTreeMap<String, Credentials>,
}

/// Who the node is to one registry. They are never shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A user and the password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A token that access tokens are had for.
    Token(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

impl Registry {
    /// Whether this `HOST` or `HOST:PORT` is spoken to without TLS.
    pub fn is_insecure(&self, host: &str) -> bool {
        self.insecure.iter().any(|insecure| insecure == host)
    }
}

pub(super) fn registry(at: &At<'_>) -> Registry {
    let table: [Key<Registry>; 3] = [
        take(
            "insecure",
            |at, registry: &mut Registry| registry.insecure = hosts(at),
            "List of `HOST:PORT`: these registries are spoken to by plain HTTP. Whoever is on the way can see what is \
             asked for, credentials too; images are checked all the same when they are named by digest.",
        ),
        take(
            "mirrors",
            mirrors,
            "Map of registries (`docker.io`) to lists of addresses (`https://mirror.example.com`) that are asked before \
             them, in this order.",
        ),
        take(
            "auth",
            auth,
            "Who the node is to registries, in the form of Docker's `config.json`: `auths` maps a registry to `auth` \
             (base64 of `USER:PASSWORD`), or to `username` and `password`, or to `identitytoken`.",
        ),
    ];
    let mut registry = Registry::default();
    at.section("'holdfast.registry'", &table, &mut registry);
    if let Some(mirrors) = at.get("mirrors") {
        for list in mirrors.map().into_iter().flatten().filter_map(|(_, _, list)| list.list()).flatten() {
            let plain = list.node.text().and_then(|url| url.strip_prefix("http://"));
            if let Some(host) = plain.and_then(|rest| rest.split('/').next())
                && !registry.is_insecure(host)
            {
                let hint = format!("use https://, or add '{host}' to 'insecure'");
                list.error_with_hint("would be asked by plain HTTP", &hint);
            }
        }
    }
    registry
}

fn is_host(text: &str) -> bool {
    let host = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
    !text.is_empty() && text.chars().all(host)
}

fn hosts(at: &At<'_>) -> Vec<String> {
    let mut hosts = Vec::new();
    for item in at.list().into_iter().flatten() {
        match item.text() {
            Some(text) if is_host(text) => hosts.push(text.to_owned()),
            Some(_) => {
                item.error_with_hint("not the name of a registry", "HOST or HOST:PORT, without http://")
            }
            None => {}
        }
    }
    hosts
}

fn mirrors(at: &At<'_>, registry: &mut Registry) {
    for (name, _, list) in at.map().into_iter().flatten() {
        if !is_host(name) {
            list.error_with_hint(format!("'{name}' is not the name of a registry"), "as in docker.io");
        }
        let mut urls = Vec::new();
        for item in list.list().into_iter().flatten() {
            let Some(url) = item.text() else { continue };
            let host = ["https://", "http://"].iter().find_map(|scheme| url.strip_prefix(scheme));
            let odd = |c: char| c.is_whitespace() || c.is_control() || "?#@".contains(c);
            match host {
                Some(rest) if !rest.is_empty() && !rest.starts_with('/') && !rest.contains(odd) => {
                    urls.push(url.trim_end_matches('/').to_owned());
                }
                _ => item.error_with_hint("not the address of a mirror", "as in https://mirror.example.com"),
            }
        }
        registry.mirrors.insert(name.to_owned(), urls);
    }
}

fn auth(at: &At<'_>, registry: &mut Registry) {
    let helpers = "a node has no credential helpers: give 'auth', or 'username' and 'password'";
    let table: [Key<Registry>; 3] = [
        take(
            "auths",
            |at, registry: &mut Registry| {
                for (name, _, entry) in at.map().into_iter().flatten() {
                    if let Some(credentials) = credentials(&entry) {
                        registry.credentials.insert(host_of(name), credentials);
                    }
                }
            },
            "Credentials by registry.",
        ),
        Key { name: "credsStore", use_: Use::Refused, doc: helpers },
        Key { name: "credHelpers", use_: Use::Refused, doc: helpers },
    ];
    at.section("'holdfast.registry.auth'", &table, registry);
}

/// Docker's own names of its registry, and addresses, as hosts.
fn host_of(name: &str) -> String {
    let name = name.strip_prefix("https://").or_else(|| name.strip_prefix("http://")).unwrap_or(name);
    match name.split('/').next().unwrap_or(name) {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        host => host.to_owned(),
    }
}

#[derive(Default)]
struct Given {
    auth: Option<(String, String)>,
    username: Option<String>,
    password: Option<String>,
    token: Option<String>,
}

fn credentials(at: &At<'_>) -> Option<Credentials> {
    let table: [Key<Given>; 5] = [
        take(
            "auth",
            |at, given: &mut Given| {
                let decoded = at.text().map(|text| STANDARD.decode(text.trim()));
                let pair = decoded.and_then(Result::ok).and_then(|bytes| String::from_utf8(bytes).ok());
                given.auth = pair.and_then(|pair| {
                    pair.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))
                });
                if given.auth.is_none() {
                    at.error("must be the base64 of USER:PASSWORD");
                }
            },
            "The base64 of `USER:PASSWORD`.",
        ),
        take("username", |at, given| given.username = at.text().map(str::to_owned), "The user."),
        take("password", |at, given| given.password = at.text().map(str::to_owned), "The password."),
        take(
            "identitytoken",
            |at, given| given.token = at.text().map(str::to_owned),
            "A token that access tokens are had for.",
        ),
        Key { name: "email", use_: Use::Quiet, doc: "" },
    ];
    let mut given = Given::default();
    at.section("credentials of a registry", &table, &mut given);
    let pair = given.auth.or_else(|| given.username.zip(given.password));
    let password = |(user, password)| Credentials::Password { user, password };
    let credentials = given.token.map(Credentials::Token).or_else(|| pair.map(password));
    if credentials.is_none() && at.is_map() && at.get("auth").is_none() {
        at.error_with_hint("has no credentials", "give 'auth', or 'username' and 'password'");
    }
    credentials
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Option<Registry>, Vec<String>) {
        let text = format!("#cloud-config\nholdfast:\n  registry: {text}\n");
        let outcome = crate::judge(&crate::Input::user_data("f", text.as_bytes()), crate::Judge::Node);
        let problems = outcome.problems.iter().map(ToString::to_string).collect();
        (outcome.config.map(|config| config.machine.holdfast.registry), problems)
    }

    #[test]
    fn dockers_file_can_be_put_in_as_it_is() {
        let json = r#"{"insecure": ["r:5000"], "mirrors": {"docker.io": ["https://m.example.com/", "http://r:5000"]},
            "auth": {"auths": {"https://index.docker.io/v1/": {"auth": "dTpwOnE="}, "r:5000": {"username": "u",
            "password": "p"}, "ghcr.io": {"identitytoken": "t", "email": "x"}}}}"#;
        let (registry, problems) = read(&json.replace('\n', " "));
        let registry = registry.unwrap_or_else(|| panic!("{problems:#?}"));
        assert!(problems.is_empty(), "{problems:#?}");
        assert_eq!(registry.mirrors["docker.io"], ["https://m.example.com", "http://r:5000"]);
        let password = |user: &str, password: &str| Credentials::Password {
            user: user.to_owned(),
            password: password.to_owned(),
        };
        assert_eq!(registry.credentials["docker.io"], password("u", "p:q"));
        assert_eq!(registry.credentials["r:5000"], password("u", "p"));
        assert_eq!(registry.credentials["ghcr.io"], Credentials::Token("t".to_owned()));
        assert!(!format!("{registry:?}").contains("p:q"));
    }

    #[test]
    fn what_cannot_be_meant_is_an_error_that_shows_no_secret() {
        for (text, said) in [
            ("{insecure: ['http://r']}", "not the name of a registry"),
            ("{mirrors: {docker.io: ['http://r:5000']}}", "add 'r:5000' to 'insecure'"),
            ("{mirrors: {docker.io: [r:5000]}}", "not the address of a mirror"),
            ("{auth: {auths: {r: {auth: 'c2VjcmV0'}}}}", "must be the base64 of USER:PASSWORD"),
            ("{auth: {auths: {r: {username: x}}}}", "has no credentials"),
            ("{auth: {credsStore: pass}}", "a node has no credential helpers"),
        ] {
            let (registry, problems) = read(text);
            assert!(registry.is_none(), "{text}");
            assert!(problems.iter().any(|problem| problem.contains(said)), "{text}: {problems:#?}");
            assert!(!problems.concat().contains("c2VjcmV0"), "{problems:#?}");
        }
    }
}
