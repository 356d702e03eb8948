//! A command line in one text, split into words as compose does it: quotes and backslashes, nothing else of a shell.

/// Why a command line cannot be split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unfinished(pub(crate) &'static str);

/// Splits `line` into words.
pub(crate) fn split(line: &str) -> Result<Vec<String>, Unfinished> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\\' => {
                let next = chars.next().ok_or(Unfinished("ends with a backslash"))?;
                word.get_or_insert_default().push(next);
            }
            '\'' => loop {
                let word = word.get_or_insert_default();
                match chars.next().ok_or(Unfinished("has a single quote that is not closed"))? {
                    '\'' => break,
                    c => word.push(c),
                }
            },
            '"' => loop {
                let word = word.get_or_insert_default();
                let unfinished = Unfinished("has a double quote that is not closed");
                match chars.next().ok_or(unfinished)? {
                    '"' => break,
                    '\\' => match chars.next().ok_or(unfinished)? {
                        c @ ('"' | '\\' | '$' | '`') => word.push(c),
                        '\n' => {}
                        c => word.extend(['\\', c]),
                    },
                    c => word.push(c),
                }
            },
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_like_a_shells() {
        for (line, words) in [
            ("", &[][..]),
            ("nginx -g 'daemon off;'", &["nginx", "-g", "daemon off;"]),
            (r#"a "b \"c\" \d" ''"#, &["a", r#"b "c" \d"#, ""]),
            (r"a\ b  c#d #e", &["a b", "c#d", "#e"]),
            ("a\n  b", &["a", "b"]),
        ] {
            assert_eq!(split(line).unwrap_or_default(), words, "{line}");
        }
        for line in ["'a", "\"a", "a\\"] {
            assert!(split(line).is_err(), "{line}");
        }
    }
}
