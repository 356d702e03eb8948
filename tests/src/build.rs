//! The builds that tests boot: each made once, by the `image-build` that `make build` left.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

/// The project's directory.
pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the project")
}

/// Cargo's directory for what it builds for the node: `target/<triple>`.
fn target() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| project().join("target"), PathBuf::from);
    target.join("x86_64-unknown-linux-gnu")
}

/// Where tests leave things: `target/vm-tests`.
pub(crate) fn workspace() -> PathBuf {
    target().parent().expect("the target directory").join("vm-tests")
}

/// One of our binaries, built for release.
pub fn binary(name: &str) -> PathBuf {
    let path = target().join("release").join(name);
    assert!(path.exists(), "{} is not there: `make build` makes it", path.display());
    path
}

/// PID 1 with a fault built in: see `init/src/fault.rs`.
pub fn faulty_init(feature: &str) -> PathBuf {
    made_for_tests("init", Some(feature))
}

/// The program that checks what the kernel does: see `tests/kernel-probe`.
pub fn kernel_probe() -> PathBuf {
    made_for_tests("kernel-probe", None)
}

/// A client of the task service of containers, small enough to be part of a configuration: see `tests/task-probe`.
pub fn task_probe() -> PathBuf {
    let program = made_for_tests("task-probe", None);
    let stripped = program.with_extension("stripped");
    let strip = Command::new("strip").arg("-o").arg(&stripped).arg(&program).output().expect("strip starts");
    assert!(strip.status.success(), "cannot strip it: {}", String::from_utf8_lossy(&strip.stderr));
    stripped
}

/// An image whose only program, `/probe`, tries to get out of its container: see `tests/hostile-probe`.
pub fn hostile_image() -> PathBuf {
    let program = made_for_tests("hostile-probe", None);
    let (definition, layout) = (program.with_extension("toml"), program.with_extension("image"));
    let text = "entrypoint = ['/probe']\n[[layer]]\n\
                directory = [{ path = 'tmp', mode = 0o1777 }, { path = 'volume' }]\n\
                file = [{ path = 'probe', from = 'hostile-probe', mode = 0o755 }]\n";
    std::fs::write(&definition, text).expect("target/vm-tests can be written");
    image_build(&["image", &definition.display().to_string(), "--out", &layout.display().to_string()]);
    layout
}

/// A program that `make build` does not make.
fn made_for_tests(package: &str, feature: Option<&str>) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    // A build that failed leaves nothing that another one trusts.
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let target = workspace().join("faults");
    let cargo = Command::new(env!("CARGO"))
        .args(["build", "--locked", "-p", package, "--target-dir"])
        .arg(&target)
        .args(feature.into_iter().flat_map(|feature| ["--features", feature]))
        .current_dir(project())
        .output()
        .expect("cargo starts");
    assert!(cargo.status.success(), "cannot build {package}: {}", String::from_utf8_lossy(&cargo.stderr));
    let program = target.join(feature.unwrap_or(package));
    let built = target.join("x86_64-unknown-linux-gnu/debug").join(package);
    std::fs::copy(built, &program).expect("a program can be copied");
    program
}

/// The kernel that the tests boot: `HOLDFAST_TEST_KERNEL`, else the one that a build takes by itself.
pub fn kernel() -> String {
    std::env::var("HOLDFAST_TEST_KERNEL").unwrap_or_else(|_| "debian-cloud".to_owned())
}

