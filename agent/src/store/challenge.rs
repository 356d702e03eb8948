//! What a registry asks to be shown: `WWW-Authenticate` (RFC 9110, section 11.6.1), of which the first challenge counts.

/// A challenge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Challenge {
    /// In lower case: `basic`, `bearer`.
    pub(super) scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// Reads a header's value; what cannot be read is left out.
    pub(super) fn read(text: &str) -> Self {
        let (scheme, mut rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        let mut parameters = Vec::new();
        while let Some((name, value)) = rest.split_once('=') {
            let name = name.trim_matches([' ', ',']).to_ascii_lowercase();
            let value = value.trim_start();
            let (value, next) = match value.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
                None => value.split_once(',').unwrap_or((value, "")),
            };
            parameters.push((name, value.trim().to_owned()));
            rest = next;
        }
        Self { scheme: scheme.to_ascii_lowercase(), parameters }
    }

    /// A parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Where a token is had: the realm with the query that tells what for.
    pub(super) fn url(&self, realm: &str, service: &str, scope: &str) -> String {
        let separator = if realm.contains('?') { '&' } else { '?' };
        format!("{realm}{separator}service={}&scope={}", escaped(service), escaped(scope))
    }
}

fn escaped(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'-' | b'.' | b'_' | b'~' | b'/' | b':' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let read = Challenge::read(
            r#"Bearer realm="https://auth.example.com/token",service="registry, one" , scope="repository:a/b:pull,push""#,
        );
        assert_eq!(read.scheme, "bearer");
        assert_eq!(read.get("realm"), Some("https://auth.example.com/token"));
        assert_eq!(read.get("service"), Some("registry, one"));
        assert_eq!(read.get("scope"), Some("repository:a/b:pull,push"));
        for (text, scheme, realm) in
            [("Basic realm=x, charset=y", "basic", Some("x")), ("Basic", "basic", None), ("", "", None)]
        {
            let read = Challenge::read(text);
            assert_eq!((read.scheme.as_str(), read.get("realm")), (scheme, realm));
        }
    }

    #[test]
    fn what_a_registry_says_stays_inside_the_query() {
        let url = Challenge::default().url("https://a/t", "s&x=y", "repository:a/b:pull");
        assert_eq!(url, "https://a/t?service=s%26x%3Dy&scope=repository:a/b:pull");
    }
}
