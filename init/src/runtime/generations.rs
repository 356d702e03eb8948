//! Finds the plan to run among the generations on the state partition.

use std::path::{Path, PathBuf};

use plan::{Plan, ReadError};
use slots::RootHash;

/// A plan that cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is another generation's.
    #[error("{path} is the plan of generation {found}, not {wanted}")]
    OtherGeneration {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: u64,
        /// What it should be.
        wanted: u64,
    },
}

/// The plan that was last accepted by this release, else by any; `None` when there never was one. Plans that cannot
/// be read are passed over with `complain`.
pub(super) fn last_committed(
    generations: &Path,
    root_hash: RootHash,
    mut complain: impl FnMut(&Error),
) -> Option<Plan> {
    let links = [format!("current-{root_hash}"), "current".to_owned()];
    links
        .iter()
        .map(|link| generations.join(link).join("plan.json"))
        .filter(|path| path.exists())
        .find_map(|path| plan::read_json(&path).map_err(|error| complain(&error.into())).ok())
}

/// The plan of one generation.
pub(super) fn read(generations: &Path, number: u64) -> Result<Plan, Error> {
    let path = generations.join(number.to_string()).join("plan.json");
    let plan: Plan = plan::read_json(&path)?;
    if plan.generation == number {
        Ok(plan)
    } else {
        Err(Error::OtherGeneration { path, found: plan.generation, wanted: number })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    const HASH: RootHash = RootHash([7; 32]);

    fn write(generations: &Path, number: u64) {
        let plan = Plan {
            generation: number,
            os_version: "1".to_owned(),
            hostname: "node".to_owned(),
            gate: plan::Gate::default(),
            services: BTreeMap::new(),
        };
        let directory = generations.join(number.to_string());
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("plan.json"), serde_json::to_vec(&plan).unwrap()).unwrap();
    }

    #[test]
    fn the_last_plan_of_this_release_comes_before_that_of_another() {
        let directory = tempfile::tempdir().unwrap();
        let complaints = &mut 0;
        let mut last = || last_committed(directory.path(), HASH, |_| *complaints += 1).map(|p| p.generation);
        assert_eq!(last(), None);
        for (number, link) in [(1, "current".to_owned()), (2, format!("current-{HASH}"))] {
            write(directory.path(), number);
            symlink(number.to_string(), directory.path().join(link)).unwrap();
            assert_eq!(last(), Some(number));
        }
        fs::write(directory.path().join("2/plan.json"), "garbage").unwrap();
        assert_eq!(last(), Some(1), "a damaged plan is passed over");
        assert_eq!(*complaints, 1);
    }

    #[test]
    fn a_generation_must_be_what_it_is_called() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), 1);
        assert_eq!(read(directory.path(), 1).unwrap().generation, 1);
        fs::rename(directory.path().join("1"), directory.path().join("3")).unwrap();
        let error = read(directory.path(), 3).unwrap_err();
        assert!(matches!(error, Error::OtherGeneration { found: 1, wanted: 3, .. }));
        assert!(matches!(read(directory.path(), 9), Err(Error::Read(_))));
    }
}
