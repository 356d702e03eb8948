//! Hostile input is answered within limits: one second of processor time and 128 MiB of memory in a release build. The
//! kernel enforces both, so that a busy machine cannot make this fail, and a slow answer cannot pass.

use std::io::Write as _;
use std::process::{Command, ExitStatus, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use vm_tests::binary;

const MIB: usize = 1 << 20;

const SECONDS: u32 = 1;

/// What the command says of `input`, as the file that `option` names or as user-data.
fn check(option: Option<&str>, input: &[u8]) -> ExitStatus {
    let good = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&good, "#cloud-config\n{}\n").expect("a file");
    // KiB of address space, seconds of processor time.
    let limits = format!("ulimit -v {} && ulimit -t {SECONDS} && exec \"$0\" \"$@\"", 128 * 1024);
    let mut command = Command::new("sh");
    command.arg("-c").arg(limits).arg(binary("holdfast")).args(["check", "--format", "json"]);
    match option {
        Some(option) => command.args([option, "-"]).arg(good.path()),
        None => command.arg("-"),
    };
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the command starts");
    // A command that has died reads no more: its status tells.
    let written = child.stdin.take().expect("its input").write_all(input);
    let status = child.wait().expect("its status");
    assert!(written.is_ok() || !status.success(), "{written:?}");
    status
}

fn assert_answered(what: &str, option: Option<&str>, input: &[u8], codes: &[i32]) {
    let status = check(option, input);
    assert!(status.code().is_some_and(|code| codes.contains(&code)), "{what}: {status}");
}

fn gzip(bytes: impl std::io::Read) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::copy(&mut { bytes }, &mut encoder).expect("writing to memory");
    encoder.finish().expect("writing to memory")
}

/// Four times what a node takes.
fn bomb() -> Vec<u8> {
    gzip(std::io::Read::take(std::io::repeat(b'#'), 64 << 20))
}

fn message(encoding: &str, body: &str) -> String {
    format!(
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/cloud-config\n\
         Content-Transfer-Encoding: {encoding}\n\n{body}\n--b--\n"
    )
}

fn fill(piece: &str) -> String {
    piece.repeat(MIB / piece.len())
}

#[test]
fn bombs_are_not_unpacked() {
    let bomb = bomb();
    let twice = gzip(gzip(bomb.as_slice()).as_slice());
    let in_message = message("base64", &STANDARD.encode(&bomb));
    let packed_message = gzip(in_message.as_bytes());
    let many: String = (0..200)
        .fold(String::new(), |all, _| all + "- |\n  #cloud-config\n  x-a: [" + &"a,".repeat(2000) + "]\n");
    let archive = format!("#cloud-config-archive\n{many}");
    let write_files = format!(
        "#cloud-config\nwrite_files:\n{}",
        format!("- {{path: /etc/a, encoding: gz+b64, content: {}}}\n", STANDARD.encode(&bomb)).repeat(8)
    );
    for (what, input) in [
        ("gzip", bomb.as_slice()),
        ("gzip in gzip in gzip", &twice),
        ("base64 in a message", in_message.as_bytes()),
        ("base64 in a packed message", &packed_message),
        ("an archive of many parts", archive.as_bytes()),
        ("contents of files", write_files.as_bytes()),
    ] {
        assert_answered(what, None, input, &[1]);
    }
}

#[test]
fn aliases_and_nesting_are_bounded() {
    let mut aliases = String::from("#cloud-config\nx-0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for level in 1..20 {
        let before = vec![format!("*a{}", level - 1); 10].join(",");
        aliases += &format!("x-{level}: &a{level} [{before}]\n");
    }
    let mut merges = String::from("#cloud-config\nx-0: &a0 {a: 1}\n");
    for level in 1..200 {
        merges += &format!("x-{level}: &a{level} {{<<: *a{}, k{level}: [*a{}]}}\n", level - 1, level - 1);
    }
    let deep = |open: &str| format!("#cloud-config\nx-a: {}", open.repeat(100_000));
    let indented: String = (0..1400).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
    for (what, input) in [
        ("an alias bomb", aliases),
        ("maps that merge maps", merges),
        ("lists", deep("[")),
        ("maps", deep("{a: ")),
        ("lists in maps", deep("[{a: ")),
        ("block lists", format!("#cloud-config\n{}", "- ".repeat(100_000))),
        ("explicit keys", format!("#cloud-config\n{}", "? ".repeat(100_000))),
        ("block maps", format!("#cloud-config\n{indented}")),
    ] {
        assert_answered(what, None, input.as_bytes(), &[1]);
    }
}

