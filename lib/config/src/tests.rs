//! Whole files in, problems and the desired state out.

mod files;
mod hostile;
mod machine;
mod services;

use super::*;

const WEB: &str = "#cloud-config
hostname: web-1
services:
  web:
    image: nginx
    network_mode: host
";

/// The problems as console lines without the source's name.
fn problems(text: &str) -> Vec<String> {
    let (desired, problems) = check("f", text.as_bytes());
    let errors = problems.iter().any(|p| p.severity == Severity::Error);
    assert_eq!(desired.is_none(), errors, "there is a result exactly when there is no error");
    problems.iter().map(|p| p.to_string().replacen(" f:", " ", usize::from(p.line.is_some()))).collect()
}

/// A service 'a' with `lines` added.
fn service(lines: &str) -> String {
    format!("#cloud-config\nservices:\n  a:\n    image: i\n    network_mode: none\n{lines}")
}

fn read(text: &str) -> Desired {
    let (desired, problems) = check("f", text.as_bytes());
    desired.unwrap_or_else(|| panic!("{problems:#?}"))
}

fn read_service(lines: &str) -> Service {
    read(&service(lines)).services.into_values().next().expect("one service")
}

/// `HOLDFAST_WRITE_DOCS=1 cargo test -p config documented` writes the tables.
#[test]
fn the_documented_reference_is_the_code_s() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    let text = std::fs::read_to_string(path).expect("docs/configuration.md");
    let (begin, end) = ("<!-- begin of the tables -->\n\n", "\n<!-- end of the tables -->");
    let (before, rest) = text.split_once(begin).expect("the begin of the tables");
    let (tables, after) = rest.split_once(end).expect("the end of the tables");
    let reference = reference();
    if std::env::var_os("HOLDFAST_WRITE_DOCS").is_some() {
        std::fs::write(path, [before, begin, &reference, end, after].concat())
            .expect("docs/configuration.md");
    } else {
        assert!(
            tables == reference,
            "write the tables of {path} anew: HOLDFAST_WRITE_DOCS=1 cargo test -p config"
        );
    }
}
