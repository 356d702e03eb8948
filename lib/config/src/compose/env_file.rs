//! `env_file`: files with variables. A node has no files beside the compose file, so they are those of `write_files`.

use std::collections::BTreeMap;

use userdata::{At, KeySpec as Key};

use super::service::Service;
use crate::machine::take;

struct Entry {
    path: Option<String>,
    required: bool,
}

const ENTRY: [Key<Entry>; 3] = [
    take("path", |at, entry| entry.path = at.text().map(str::to_owned), "The file. Required."),
    take(
        "required",
        |at, entry| entry.required = at.truth().unwrap_or(true),
        "`false`: the file need not be there.",
    ),
    take(
        "format",
        |at, _| {
            at.word(&[("raw", ())]);
        },
        "`raw`: the default here.",
    ),
];

pub(super) fn env_file(at: &At<'_>, service: &mut Service) {
    for item in at.list_or_one() {
        let mut entry = Entry { path: None, required: true };
        if item.is_map() {
            item.section("an 'env_file'", &ENTRY, &mut entry);
        } else {
            entry.path = item.text().map(str::to_owned);
        }
        let Some(path) = entry.path else { continue };
        match service.texts.get(&path) {
            Some(text) => match parse(text) {
                Ok(variables) => service.from_files.extend(variables),
                Err(number) => item.error(format!("line {number} of '{path}' is not NAME=value")),
            },
            None if !path.starts_with('/') => item.error_with_hint(
                format!("'{path}' is a file beside the compose file, and there is none on a node"),
                "give the variables in 'environment', or an absolute path and 'write_files'",
            ),
            None if !entry.required => {}
            None => item.error_with_hint(
                format!("'{path}' is not among the texts of 'write_files'"),
                "write it there, or give the variables in 'environment'",
            ),
        }
    }
}

/// The variables of a file; the number of the first line that holds none. Quotes around a value are taken off, and `$` is
/// an ordinary character.
fn parse(text: &str) -> Result<BTreeMap<String, String>, usize> {
    let mut variables = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').ok_or(number)?;
        let (name, value) = (name.trim(), value.trim());
        let word = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if name.is_empty() || !name.chars().all(word) {
            return Err(number);
        }
        variables.insert(name.to_owned(), unquoted(value).to_owned());
    }
    Ok(variables)
}

/// Without its quotes, or without the comment behind it.
fn unquoted(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote).and_then(|rest| rest.split_once(quote)) {
            return inner.0;
        }
    }
    value.split_once(" #").map_or(value, |(value, _)| value.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_variables() {
        let text = "# a comment\nA=1\n\n export B = two words # said so\nC='#$x'\nD=\"a=b\"\nE=\n";
        let variables = parse(text).expect("variables");
        let listed: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(listed, ["A=1", "B=two words", "C=#$x", "D=a=b", "E="]);
        for (text, line) in [("A=1\nB\n", 2), ("=x\n", 1), ("A B=1\n", 1)] {
            assert_eq!(parse(text), Err(line), "{text}");
        }
    }
}