#[test]
fn a_mebibyte_of_anything_is_answered() {
    let numbered = |line: &dyn Fn(usize) -> String| {
        let mut text = String::new();
        let mut number = 0;
        while text.len() < MIB {
            text += &line(number);
            number += 1;
        }
        text
    };
    let services = |key: &str| {
        let line = |n: usize| format!("  s{n}: {{image: i, {}}}\n", key.replace('#', &(n + 1).to_string()));
        format!("services:\n{}", numbered(&line))
    };
    for (what, body) in [
        ("one long word", format!("hostname: {}", fill("a"))),
        ("one long key", format!("{}: a", fill("a"))),
        ("unknown keys", numbered(&|n| format!("unknown{n}: a\n"))),
        ("keys of others", numbered(&|n| format!("x-{n}: a\n"))),
        ("one key again and again", fill("hostname: a\n")),
        ("a comment", format!("# {}", fill("a"))),
        ("comments", fill("# a\n")),
        ("empty lines", fill("\n")),
        ("spaces", fill(" ")),
        ("tabs", fill("\t")),
        ("documents", fill("---\n")),
        ("anchors", numbered(&|n| format!("x-{n}: &a{n} b\n"))),
        ("a list in flow", format!("x-a: [{}]", fill("a,"))),
        ("commas", format!("x-a: [{}]", fill(","))),
        ("a list in block", format!("x-a:\n{}", fill("- a\n"))),
        ("an open quote", format!("x-a: \"{}", fill("\\x41"))),
        ("a block text", format!("x-a: |\n{}", fill("  a\n"))),
        ("folded text", format!("x-a: >\n{}", fill("  a\n\n"))),
        ("tags", fill("!!str ")),
        ("directives", format!("\n{}", fill("%YAML 1.2\n"))),
        ("colons", fill(": ")),
        ("question marks", fill("? a\n")),
        ("wide characters", format!("x-a: '{}'", fill("\u{1f980}"))),
        ("merge keys", format!("x-a: &a {{b: c}}\nx-b: {{{}}}", fill("<<: *a, "))),
        ("files", format!("write_files:\n{}", numbered(&|n| format!("- {{path: /etc/{n}, content: a}}\n")))),
        ("keys that log in", format!("ssh_authorized_keys:\n{}", fill("- ssh-rsa AAAA\n"))),
        ("users", format!("users:\n{}", numbered(&|n| format!("- {{name: u{n}, shel: a}}\n")))),
        ("variables", format!("services: {{a: {{image: '{}'}}}}", fill("$A"))),
        ("open variables", format!("services: {{a: {{image: '{}'}}}}", fill("${A:-"))),
        ("variables in variables", format!("services: {{a: {{image: '{}{}'}}}}", fill("${A:-"), fill("}"))),
        ("services", services("network_mode: none")),
        ("a chain of services", services("depends_on: [s#]")),
        ("ports", services("ports: ['1-65535:1-65535']")),
        ("a command line", format!("services: {{a: {{image: i, command: '{}'}}}}", fill("\\a \"b\" "))),
        ("mounts", format!("mounts:\n{}", fill("- [sdb, /mnt/a]\n"))),
    ] {
        let text = format!("#cloud-config\n{body}\n");
        assert_answered(what, None, text.as_bytes(), &[0, 1]);
    }
}

#[test]
fn a_mebibyte_of_other_formats_is_answered() {
    let multipart = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n";
    for (what, text) in [
        ("nothing that is known", fill("a")),
        ("zeros", fill("\0")),
        ("headers", format!("MIME-Version: 1.0\n{}", fill("A: b\n"))),
        ("one header", format!("{multipart}Subject: {}", fill("a "))),
        ("folded headers", format!("{multipart}{}", fill("A: b\n c\n"))),
        ("encoded words", format!("{multipart}Subject: {}", fill("=?utf-8?b?YQ==?= "))),
        ("parts", format!("{multipart}\n{}", fill("--b\n\na\n"))),
        ("parts without end", format!("{multipart}\n{}", fill("--b\n"))),
        ("parts in parts", fill("Content-Type: multipart/mixed; boundary=b\nMIME-Version: 1.0\n\n--b\n")),
        ("base64", message("base64", &fill("QUFB\n"))),
        ("quoted-printable", message("quoted-printable", &fill("=41="))),
        ("addresses", format!("#include\n{}", fill("http://a/b\n"))),
        ("an archive", format!("#cloud-config-archive\n{}", fill("- '#cloud-config'\n"))),
        (
            "an archive in an archive",
            format!("#cloud-config-archive\n{}", fill("- |\n #cloud-config-archive\n")),
        ),
    ] {
        assert_answered(what, None, text.as_bytes(), &[0, 1]);
    }
    let latin = [b"#cloud-config\nhostname: ".as_slice(), &[0xff; MIB]].concat();
    assert_answered("bytes that are no text", None, &latin, &[1]);
}

#[test]
fn what_a_datasource_adds_is_bounded_too() {
    let interfaces = format!("version: 2\nethernets:\n{}", fill("  a: {}\n"));
    let bonds = format!("version: 2\nbonds:\n  b: {{interfaces: [{}]}}\n", fill("a,"));
    let entries = format!("version: 1\nconfig:\n{}", fill("- {type: physical, name: eth0}\n"));
    let nested = "[".repeat(100_000);
    for (option, input) in [
        ("--network-config", interfaces.as_str()),
        ("--network-config", &bonds),
        ("--network-config", &entries),
        ("--network-config", &nested),
        ("--meta-data", &nested),
        ("--meta-data", &fill("public-keys: a\n")),
        ("--vendor-data", &nested),
        ("--vendor-data", &format!("#cloud-config\n{}", fill("a: b\n"))),
    ] {
        assert_answered(
            &format!("{option} {:.40}", input.replace('\n', " ")),
            Some(option),
            input.as_bytes(),
            &[0, 1],
        );
    }
}
