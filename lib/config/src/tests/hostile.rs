//! Files that mean harm, and those that mean nothing.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

#[test]
fn hostile_input_is_refused_quickly() {
    let mut bomb = String::from("#cloud-config\nx-0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for i in 1..10 {
        bomb.push_str(&format!("x-{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(",")));
    }
    let many_keys = (0..60_000).fold(String::from("#cloud-config\n"), |all, i| all + &format!("x-{i}: 1\n"));
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::copy(&mut std::io::Read::take(std::io::repeat(b'#'), 1 << 25), &mut gz)
        .expect("writing to memory");
    let gzip_bomb = gz.finish().expect("writing to memory");
    let wide = format!("#cloud-config\nhostname: {}\n", "a".repeat(1 << 20));
    let unknown =
        (0..10_000).fold(String::from("#cloud-config\n"), |all, i| all + &format!("unknown{i}: 1\n"));
    let ranges = service(&format!("    ports: ['{}']\n", vec!["1-65535:1-65535"; 300].join("', '")));
    let lines = |line: &dyn Fn(usize) -> String| (0..4000).map(line).collect::<String>();
    let chain =
        lines(&|i| format!("  s{i}: {{image: i, network_mode: none, depends_on: [s{}]}}\n", (i + 1) % 4000));
    let grown = format!(
        "#cloud-config\nholdfast: {{env: {{A: {}}}}}\nservices:\n  a:\n    environment:\n{}",
        "a".repeat(1 << 20),
        lines(&|i| format!("      V{i}: $A$A\n"))
    );
    for (what, text) in [
        ("ranges of ports", ranges.as_bytes()),
        ("a long cycle", format!("#cloud-config\nservices:\n{chain}").as_bytes()),
        ("variables that make much of little", grown.as_bytes()),
        ("alias bomb", bomb.as_bytes()),
        ("flow nesting", format!("#cloud-config\na: {}", "[".repeat(100_000)).as_bytes()),
        ("block nesting", format!("#cloud-config\n{}", "- ".repeat(100_000)).as_bytes()),
        ("map nesting", format!("#cloud-config\n{}", "{a: ".repeat(100_000)).as_bytes()),
        ("keys", many_keys.as_bytes()),
        ("gzip bomb", &gzip_bomb),
        ("1 MiB name", wide.as_bytes()),
        ("unknown keys", unknown.as_bytes()),
    ] {
        let start = Instant::now();
        assert!(check("f", text).0.is_none(), "{what} was accepted");
        assert!(start.elapsed() < Duration::from_secs(10), "{what} took {:?}", start.elapsed());
    }
}

#[test]
fn a_flood_of_problems_is_cut_and_stays_an_error() {
    let warnings = (0..150).fold(String::from("#cloud-config\n"), |all, _| all + "packages: [a]\n");
    let (desired, problems) = check("f", (warnings + "hostname: a_b\n").as_bytes());
    assert!(desired.is_none());
    let last = problems.last().expect("problems");
    assert_eq!((problems.len(), last.severity), (102, Severity::Error));
}

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        check("f", &bytes);
        check("f", &[b"#cloud-config\n", bytes.as_slice()].concat());
        check("f", &[b"\x1f\x8b\x08", bytes.as_slice()].concat());
        meta_data("m", &bytes);
    }

    #[test]
    fn any_text_of_yaml_is_answered(text in "([a-c]|services|image|command|depends_on|[-:{}\\[\\],&*?|>'\"$# \n]){0,80}") {
        check("f", format!("#cloud-config\n{text}").as_bytes());
        check("f", format!("#cloud-config\nservices:\n  a:\n    {text}").as_bytes());
    }
}
