//! The kernel command line.

/// The value of `key=value`, the last one when it is given more than once. Values with blanks may be quoted.
pub(crate) fn value<'a>(cmdline: &'a str, key: &str) -> Option<&'a str> {
    words(cmdline)
        .filter_map(|word| word.strip_prefix(key)?.strip_prefix('='))
        .map(|value| value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value))
        .last()
}

/// The words, separated by blanks outside quotes.
fn words(cmdline: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    cmdline.split(move |c: char| {
        quoted ^= c == '"';
        c.is_ascii_whitespace() && !quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_wins_and_quotes_hold_blanks() {
        let line = "ro a=1 b=\"x y\" a=2 ab=3 c=\n";
        for (key, expected) in
            [("a", Some("2")), ("b", Some("x y")), ("c", Some("")), ("ro", None), ("d", None)]
        {
            assert_eq!(value(line, key), expected, "{key}");
        }
    }
}
