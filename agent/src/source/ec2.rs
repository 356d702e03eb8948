//! EC2, and what speaks like it: a metadata service in version 2, which wants a token, or in version 1.
//!
//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html>

use super::service::{ADDRESS, Ask, Instance, SourceError, first_that_answers};
use super::{Datasource, Found};
use crate::http::Pairs;

/// IPv6 is for subnets without IPv4.
const SERVICES: [&str; 2] = [ADDRESS, "http://[fd00:ec2::254]"];

/// In seconds; a configuration is read in less.
const TOKEN_LIFETIME: &str = "300";

pub(super) fn fetch(ask: &dyn Ask) -> Result<Found, SourceError> {
    first_that_answers(&SERVICES, |service| fetch_from(ask, service))
}

fn fetch_from(ask: &dyn Ask, service: &str) -> Result<Found, SourceError> {
    let token_url = format!("{service}/latest/api/token");
    let token = match ask.put(&token_url, &[("X-aws-ec2-metadata-token-ttl-seconds", TOKEN_LIFETIME)]) {
        Ok(answer) => Some(String::from_utf8_lossy(&answer.body).trim().to_owned()),
        // Version 1 knows no tokens and says so, each implementation with a status of its own.
        Err(error) if error.is_answer() => None,
        Err(error) => return Err(error),
    };
    let headers: Vec<_> = token.iter().map(|token| ("X-aws-ec2-metadata-token", token.as_str())).collect();
    let headers: Pairs<'_> = &headers;
    let data = |name: &str| ask.text(&format!("{service}/latest/meta-data/{name}"), headers);
    let optional = |name: &str| match data(name) {
        Err(error) if error.is_missing() => Ok(None),
        result => result.map(Some),
    };
    let id = data("instance-id")?;
    if !id.bytes().all(|byte| byte.is_ascii_graphic()) || id.is_empty() || id.starts_with('<') {
        return Err(SourceError::Lacks {
            document: format!("{service}/latest/meta-data"),
            what: "instance-id",
        });
    }
    // Several names, when it has several addresses.
    let hostname = optional("local-hostname")?;
    let hostname = hostname.as_deref().and_then(|names| names.split_whitespace().next()).map(str::to_owned);
    let mut keys = Vec::new();
    for index in optional("public-keys/")?.iter().flat_map(|list| list.lines()).filter_map(key_index) {
        keys.extend(optional(&format!("public-keys/{index}/openssh-key"))?);
    }
    let user_data = ask.optional(&format!("{service}/latest/user-data"), headers)?;
    Ok(Instance { id: Some(id), hostname, keys }.found(Datasource::Ec2, user_data))
}

/// A line of the list of keys: `0=name`.
fn key_index(line: &str) -> Option<u32> {
    line.split('=').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::service::recorded::{KEY, Recorded};
    use super::*;

    const URL: &str = "http://169.254.169.254/latest";

    fn recorded(token: u16) -> Recorded {
        let answers = [
            ("PUT", "api/token", token, "secret"),
            ("GET", "meta-data/instance-id", 200, "i-0123"),
            ("GET", "meta-data/local-hostname", 200, "ip-10-0-0-1.ec2.internal ip-10-0-0-2.ec2.internal"),
            ("GET", "meta-data/public-keys/", 200, "0=mine\n1=lost"),
            ("GET", "meta-data/public-keys/0/openssh-key", 200, KEY),
            ("GET", "user-data", 200, "#cloud-config\n"),
        ];
        let answers =
            answers.map(|(method, path, status, body)| (format!("{method} {URL}/{path}"), status, body));
        Recorded::new(&answers.each_ref().map(|(request, status, body)| (request.as_str(), *status, *body)))
    }

    #[test]
    fn both_versions_are_spoken() {
        for (token, header) in [(200, "X-aws-ec2-metadata-token: secret"), (404, ""), (403, ""), (405, "")] {
            let service = recorded(token);
            let found = fetch(&service).unwrap();
            assert_eq!(found.user_data, b"#cloud-config\n");
            assert_eq!(found.meta.instance_id.as_deref(), Some("i-0123"));
            assert_eq!(found.meta.local_fqdn.as_deref(), Some("ip-10-0-0-1.ec2.internal"));
            assert_eq!(found.meta.public_keys, [KEY]);
            for asked in &service.asked.borrow()[1..] {
                assert!(asked.contains(&format!("[{header}]")), "{asked}");
            }
        }
    }

    #[test]
    fn an_instance_without_user_data_has_keys_and_a_name() {
        let service = Recorded::new(&[(&format!("GET {URL}/meta-data/instance-id"), 200, "i-1")]);
        let found = fetch(&service).unwrap();
        assert_eq!((found.meta.instance_id.as_deref(), found.problems.len()), (Some("i-1"), 0));
    }

    #[test]
    fn what_is_no_metadata_service_is_an_error() {
        assert!(fetch(&Recorded::new(&[])).is_err());
        for page in ["<html>Log in</html>", "", "two words"] {
            let service = Recorded::new(&[(&format!("GET {URL}/meta-data/instance-id"), 200, page)]);
            assert!(fetch(&service).unwrap_err().to_string().ends_with("has no instance-id"), "{page}");
        }
    }
}
