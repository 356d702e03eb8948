//! The container's filter on system calls. It is loaded by the process that becomes the container's, as the last thing
//! before its program: whatever the shim and libcontainer still call must not be in the filter's way.

use std::io;

use oci_spec::runtime::{Capabilities, Capability, Spec};
use seccomp::Filter;

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilterError {
    #[error("the seccomp profile is no filter")]
    Profile(#[from] seccomp::Error),
    #[error("cannot load the filter on system calls")]
    Load(#[from] io::Error),
}

/// Puts the filter of `spec` over this process.
pub(crate) fn load(spec: &Spec) -> Result<(), FilterError> {
    match spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) {
        Some(profile) => Ok(Filter::new(profile)?.load()?),
        None => Ok(()),
    }
}

/// Without the bit against new privileges, loading a filter takes a privilege: it is kept until the program is executed,
/// which ends it, as it is not in the bounding set (capabilities(7), "Transformation of capabilities during execve()").
/// Says whether that changed `spec`.
pub(crate) fn prepare(spec: &mut Spec) -> bool {
    let has_filter = spec.linux().as_ref().is_some_and(|linux| linux.seccomp().is_some());
    let Some(process) = spec.process_mut().as_mut().filter(|_| has_filter) else { return false };
    if process.no_new_privileges() == Some(true) {
        return false;
    }
    let Some(mut held) = process.capabilities().clone() else { return false };
    let with_it = |set: &Option<Capabilities>| {
        let mut set = set.clone().unwrap_or_default();
        set.insert(Capability::SysAdmin);
        Some(set)
    };
    let (effective, permitted) = (with_it(held.effective()), with_it(held.permitted()));
    held.set_effective(effective).set_permitted(permitted);
    process.set_capabilities(Some(held));
    true
}
