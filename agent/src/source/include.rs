//! What user-data and vendor-data include by address.

use std::time::{Duration, Instant};

use config::Included;

use super::Found;
use super::remote::Patience;
use super::service::{Ask, Until};
use crate::console;

/// How many addresses are fetched for one configuration, those that others name counted, too.
const MOST: usize = 64;

/// Fetches what `found` includes, and what that includes.
pub(super) fn fetch(found: &mut Found, patience: &Patience, limit: Duration) {
    let client = patience.following();
    let until = Until { client: &client, deadline: Instant::now() + limit };
    fetch_from(found, &until);
    for included in &found.included {
        match &included.content {
            Ok(content) => {
                console::notice(format_args!("user-data: {} included, {} bytes", included.url, content.len()))
            }
            Err(why) => console::warning(format_args!("user-data: {} not included: {why}", included.url)),
        }
    }
}

fn fetch_from(found: &mut Found, ask: &dyn Ask) {
    while let Some(url) = config::missing(&found.input()).into_iter().next() {
        let content = if found.included.len() < MOST {
            ask.get(&url, &[]).map(|answer| answer.body).map_err(|error| console::chain(&error))
        } else {
            Err(format!("more than {MOST} addresses are included"))
        };
        found.included.push(Included { url, content });
    }
}

#[cfg(test)]
mod tests {
    use super::super::Datasource;
    use super::super::service::recorded::Recorded;
    use super::*;

    fn including(text: &str, answers: &[(&str, u16, &str)]) -> Found {
        let mut found = Found::new(Datasource::NoCloud, "user-data", text.into());
        fetch_from(&mut found, &Recorded::new(answers));
        found
    }

    #[test]
    fn what_is_included_counts_and_may_include_more() {
        let found = including(
            "#include\nhttp://a/1\nhttp://a/2\n",
            &[
                ("GET http://a/1", 200, "#include\nhttp://a/3\n"),
                ("GET http://a/2", 200, "#cloud-config\ntimezone: Europe/Berlin\n"),
                ("GET http://a/3", 200, "#cloud-config\nhostname: web\n"),
            ],
        );
        let urls: Vec<_> = found.included.iter().map(|included| included.url.as_str()).collect();
        assert_eq!(urls, ["http://a/1", "http://a/3", "http://a/2"]);
        let outcome = config::judge(&found.input(), config::Judge::Node);
        assert_eq!(outcome.desired.unwrap().hostname.as_deref(), Some("web"));
    }

    #[test]
    fn what_cannot_be_fetched_makes_the_configuration_invalid_and_is_said() {
        let found = including("#include\nhttp://a/1\n", &[]);
        let outcome = config::judge(&found.input(), config::Judge::Node);
        let said: Vec<_> = outcome.problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            ["error user-data:2:1: http://a/1 cannot be included: http://a/1 answered with status 404"]
        );
    }

    #[test]
    fn circles_and_crowds_end() {
        let circle =
            including("#include\nhttp://a/1\n", &[("GET http://a/1", 200, "#include\nhttp://a/1\n")]);
        assert!(config::judge(&circle.input(), config::Judge::Node).desired.is_none());
        let crowd: String = (0..100).map(|n| format!("http://a/{n}\n")).collect();
        assert_eq!(including(&format!("#include\n{crowd}"), &[]).included.len(), 100);
    }
}
