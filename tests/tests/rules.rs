//! The rules of the house that a machine can see: who may depend on whom, under which licence, and where unsafe code is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;
use vm_tests::project;

/// Programs: nothing may depend on them.
const PROGRAMS: [&str; 5] = ["agent", "containerd-shim", "ctl", "image-build", "init"];

/// Crates that PID 1 may be made of. The budget is a reason to stop and think, not a law of nature.
const INIT_BUDGET: usize = 25;

/// Crates that parse outside data or talk to the network, and the programs that may link them.
const OUTSIDE_DATA: [&str; 10] = [
    "granit-parser",
    "mailparse",
    "serde-saphyr",
    "rustls",
    "hyper",
    "axum",
    "reqwest",
    "ureq",
    "russh",
    "tokio",
];
const MAY_READ_OUTSIDE_DATA: [&str; 3] = ["agent", "ctl", "image-build"];

/// Where unsafe code is allowed; the last one is an attacker, and runs in containers of tests only.
const UNSAFE_ALLOWED: [&str; 3] = ["lib/sys", "containerd-shim", "tests/hostile-probe"];

/// The graph of what is linked: build scripts and tests left out.
struct Graph {
    packages: BTreeMap<String, Package>,
    /// Linked dependencies by package id.
    links: BTreeMap<String, Vec<String>>,
}

struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
    directory: PathBuf,
    proc_macro: bool,
}

static GRAPH: LazyLock<Graph> = LazyLock::new(Graph::read);

impl Graph {
    fn read() -> Self {
        let output = Command::new(env!("CARGO"))
            .args([
                "metadata",
                "--format-version=1",
                "--locked",
                "--filter-platform=x86_64-unknown-linux-gnu",
            ])
            .current_dir(project())
            .output()
            .expect("cargo starts");
        assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
        let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
        let packages = list(&metadata["packages"]).map(|p| (text(&p["id"]), Package::read(p))).collect();
        let links = list(&metadata["resolve"]["nodes"]).map(|node| {
            let linked =
                list(&node["deps"]).filter(|d| list(&d["dep_kinds"]).any(|kind| kind["kind"].is_null()));
            (text(&node["id"]), linked.map(|d| text(&d["pkg"])).collect())
        });
        Self { packages, links: links.collect() }
    }

    /// Our own packages.
    fn ours(&self) -> impl Iterator<Item = (&String, &Package)> {
        self.packages.iter().filter(|(_, package)| package.source.is_none())
    }

    fn id_of(&self, name: &str) -> &str {
        self.ours()
            .find(|(_, p)| p.name == name)
            .unwrap_or_else(|| panic!("{name} is not in the workspace"))
            .0
    }

    /// Names of everything that is linked into `name`, procedural macros left out.
    fn linked_into(&self, name: &str) -> BTreeSet<&str> {
        let (mut todo, mut seen) = (vec![self.id_of(name)], BTreeSet::new());
        while let Some(id) = todo.pop() {
            if !self.packages[id].proc_macro && seen.insert(id) {
                todo.extend(self.links[id].iter().map(String::as_str));
            }
        }
        seen.remove(self.id_of(name));
        seen.into_iter().map(|id| self.packages[id].name.as_str()).collect()
    }
}

