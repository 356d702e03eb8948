//! A problem with the line it is on, in the form that rustc made familiar.

use std::fmt::Write as _;

use config::{Problem, Severity};

/// How to print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// With the terminal's colours.
    pub(crate) colour: bool,
}

/// Characters of a line that are shown on each side of the problem; longer lines are cut.
const AROUND: usize = 60;

/// The problem as text of several lines. `text` is the file that it is in.
pub(crate) fn render(problem: &Problem, text: &str, style: Style) -> String {
    let (word, colour) = match problem.severity {
        Severity::Error => ("error", "1;31"),
        Severity::Warning => ("warning", "1;33"),
        Severity::NotApplicable => ("not applicable", "1;36"),
    };
    let paint = |colour: &str, text: &str| {
        if style.colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    };
    let gutter = |text: &str| paint("1;34", text);
    let mut out =
        format!("{}{}\n", paint(colour, word), paint("1", &format!(": {}", printable(&problem.message))));
    let number = problem.line.map(|line| line.to_string()).unwrap_or_default();
    let margin = " ".repeat(number.len());
    let place = match (problem.line, problem.column) {
        (Some(line), Some(column)) => format!("{}:{line}:{column}", problem.source),
        _ => problem.source.clone(),
    };
    let key =
        if problem.path.is_empty() { String::new() } else { format!(" ({})", printable(&problem.path)) };
    out += &format!("{margin}{} {place}{key}\n", gutter("-->"));
    if let Some((line, before, marked)) = cut(problem, text) {
        let underline = format!("{}{}", " ".repeat(before), paint(colour, &"^".repeat(marked)));
        out += &format!("{margin} {}\n", gutter("|"));
        out += &format!("{} {} {line}\n", gutter(&number), gutter("|"));
        out += &format!("{margin} {} {underline}\n", gutter("|"));
    }
    if let Some(hint) = &problem.hint {
        out += &format!("{margin} {} {}: {}\n", gutter("="), paint("1", "help"), printable(hint));
    }
    out
}

/// The problem's line, shortened, with how many characters stand before what is underlined, and how many are.
fn cut(problem: &Problem, text: &str) -> Option<(String, usize, usize)> {
    let line = text.lines().nth(usize::try_from(problem.line?).ok()?.checked_sub(1)?)?;
    let line: Vec<char> = line.chars().collect();
    let column = usize::try_from(problem.column?).ok()?.saturating_sub(1).min(line.len());
    let width =
        usize::try_from(problem.width).unwrap_or(1).clamp(1, (line.len() - column).max(1)).min(AROUND);
    let start = column.saturating_sub(AROUND);
    let end = line.len().min(column + width + AROUND);
    let show = |part: &[char]| printable(&part.iter().collect::<String>());
    let cut = |cut: bool| if cut { "..." } else { "" };
    let before = format!("{}{}", cut(start > 0), show(&line[start..column]));
    let rest = format!("{}{}", show(&line[column..end]), cut(end < line.len()));
    Some((format!("{before}{rest}"), before.chars().count(), width))
}

/// One character for each, none that moves the cursor or speaks to the terminal.
fn printable(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        let shown = match c {
            '\t' => ' ',
            c if c.is_control() => '\u{fffd}',
            c => c,
        };
        // Writing to a String cannot fail.
        out.write_char(shown).unwrap_or_default();
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str) -> String {
        let (_, problems) = config::check("web.yaml", text.as_bytes());
        problems.iter().map(|problem| render(problem, text, Style { colour: false })).collect()
    }

    #[test]
    fn a_problem_is_shown_with_its_line() {
        let text = "#cloud-config\nservices:\n  web: {image: nginx, network_mode: bridge}\n";
        let expected = "\
error: 'bridge' is not supported: it must be 'host', 'none' or 'service:NAME'
 --> web.yaml:3:37 (services.web.network_mode)
  |
3 |   web: {image: nginx, network_mode: bridge}
  |                                     ^^^^^^
  = help: without it the service is in the network 'default'
";
        assert_eq!(rendered(text), expected);
    }

    #[test]
    fn advice_follows() {
        assert!(
            rendered("#cloud-config\nhostnam: a\n")
                .ends_with("  |\n2 | hostnam: a\n  | ^^^^^^^\n  = help: did you mean 'hostname'?\n")
        );
    }

    #[test]
    fn long_lines_are_cut_and_controls_are_not_printed() {
        let long = format!(
            "#cloud-config\n{{x-a: {}, hostname: \"\x1b[31m_\", x-b: {}}}\n",
            "a".repeat(300),
            "b".repeat(300)
        );
        let shown = rendered(&long.replace('\x1b', "\\e"));
        assert!(shown.lines().all(|line| line.chars().count() < 200), "{shown}");
        assert!(shown.contains("...") && shown.contains("^^^"), "{shown}");
        assert!(!rendered(&long).contains('\x1b'));
    }

    #[test]
    fn a_problem_without_a_place_is_shown_without_a_line() {
        assert!(rendered("").starts_with("warning: user-data is empty\n --> web.yaml:1:1\n"));
    }

    #[test]
    fn colours_come_only_on_demand() {
        let (_, problems) = config::check("f", b"#cloud-config\na: b\n");
        assert!(render(&problems[0], "", Style { colour: true }).contains("\x1b[1;31merror"));
        assert!(!render(&problems[0], "", Style { colour: false }).contains('\x1b'));
    }
}
