//! Who may log in: keys, with the user they are given for.

use userdata::{At, Severity};

use super::Machine;
use crate::authorized_keys;

/// The user that keys without a user belong to.
pub(crate) const DEFAULT_USER: &str = "core";

/// What an entry may have besides name and keys: for accounts, which a node does not have.
const ACCOUNT: &str = "create_groups doas expiredate gecos groups hashed_passwd homedir inactive lock_passwd no_create_home \
     no_log_init no_user_group passwd plain_text_passwd primary_group selinux_user shell snapuser ssh_import_id \
     ssh_redirect_user sudo system uid";

/// Reads keys that may log in.
pub(super) fn authorized_keys(at: &At<'_>, user: &str, keys: &mut Vec<(String, String)>) {
    for item in at.list_or_one() {
        let Some(key) = item.text().map(str::trim) else { continue };
        match authorized_keys::judge(key) {
            Ok(()) => keys.push((user.to_owned(), key.to_owned())),
            Err(why) => item.error(why),
        }
    }
}

/// A list of names and maps, a map by name, or names with commas between them.
pub(super) fn users(at: &At<'_>, machine: &mut Machine) {
    if at.is_map() {
        for (name, _, entry) in at.map().into_iter().flatten() {
            if entry.is_map() {
                user(&entry, Some(name), machine);
            }
        }
    } else {
        for item in at.list_or_one() {
            if item.is_map() {
                user(&item, None, machine);
            } else if let Some(names) = item.text() {
                for name in names.split(',').map(str::trim).filter(|name| !matches!(*name, "default" | "")) {
                    without_keys(&item, name);
                }
            }
        }
    }
}

fn without_keys(at: &At<'_>, name: &str) {
    let hint = "there are no local accounts: give the user 'ssh_authorized_keys'";
    at.not_applicable(format!("the user '{name}' has no keys, so nobody can log in as it"), hint);
}

fn user(at: &At<'_>, key: Option<&str>, machine: &mut Machine) {
    let names = || ACCOUNT.split_whitespace().chain(["name", "default", "ssh_authorized_keys"]);
    let old_spellings: Vec<String> = names().map(|name| name.replace('_', "-")).collect();
    at.knows(names().chain(old_spellings.iter().map(String::as_str)));
    let named = at.get("name").and_then(|name| name.text().map(|text| (text, name)));
    let name = named.as_ref().map(|(name, _)| *name).or(key);
    let place = named.as_ref().map_or(at, |(_, at)| at);
    // It becomes the name of a file.
    if name.is_some_and(|name| {
        name.is_empty()
            || name.len() > 32
            || name.starts_with(['.', '-'])
            || name.chars().any(|c| !(c.is_ascii_alphanumeric() || "._-$".contains(c)))
    }) {
        place.error("not a user name");
    }
    if name.is_none() && at.get("snapuser").is_none() {
        at.error("a user has no 'name'");
    }
    let mut said = false;
    let keys = machine.keys.len();
    for (field, mark, value) in at.map().into_iter().flatten() {
        let plain = field.replace('-', "_");
        match plain.as_str() {
            _ if value.is_null() => {}
            "name" | "default" => {}
            "ssh_authorized_keys" => authorized_keys(&value, name.unwrap_or(DEFAULT_USER), &mut machine.keys),
            // It is so anyway.
            "lock_passwd" if value.node.text().is_some_and(|text| text.eq_ignore_ascii_case("true")) => {}
            known if ACCOUNT.split_whitespace().any(|key| key == known) => {
                if !value.asks_for_nothing() {
                    let message = format!("'{field}' is not applicable on a node");
                    value.add(Severity::NotApplicable, mark, message, "there are no local accounts");
                    said = true;
                }
            }
            _ => {
                let known = ACCOUNT.split_whitespace().chain(["name", "ssh_authorized_keys"]);
                let near = userdata::nearest(field, known);
                let hint = near.map_or_else(String::new, |near| format!("did you mean '{near}'?"));
                value.add(Severity::Error, mark, format!("'{field}' is not a key of a user"), &hint);
            }
        }
    }
    if let Some(name) = name.filter(|name| *name != "default" && !said && keys == machine.keys.len()) {
        without_keys(at, name);
    }
}