impl Package {
    fn read(package: &Value) -> Self {
        let manifest = PathBuf::from(text(&package["manifest_path"]));
        Self {
            name: text(&package["name"]),
            version: text(&package["version"]),
            license: package["license"].as_str().map(str::to_owned),
            source: package["source"].as_str().map(str::to_owned),
            directory: manifest.parent().expect("a manifest lies in a directory").to_owned(),
            proc_macro: list(&package["targets"]).any(|t| list(&t["kind"]).any(|kind| kind == "proc-macro")),
        }
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().expect("a list").iter()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

#[test]
fn dependencies_point_down() {
    let lib = project().join("lib");
    for (id, package) in GRAPH.ours() {
        for dependency in GRAPH.links[id].iter().map(|id| &GRAPH.packages[id]).filter(|d| d.source.is_none())
        {
            let (from, to) = (&package.name, &dependency.name);
            assert!(!PROGRAMS.contains(&to.as_str()), "{from} depends on the program {to}");
            assert!(dependency.directory.starts_with(&lib), "{from} depends on {to}, which is not in lib/");
        }
    }
}

#[test]
fn only_the_shim_links_libcontainer() {
    for (_, package) in GRAPH.ours().filter(|(_, p)| p.name != "containerd-shim") {
        let linked = GRAPH.linked_into(&package.name);
        assert!(!linked.contains("libcontainer"), "{} links libcontainer", package.name);
    }
    assert!(GRAPH.linked_into("containerd-shim").contains("libcontainer"));
}

#[test]
fn outside_data_stays_outside_pid_1_and_the_shim() {
    for program in PROGRAMS.into_iter().filter(|p| !MAY_READ_OUTSIDE_DATA.contains(p)) {
        for name in OUTSIDE_DATA {
            assert!(!GRAPH.linked_into(program).contains(name), "{program} links {name}");
        }
    }
}

#[test]
fn pid_1_is_made_of_few_crates() {
    let linked = GRAPH.linked_into("init");
    assert!(
        linked.len() <= INIT_BUDGET,
        "init links {} crates, more than {INIT_BUDGET}: {linked:#?}",
        linked.len()
    );
}

#[test]
fn unsafe_code_is_where_it_is_allowed() {
    let mut found = BTreeSet::new();
    for (_, package) in GRAPH.ours() {
        for file in sources(&package.directory) {
            let source = std::fs::read_to_string(&file).expect("a source file can be read");
            let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
            // Put together here so that this file does not find itself.
            let words = ["{", "fn ", "impl ", "extern "].map(|next| format!("{} {next}", "unsafe"));
            if code.into_iter().any(|line| words.iter().any(|word| line.contains(word))) {
                found.insert(file.strip_prefix(project()).expect("a file of the project").to_owned());
            }
        }
    }
    let misplaced: Vec<_> =
        found.iter().filter(|f| !UNSAFE_ALLOWED.iter().any(|dir| f.starts_with(dir))).collect();
    assert!(misplaced.is_empty(), "unsafe code outside {UNSAFE_ALLOWED:?}: {misplaced:#?}");
    assert!(found.iter().any(|f| f.starts_with("lib/sys")), "the search finds what is known to be there");
}

/// The Rust files below a package, without those of build directories.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory can be listed") {
        let path = entry.expect("a directory can be listed").path();
        if path.is_dir() && !path.ends_with("target") {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

static DENY: LazyLock<toml::Table> = LazyLock::new(|| {
    let file = std::fs::read_to_string(project().join("deny.toml")).expect("deny.toml can be read");
    file.parse().expect("deny.toml is TOML")
});

/// A list of `deny.toml`.
fn deny(section: &str, key: &str) -> impl Iterator<Item = &'static toml::Value> {
    DENY[section][key].as_array().expect("a list").iter()
}

fn word(value: &toml::Value) -> &str {
    value.as_str().expect("a text")
}

#[test]
fn licences_are_the_ones_we_accept() {
    let accepted: Vec<_> =
        deny("licenses", "allow").map(|l| spdx::Licensee::parse(word(l)).expect("SPDX")).collect();
    let clarified: BTreeMap<_, _> =
        deny("licenses", "clarify").map(|c| (word(&c["crate"]), word(&c["expression"]))).collect();
    let fits = |package: &&Package| {
        let license = package.license.as_deref().or(clarified.get(package.name.as_str()).copied());
        let expression = spdx::Expression::parse_mode(license.unwrap_or_default(), spdx::ParseMode::LAX);
        expression.is_ok_and(|e| e.evaluate(|asked| accepted.iter().any(|l| l.satisfies(asked))))
    };
    let name = |p: &Package| format!("{} {}: {}", p.name, p.version, p.license.as_deref().unwrap_or("none"));
    let others: Vec<_> = GRAPH.packages.values().filter(|p| !fits(p)).map(name).collect();
    assert!(others.is_empty(), "licences that deny.toml does not accept: {others:#?}");
}

#[test]
fn crates_come_from_one_registry_and_none_is_banned() {
    let registries: Vec<_> =
        deny("sources", "allow-registry").map(|r| format!("registry+{}", word(r))).collect();
    let banned: Vec<_> = deny("bans", "deny").map(|ban| word(&ban["crate"])).collect();
    for package in GRAPH.packages.values() {
        assert!(!banned.contains(&package.name.as_str()), "{} is banned by deny.toml", package.name);
        if let Some(source) = &package.source {
            assert!(registries.contains(source), "{} comes from {source}", package.name);
        }
    }
}
