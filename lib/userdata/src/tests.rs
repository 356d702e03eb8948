//! Whole files in, trees and problems out.

use std::io::{Read as _, Write as _};

use base64::Engine as _;
use proptest::prelude::*;

use super::*;

/// The merged tree as JSON, and the problems as console lines.
fn load(bytes: &[u8]) -> (String, Vec<String>) {
    let report = Report::new("f");
    let mut load = Load::new(&report, Role::User, None);
    load.add(SourceId::default(), bytes);
    let merged = load.merge();
    let problems = report.finish().problems.iter().map(ToString::to_string).collect();
    (serde_json::to_string(&merged).unwrap_or_default(), problems)
}

/// What is loaded without a problem.
fn merged(text: impl AsRef<[u8]>) -> String {
    let (merged, problems) = load(text.as_ref());
    assert_eq!(problems, Vec::<String>::new());
    merged
}

fn error(text: impl AsRef<[u8]>) -> String {
    let (_, problems) = load(text.as_ref());
    assert!(problems.iter().any(|p| p.starts_with("error")), "no error: {problems:?}");
    problems.join("\n")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(bytes).expect("memory");
    gzip.finish().expect("memory")
}

fn message(parts: &[&str]) -> String {
    let parts: String = parts.iter().map(|part| format!("--b\n{part}\n")).collect();
    format!("Content-Type: multipart/mixed; boundary=\"b\"\nMIME-Version: 1.0\n\n{parts}--b--\n")
}

const TYPE: &str = "Content-Type: text/cloud-config\n";

#[test]
fn yaml_keeps_texts_and_places() {
    let report = Report::new("f");
    let place = Place { source: SourceId::default(), line: 10 };
    let text = "a: &x 0644\nb:\n  - *x\n  - {c: 'yes', d: !!binary aGk=}\ne: |\n  one\n  two";
    let root = parse(text, place, Duplicates::Refuse, &mut Budget::default(), &report).expect("YAML");
    assert_eq!(
        serde_json::to_string(&root).expect("JSON"),
        r#"{"a":"0644","b":["0644",{"c":"yes","d":"aGk="}],"e":"one\ntwo"}"#
    );
    let at = At::root(&root, &report);
    let item = at.get("b").and_then(|b| b.list()?.next()).expect("an item");
    assert_eq!((item.node.mark.line, item.node.mark.column), (12, 5), "an alias stands where it is used");
    assert_eq!(item.path(), "b[0]");
    let binary = at.get("b").and_then(|b| b.list()?.nth(1)?.get("d")).expect("an item");
    assert_eq!(binary.path(), "b[1].d");
    assert_eq!(binary.scalar().map(|scalar| scalar.kind), Some(Kind::Binary));
    assert_eq!((binary.node.mark.line, binary.node.mark.column), (13, 28));
}

#[test]
fn merge_keys_give_what_the_map_does_not_say() {
    let yaml = "#cloud-config\nx: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\n";
    assert_eq!(
        merged(format!("{yaml}z: {{<<: *x, a: 0}}\nw: {{c: 0, <<: [*y, *x]}}\n")),
        r#"{"x":{"a":1,"b":1},"y":{"b":2,"c":2},"z":{"a":0,"b":1},"w":{"c":0,"b":2,"a":1}}"#
    );
    assert!(error("#cloud-config\na: {<<: 1}\n").starts_with("error f:2:5: '<<' takes a map"));
}

#[test]
fn mistakes_in_yaml_have_a_place() {
    for (text, expected) in [
        ("a: [1,\n", "error f:2:4: not valid YAML: "),
        ("a:\n\tb: 1\n", "error f:3:2: not valid YAML: tabs"),
        ("a: *b\n", "error f:2:4: not valid YAML: this alias has no anchor"),
        ("a: &b [*b]\n", "error f:2:8: this alias stands inside of what it names"),
        ("a: 1\n---\nb: 1\n", "error f:3:1: there is more than one YAML document (remove"),
        ("? [a]\n: b\n", "error f:2:3: a list or map cannot be a key"),
        ("a: !thing b\n", "error f:2:11: the tag '!thing' does not fit here"),
        ("a: !!int b\n", "error f:2:10: the tag '!!int' does not fit here"),
        ("a: {b: 1}\na: 2\n", "error f:3:1 a: the key 'a' is given twice: first on line 2"),
        ("l: [{a: {b: 1, b: 2}}]\n", "error f:2:16 l[0].a.b: the key 'b' is given twice"),
        ("- a\n", "error f:2:1: user-data must be a map of keys and values, not a list"),
    ] {
        let found = error(format!("#cloud-config\n{text}"));
        assert!(found.starts_with(expected), "{text}\n{found}\nexpected {expected}");
    }
    assert!(error(b"#cloud-config\nab: \xff\n").starts_with("error f:2:5: user-data is not UTF-8"));
}

