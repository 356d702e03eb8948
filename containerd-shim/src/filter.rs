//! The container's filter on system calls. It is loaded by the process that becomes the container's, as the last thing
//! before its program: whatever the shim and libcontainer still call must not be in the filter's way.

use oci_spec::runtime::{Capabilities, Capability, Spec};
use seccomp::Filter;

/// Takes the filter out of `spec`: libcontainer has no use for it, and it is the longest part by far.
///
/// Without the bit against new privileges, loading a filter takes a privilege: it is kept until the program is executed,
/// which ends it, as it is not in the bounding set (capabilities(7), "Transformation of capabilities during execve()").
pub(crate) fn take(spec: &mut Spec) -> Result<Option<Filter>, seccomp::Error> {
    let Some(linux) = spec.linux_mut().as_mut() else { return Ok(None) };
    let Some(profile) = linux.seccomp().as_ref() else { return Ok(None) };
    let filter = Filter::new(profile)?;
    linux.set_seccomp(None);
    let Some(process) = spec.process_mut().as_mut() else { return Ok(Some(filter)) };
    if process.no_new_privileges() != Some(true)
        && let Some(mut held) = process.capabilities().clone()
    {
        let with_it = |set: &Option<Capabilities>| {
            let mut set = set.clone().unwrap_or_default();
            set.insert(Capability::SysAdmin);
            Some(set)
        };
        let (effective, permitted) = (with_it(held.effective()), with_it(held.permitted()));
        held.set_effective(effective).set_permitted(permitted);
        process.set_capabilities(Some(held));
    }
    Ok(Some(filter))
}
