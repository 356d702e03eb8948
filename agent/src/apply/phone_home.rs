//! `phone_home`: tells somebody, once per instance, that the node is up and how it is known.

use std::thread;
use std::time::Duration;

use config::{PhoneHome, Post};

use super::{Instance, host_keys};
use crate::console;
use crate::http::{Client, Limits};

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(3);

/// The mark of an instance that has phoned home.
const DONE: &str = "phone-home";

/// What a field says when nothing is known, as cloud-init has it.
const UNKNOWN: &str = "N/A";

/// The fields, in cloud-init's order.
const FIELDS: [&str; 7] =
    ["pub_key_rsa", "pub_key_ecdsa", "pub_key_ed25519", "pub_key_dsa", "instance_id", "hostname", "fqdn"];

/// Whom to tell, and what.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) home: PhoneHome,
    pub(super) hostname: String,
    pub(super) fqdn: Option<String>,
    /// The instance's id, when it has one.
    pub(super) id: Option<String>,
}

impl Call {
    /// Tells, unless this instance has done so. Gives up after as many tries as the configuration says.
    pub(super) fn make(&self, instance: &Instance) {
        if !instance.has_yet_to(DONE) {
            return;
        }
        let client = Client::new(Limits::default());
        let url = self.url();
        let fields = self.fields();
        let form: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        for left in (0..self.home.tries).rev() {
            match client.post_form(&url, &[], &form) {
                Ok(_) => {
                    console::notice("phone_home: done");
                    if let Err(error) = instance.done(DONE) {
                        console::warning(console::chain(&error));
                    }
                    return;
                }
                Err(error) => {
                    let why = console::chain(&error);
                    console::warning(format_args!("config phone_home: {why}; {left} tries are left"));
                }
            }
            if left > 0 {
                thread::sleep(PAUSE);
            }
        }
    }

    fn url(&self) -> String {
        let id = self.id.as_deref().unwrap_or(UNKNOWN);
        let forms = ["$INSTANCE_ID", "{{ v1.instance_id }}", "{{v1.instance_id}}"];
        forms.iter().fold(self.home.url.clone(), |url, form| url.replace(form, id))
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let wanted = |name: &str| match &self.home.post {
            Post::All => true,
            Post::Fields(fields) => fields.iter().any(|field| field == name),
        };
        let value = |name: &str| match name {
            "instance_id" => self.id.clone(),
            "hostname" => Some(self.hostname.clone()),
            "fqdn" => self.fqdn.clone(),
            key => host_keys::public(key.strip_prefix("pub_key_").unwrap_or(key)),
        };
        let field = |name: &'static str| (name, value(name).unwrap_or_else(|| UNKNOWN.to_owned()));
        FIELDS.into_iter().filter(|name| wanted(name)).map(field).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_what_was_asked_for() {
        let mut call = Call {
            home: PhoneHome { url: "http://h/$INSTANCE_ID/".to_owned(), post: Post::All, tries: 1 },
            hostname: "web".to_owned(),
            fqdn: None,
            id: Some("i-1".to_owned()),
        };
        assert_eq!(call.url(), "http://h/i-1/");
        let fields = call.fields();
        assert_eq!(fields.len(), FIELDS.len());
        assert!(fields.contains(&("fqdn", "N/A".to_owned())), "{fields:?}");
        call.home.post = Post::Fields(vec!["hostname".to_owned()]);
        assert_eq!(call.fields(), [("hostname", "web".to_owned())]);
    }
}