/// Runs `image-build` and fails with what it said.
pub(crate) fn image_build(args: &[&str]) {
    let output = Command::new(binary("image-build")).args(args).current_dir(project()).output();
    let output = output.expect("image-build starts");
    assert!(
        output.status.success(),
        "image-build {} failed ({}):\n{}{}",
        args.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// What is special about a build.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Recipe {
    name: String,
    version: Option<String>,
    config: Option<String>,
    binaries: Vec<(String, PathBuf)>,
    images: Vec<(String, PathBuf)>,
    broken: Vec<String>,
}

impl Recipe {
    /// A build that will be found under `name`: use one name for one content.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Its version.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        self.version = Some(version.to_owned());
        self
    }

    /// User-data baked into its root.
    #[must_use]
    pub fn config(mut self, user_data: &str) -> Self {
        self.config = Some(user_data.to_owned());
        self
    }

    /// Another file in place of one of our binaries.
    #[must_use]
    pub fn binary(mut self, name: &str, file: &Path) -> Self {
        self.binaries.push((name.to_owned(), file.to_owned()));
        self
    }

    /// One more image, as an OCI layout.
    #[must_use]
    pub fn image(mut self, name: &str, layout: &Path) -> Self {
        self.images.push((name.to_owned(), layout.to_owned()));
        self
    }

    /// Something that cannot be executed in place of one of our binaries.
    #[must_use]
    pub fn broken(mut self, name: &str) -> Self {
        self.broken.push(name.to_owned());
        self
    }

    /// The build, made now unless this run of the tests has made it.
    pub fn build(self) -> Build {
        type Made = Mutex<BTreeMap<String, Arc<OnceLock<Build>>>>;
        static MADE: LazyLock<Made> = LazyLock::new(Mutex::default);
        let cell =
            MADE.lock().expect("no test panics with this lock").entry(self.name.clone()).or_default().clone();
        cell.get_or_init(|| self.make()).clone()
    }

    fn make(&self) -> Build {
        let builds = workspace().join("builds");
        std::fs::create_dir_all(&builds).expect("target/vm-tests can be made");
        let lock = File::create(builds.join(format!("{}.lock", self.name))).expect("a lock file can be made");
        lock.lock().expect("a lock file can be locked");
        let out = builds.join(&self.name);
        let mut args = vec!["build".to_owned(), "--out".to_owned(), out.display().to_string()];
        let binaries = target().join("release").display().to_string();
        let always = [("busybox", "examples"), ("probe", "tests")];
        let always = always.map(|(name, folder)| (name.to_owned(), image(name, folder)));
        for (name, layout) in always.iter().chain(&self.images) {
            args.extend(["--image".to_owned(), format!("{name}={}", layout.display())]);
        }
        args.extend(["--bin-dir".to_owned(), binaries, "--kernel".to_owned(), kernel()]);
        if let Some(version) = &self.version {
            args.extend(["--version".to_owned(), version.clone()]);
        }
        if let Some(config) = &self.config {
            let file = builds.join(format!("{}.yaml", self.name));
            std::fs::write(&file, config).expect("target/vm-tests can be written");
            args.extend(["--config".to_owned(), file.display().to_string()]);
        }
        for (name, file) in &self.binaries {
            args.extend(["--bin".to_owned(), format!("{name}={}", file.display())]);
        }
        for name in &self.broken {
            let file = builds.join("not-a-program");
            std::fs::write(&file, "not a program\n").expect("target/vm-tests can be written");
            args.extend(["--bin".to_owned(), format!("{name}={}", file.display())]);
        }
        image_build(&args.iter().map(String::as_str).collect::<Vec<_>>());
        Build { out }
    }
}

/// An image as an OCI layout, made of its definition in the `images` of a folder of the project.
pub fn image(name: &str, folder: &str) -> PathBuf {
    static MADE: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(layout) = made.get(name) {
        return layout.clone();
    }
    let builds = workspace().join("builds");
    std::fs::create_dir_all(&builds).expect("target/vm-tests can be made");
    let lock = File::create(builds.join(format!("{name}.lock"))).expect("a lock file can be made");
    lock.lock().expect("a lock file can be locked");
    let layout = builds.join(format!("{name}-image"));
    let definition = format!("{folder}/images/{name}.toml");
    image_build(&["image", &definition, "--out", &layout.display().to_string()]);
    made.insert(name.to_owned(), layout.clone());
    layout
}

/// A finished build.
#[derive(Clone, Debug)]
pub struct Build {
    out: PathBuf,
}

impl Build {
    /// The build that most tests boot: this version, with busybox baked in.
    pub fn standard() -> Self {
        Recipe::named("standard").build()
    }

    /// The directory with its artifacts.
    pub fn out(&self) -> &Path {
        &self.out
    }
}
