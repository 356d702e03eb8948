//! Path patterns of the root's manifest: `*` within a name, `**` across directories.

/// Whether `pattern` covers `path`.
pub(crate) fn matches(pattern: &str, path: &str) -> bool {
    if let Some(rest) = pattern.strip_prefix("**") {
        return (0..=path.len()).filter_map(|at| path.get(at..)).any(|tail| matches(rest, tail));
    }
    if let Some(rest) = pattern.strip_prefix('*') {
        let name = path.find('/').unwrap_or(path.len());
        return (0..=name).filter_map(|at| path.get(at..)).any(|tail| matches(rest, tail));
    }
    match (pattern.chars().next(), path.chars().next()) {
        (None, None) => true,
        (Some(p), Some(c)) if p == c => matches(&pattern[p.len_utf8()..], &path[c.len_utf8()..]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cover_paths() {
        for (pattern, path, expected) in [
            ("usr/sbin/init", "usr/sbin/init", true),
            ("usr/sbin/init", "usr/sbin/initx", false),
            ("usr/lib/modules/*", "usr/lib/modules/a.ko", true),
            ("usr/lib/modules/*", "usr/lib/modules/x/a.ko", false),
            ("boot/vmlinuz-*", "boot/vmlinuz-6.12", true),
            ("a/**", "a/b/c", true),
            ("a/**", "b/c", false),
            ("a/**/c", "a/x/y/c", true),
            ("**.ko", "x/ü.ko", true),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }
}
