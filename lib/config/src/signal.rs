//! Names of signals, as images give them in `StopSignal` and compose in `stop_signal`.

/// signal(7), x86-64.
const NAMES: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// The signal `name` (`SIGQUIT`, `QUIT`, `3`, `RTMIN+3`) as a number.
pub fn signal_number(name: &str) -> Option<i32> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    let named = NAMES.iter().find(|(known, _)| *known == short).map(|(_, number)| *number);
    // glibc keeps the first two of the kernel's real-time signals, which begin at 32.
    let real_time = || {
        let above = short.strip_prefix("RTMIN")?;
        Some(34 + if above.is_empty() { 0 } else { above.strip_prefix('+')?.parse::<i32>().ok()? })
    };
    let number = named.or_else(|| short.parse().ok()).or_else(real_time);
    number.filter(|number| (1..=64).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_name_a_signal_is_known() {
        for (name, expected) in [
            ("SIGQUIT", Some(3)),
            ("winch", Some(28)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMIN", Some(34)),
            ("0", None),
            ("65", None),
            ("", None),
            ("SIGNAL", None),
            ("RTMIN+99", None),
        ] {
            assert_eq!(signal_number(name), expected, "{name}");
        }
    }
}
