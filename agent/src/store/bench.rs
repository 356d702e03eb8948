//! What a pull costs: `bench/pull` runs these by themselves and reads off what their process has used.

use std::env;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use images::{Hashing, Reference, Sealed};

use super::{Pulling, Store, layer};

fn given(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("bench/pull gives {name}"))
}

fn digest(from: impl Read) -> io::Result<String> {
    let mut from = Hashing::new(from);
    let mut buffer = vec![0; 1 << 17];
    while from.read(&mut buffer)? > 0 {}
    Ok(from.digest())
}

/// Hashes as much as fs-verity does, which is not everywhere where something is to be measured.
fn seal(path: &Path) -> io::Result<Sealed> {
    Ok(Sealed { verity: digest(File::open(path)?)?, size: fs::metadata(path)?.len() })
}

fn no_seal(path: &Path) -> io::Result<Sealed> {
    Ok(Sealed { verity: String::new(), size: fs::metadata(path)?.len() })
}

#[test]
fn pull() {
    let reference = Reference::parse(&given("BENCH_IMAGE")).unwrap();
    let store = Store {
        directory: PathBuf::from(given("BENCH_STORE")),
        seal: if given("BENCH_SEAL") == "yes" { seal } else { no_seal },
        measure: |file| digest(file),
        free: layer::free,
    };
    let registry = config::Registry { insecure: vec![reference.host.clone()], ..config::Registry::default() };
    let image = Pulling::new(&store, &registry, Some(&"/dev/null".into())).image(&reference).unwrap();
    assert_eq!(store.index().layers.len(), image.layers.len());
}

/// The least that there is to do: to hash the blobs, to unpack them, and to hash what comes out.
#[test]
fn check() {
    for path in given("BENCH_BLOBS").split(':') {
        let blob = || BufReader::with_capacity(1 << 17, File::open(path).unwrap());
        digest(blob()).unwrap();
        digest(MultiGzDecoder::new(blob())).unwrap();
    }
}