#[test]
fn places_survive_messages_and_merging() {
    let text = message(&[&format!("{TYPE}\n#cloud-config\na: 1\n"), &format!("{TYPE}\nb:\n  c: 1\n  c: 2")]);
    let found = error(&text);
    let line = 1 + text.lines().position(|line| line == "  c: 2").expect("the line");
    assert!(found.starts_with(&format!("error f:{line}:3 b.c: the key 'c' is given twice")), "{found}");

    let part = base64::engine::general_purpose::STANDARD.encode("#cloud-config\na: [");
    let headers = "Content-Disposition: attachment; filename=\"x.yaml\"\nContent-Transfer-Encoding: base64\n";
    let found = error(message(&[&format!("{TYPE}{headers}\n{part}"), &format!("{TYPE}\nb: 1")]));
    assert!(found.starts_with("error f part 1 'x.yaml':2:4: not valid YAML"), "{found}");
}

#[test]
fn every_format_arrives() {
    let config = "#cloud-config\na: 1\n";
    assert_eq!(merged(config), r#"{"a":1}"#);
    assert_eq!(merged("\u{feff}\n  #Cloud-Config\na: 1"), r#"{"a":1}"#);
    assert_eq!(merged(gzip(config.as_bytes())), r#"{"a":1}"#);
    assert_eq!(
        merged(
            "#cloud-config-archive\n- \"#cloud-config\\na: 1\"\n- {type: text/cloud-config, content: 'b: 2'}"
        ),
        r#"{"a":1,"b":2}"#
    );
    let packed = base64::engine::general_purpose::STANDARD.encode(gzip(config.as_bytes()));
    let packed = format!("Content-Type: application/gzip\nContent-Transfer-Encoding: base64\n\n{packed}");
    let quoted = format!("{TYPE}Content-Transfer-Encoding: quoted-printable\n\nb: a=3Db");
    let plain = "Content-Type: text/plain\n\n#cloud-config\nc: 3";
    assert_eq!(merged(message(&[&packed, &quoted, plain])), r#"{"a":1,"b":"a=b","c":3}"#);
    let inner = message(&[plain]).replace("--b", "--i").replace("\"b\"", "i");
    assert_eq!(merged(message(&[&inner, &quoted])), r#"{"c":3,"b":"a=b"}"#);
    assert_eq!(merged(gzip(message(&[plain]).as_bytes())), r#"{"c":3}"#);
    assert_eq!(merged(format!("MIME-Version: 1.0\n{TYPE}\na: 1\n")), r#"{"a":1}"#);
    let crlf = message(&[plain]).replace('\n', "\r\n");
    assert_eq!(merged(crlf), r#"{"c":3}"#);
}

#[test]
fn what_is_broken_in_a_message_is_an_error() {
    let good = format!("{TYPE}\na: 1");
    for (text, word) in [
        (message(&[&good]).replace("boundary=\"b\"", "boundary=\"c\""), "its boundary 'c' does not occur"),
        (message(&[&good]).replace("; boundary=\"b\"", ""), "without a boundary"),
        (
            message(&[&good, &format!("{TYPE}Content-Transfer-Encoding: base64\n\na: 1")]),
            "part 2 is not valid base64",
        ),
        (message(&[&good, &format!("{TYPE}Content-Transfer-Encoding: uuencode\n\na: 1")]), "'uuencode'"),
        (
            message(&[&good, "Content-Type: text/cloud-config; charset=latin1\n\na: 1"]),
            "part 2 is text in 'latin1'",
        ),
        (message(&[&good, &format!("{TYPE}\n- a")]), "part 2 must be a map"),
        (
            message(&[&good, &format!("{TYPE}Content-Transfer-Encoding: base64\n\nH4sIAAAA")]),
            "part 2 begins like gzip",
        ),
        ("#cloud-config-archive\na: 1".to_owned(), "archive and must be a list"),
        ("#cloud-config-archive\n- {type: text/plain}".to_owned(), "part 1 of the archive has no text"),
        (message(&[&format!("{TYPE}\nmerge_how: 'list(append)'\na: 1")]), "needs a dict()"),
        (message(&[&format!("{TYPE}\nmerge_how: 'dict(recurse)'\na: 1")]), "'recurse' is not an option"),
        (message(&[&format!("{TYPE}\nmerge_how: 'set()'\na: 1")]), "'set' is not a merger"),
        (message(&[&format!("{TYPE}\nmerge_how: [{{name: dict}}, 3]\na: 1")]), "a merge rule is text"),
    ] {
        assert!(error(&text).contains(word), "{text}\n{}", error(&text));
    }
    let cut = message(&[&good]).replace("--b--", "");
    assert!(load(cut.as_bytes()).1.concat().contains("may be cut off"));
}

#[test]
fn what_a_node_cannot_do_is_refused_alone_and_reported_among_others() {
    for (text, word) in [
        ("#!/bin/sh\n", "a script"),
        ("#cloud-boothook\n", "a boothook"),
        ("#part-handler\n", "a part-handler"),
        ("## template: jinja\n#cloud-config\n", "a jinja template"),
        ("#upstart-job\n", "an upstart job"),
        ("#cloud-config-jsonp\n[]", "a JSON patch"),
    ] {
        assert!(
            error(text).starts_with(&format!("error f:1:1: user-data is {word}, which cannot be used ("))
        );
        let (tree, problems) = load(
            message(&[&format!("Content-Type: text/plain\n\n{text}"), &format!("{TYPE}\na: 1")]).as_bytes(),
        );
        assert_eq!(tree, r#"{"a":1}"#);
        assert!(problems.len() == 1 && problems[0].contains(&format!("part 1 is {word}")), "{problems:?}");
        assert!(problems[0].starts_with("warning"), "{problems:?}");
    }
    assert!(error("hostname: a").contains("does not begin with '#cloud-config'"));
    assert!(error(message(&["Content-Type: text/x-shellscript\n\n#!/bin/sh\n"])).contains("a script"));
    let (_, problems) =
        load(message(&["Content-Type: foo/bar\n\n\u{1}", &format!("{TYPE}\na: 1")]).as_bytes());
    assert!(problems[0].contains("part 1 is of the type 'foo/bar'"), "{problems:?}");
    assert!(load(b"").1[0].starts_with("warning f:1:1: user-data is empty"));
}

#[test]
fn includes_are_fetched_by_the_caller_and_keep_their_place() {
    let report = Report::new("f");
    let mut load = Load::new(&report, Role::User, None);
    let one = message(&[
        &format!("{TYPE}\na: 1"),
        "Content-Type: text/x-include-url\n\nhttp://h/1\n#include-once http://h/2",
        &format!("{TYPE}\na: 9"),
    ]);
    load.add(SourceId::default(), one.as_bytes());
    let urls: Vec<_> = load.includes().map(|include| (include.url.clone(), include.once)).collect();
    assert_eq!(urls, [("http://h/1".to_owned(), false), ("http://h/2".to_owned(), true)]);
    load.resolve(Ok(b"#include\nhttp://h/3\n"));
    assert_eq!(
        load.includes().map(|include| include.url.as_str()).collect::<Vec<_>>(),
        ["http://h/3", "http://h/2"]
    );
    load.resolve(Ok(b"#cloud-config\na: 3\nb: 3\nb: 4"));
    load.resolve(Err("no route to host"));
    assert_eq!(serde_json::to_string(&load.merge()).expect("JSON"), r#"{"a":9,"b":4}"#);
    let problems: Vec<_> = report.finish().problems.iter().map(ToString::to_string).collect();
    assert!(problems[0].contains("http://h/2 cannot be included: no route to host"), "{problems:?}");
    assert!(problems[1].starts_with("error http://h/3:4:1 b: the key 'b' is given twice"), "{problems:?}");
    assert!(error("#include\nfile:///etc/passwd\n").starts_with("error f:2:1: an address to include"));
    assert!(super::tests::load(b"#include http://h/1\n").1[0].contains("not fetched here"));
}

#[test]
fn a_circle_of_includes_ends() {
    let report = Report::new("f");
    let mut load = Load::new(&report, Role::User, None);
    load.add(SourceId::default(), b"#include\nhttp://h/1\nhttp://h/1\n");
    let mut fetched = 0;
    while load.includes().next().is_some() {
        load.resolve(Ok(b"#include\nhttp://h/1\nhttp://h/1\n"));
        fetched += 1;
    }
    assert!(fetched <= MAX_PARTS);
    assert!(report.has_errors());
}

#[test]
fn merge_rules_come_from_content_and_headers() {
    let first = format!("{TYPE}\nl: [1]\nd: {{a: 1, b: 1}}\ns: x");
    let rest = "l: [2, 3]\nd: {b: 2, c: 2}\ns: y\n";
    let two = |headers: &str, how: &str| merged(message(&[&first, &format!("{TYPE}{headers}\n{rest}{how}")]));
    assert_eq!(two("", ""), r#"{"l":[2,3],"d":{"b":2,"c":2},"s":"y"}"#);
    let append = r#"{"l":[1,2,3],"d":{"a":1,"b":1,"c":2},"s":"xy"}"#;
    assert_eq!(two("", "merge_how: 'dict(recurse_list,recurse_str)+list(append)+str(append)'"), append);
    assert_eq!(two("Merge-Type: dict(recurse_list,recurse_str)+list(append)+str(append)\n", ""), append);
    assert_eq!(two("X-Merge-Type: m_dict(recurse-array,recurse_str)+list(append)+str(append)\n", ""), append);
    let list = "merge_type:\n - {name: dict, settings: [recurse_list, recurse_str]}\n - [list, append]\n - {name: str, settings: append}\n";
    assert_eq!(two("", list), append);
    assert_eq!(
        two("", "merge_how: 'dict(recurse_list)+list(prepend)'"),
        r#"{"l":[2,3,1],"d":{"a":1,"b":1,"c":2},"s":"x"}"#
    );
    assert_eq!(
        two("", "merge_how: 'dict(recurse_list)+list()'"),
        r#"{"l":[2],"d":{"a":1,"b":1,"c":2},"s":"x"}"#
    );
    assert_eq!(
        two("", "merge_how: 'dict(recurse_list)+list(no_replace)'"),
        r#"{"l":[1],"d":{"a":1,"b":1,"c":2},"s":"x"}"#
    );
    assert!(
        error(message(&[&first, &format!("{TYPE}\nl: x\nmerge_how: 'dict(recurse_str)+list(append)'")]))
            .contains("it is not a list")
    );
}

#[test]
fn vendor_data_is_below_user_data() {
    let tree = |text: &str| {
        let report = Report::new("f");
        let place = Place { source: SourceId::default(), line: 1 };
        parse(text, place, Duplicates::Refuse, &mut Budget::default(), &report).expect("YAML")
    };
    let merged = below(
        tree("{a: {x: 1}, l: [1], s: u, n: null}"),
        tree("{a: {x: 2, y: 2}, l: [2, 3], s: {v: 1}, n: 1, new: 1}"),
    );
    assert_eq!(
        serde_json::to_string(&merged).expect("JSON"),
        r#"{"a":{"x":1,"y":2},"l":[1],"s":"u","n":null,"new":1}"#
    );
    let report = Report::new("vendor");
    let mut load = Load::new(&report, Role::Vendor, None);
    load.add(SourceId::default(), b"#!/bin/sh\n");
    load.merge();
    assert!(!report.has_errors() && report.finish().problems.len() == 1);
}

#[test]
fn parts_for_other_instances_are_left_out() {
    let text = message(&[
        &format!("{TYPE}Launch-Index: 0\n\na: 0"),
        &format!("{TYPE}\nlaunch-index: 1\na: 1"),
        &format!("{TYPE}\nb: 1"),
    ]);
    let report = Report::new("f");
    let mut load = Load::new(&report, Role::User, Some(0));
    load.add(SourceId::default(), text.as_bytes());
    assert_eq!(serde_json::to_string(&load.merge()).expect("JSON"), r#"{"a":0,"b":1}"#);
}

#[test]
fn hostile_input_meets_a_limit() {
    let mut bomb = String::from("#cloud-config\nx0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for i in 1..10 {
        bomb.push_str(&format!("x{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(",")));
    }
    let aliases = format!("#cloud-config\na: &a 1\nb: [{}]\n", vec!["*a"; 300].join(","));
    let deep_alias = (1..12).fold(String::from("#cloud-config\na0: &a0 [1]\n"), |all, i| {
        all + &format!("a{i}: &a{i} [[[[[[[[[[*a{}]]]]]]]]]]\n", i - 1)
    });
    let many = (0..60_000).fold(String::from("#cloud-config\n"), |all, i| all + &format!("x-{i}: 1\n"));
    let parts: Vec<String> = (0..20).map(|i| format!("{TYPE}\na{i}: [{}]", "1,".repeat(3000))).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let flood = message(&vec![""; 300]);
    let nested = (0..20).fold("x".to_owned(), |inner, i| {
        format!(
            "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b{i}\n\n--b{i}\n{inner}\n--b{i}--\n"
        )
    });
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::copy(&mut std::io::repeat(b'#').take(17 << 20), &mut gz).expect("memory");
    let gzip_bomb = gz.finish().expect("memory");
    for (what, text, word) in [
        ("alias bomb", bomb.into_bytes(), "50000 values"),
        ("aliases", aliases.into_bytes(), "more than 256 aliases"),
        ("nested aliases", deep_alias.into_bytes(), "deeper than 64"),
        ("flow lists", format!("#cloud-config\na: {}", "[".repeat(100_000)).into_bytes(), "deeper than 64"),
        ("block lists", format!("#cloud-config\n{}", "- ".repeat(100_000)).into_bytes(), "deeper than 64"),
        ("flow maps", format!("#cloud-config\n{}", "{a: ".repeat(100_000)).into_bytes(), "deeper than 64"),
        ("nodes", many.into_bytes(), "50000 values"),
        ("nodes over all parts", message(&parts).into_bytes(), "50000 values"),
        ("parts", flood.into_bytes(), "more than 256 parts"),
        ("nested messages", nested.into_bytes(), "nests deeper than 8"),
        ("gzip bomb", gzip_bomb, "larger than 16 MiB"),
        ("size", vec![b'#'; MAX_SIZE + 1], "larger than 16 MiB"),
    ] {
        assert!(error(&text).contains(word), "{what}: {}", error(&text));
    }
    let long_key = format!("#cloud-config\n? {}\n: {{a: 1, a: 2}}\n", "k".repeat(1 << 20));
    assert!(error(&long_key).len() < 2000, "long keys are cut in problems");
}

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        load(&bytes);
        load(&[b"#cloud-config\n", bytes.as_slice()].concat());
        load(&[b"#cloud-config-archive\n- ", bytes.as_slice()].concat());
        load(&[b"\x1f\x8b\x08", bytes.as_slice()].concat());
        load(&[b"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n", bytes.as_slice()].concat());
    }

    #[test]
    fn any_text_of_yaml_is_answered(text in "([a-c]|<<|[-:{}\\[\\],&*?|>'\"!# \n]){0,80}") {
        load(format!("#cloud-config\n{text}").as_bytes());
    }

    #[test]
    fn any_merge_rule_is_answered(
        how in "(dict|list|str|m_dict|append|prepend|replace|no_replace|recurse_(str|list|array|dict)|allow_delete|[(),+ ]){0,12}",
        one in "[a-c]: (1|x|~|\\[1, x, \\[y\\]\\]|\\{a: 1, b: \\[x\\]\\})",
        two in "[a-c]: (2|y|~|\\[2, y, \\{z: 1\\}\\]|\\{a: x, b: \\[y, z\\]\\})",
    ) {
        load(message(&[&format!("{TYPE}\n{one}"), &format!("{TYPE}\n{two}\nmerge_how: '{how}'")]).as_bytes());
    }
}
