//! Services that share the processes (`pid`) or the memory (`ipc`) of another one, or of the node.
//!
//! The kernel lets only the owner of such a namespace mount what shows it, so who joins another container has its users, too.

use std::collections::BTreeMap;

use plan::ServiceName;
use userdata::{At, Located};

use super::not_supported;
use crate::compose;
use crate::container::{Namespace, UserNamespace};

/// What `pid` or `ipc` says; `words` are what it may say.
pub(super) fn namespace(mode: &Option<Located<String>>, words: &[&str]) -> Result<Namespace, String> {
    match mode.as_ref().map(|mode| mode.value.as_str()) {
        None => Ok(Namespace::Own),
        Some("host") => Ok(Namespace::Node),
        Some(other) => other
            .strip_prefix("service:")
            .and_then(|name| ServiceName::new(name).ok())
            .map(Namespace::Of)
            .ok_or_else(|| not_supported(other, words)),
    }
}

/// The services that a service shares something with, by the key that says so.
pub(crate) fn targets(service: &compose::Service) -> impl Iterator<Item = (&'static str, ServiceName)> {
    let keys = [("network_mode", &service.network_mode), ("pid", &service.pid), ("ipc", &service.ipc)];
    keys.into_iter().filter_map(|(key, mode)| {
        let name = mode.as_ref()?.value.strip_prefix("service:")?;
        Some((key, ServiceName::new(name).ok()?))
    })
}

/// Whether the users of a service are the node's.
pub(super) fn has_node_ids(
    service: &compose::Service,
    services: &BTreeMap<ServiceName, compose::Service>,
) -> bool {
    let of_itself = |service: &compose::Service| match service.container.user_namespace {
        Some(namespace) => namespace == UserNamespace::Host,
        None => {
            let modes = [&service.network_mode, &service.pid, &service.ipc];
            service.privileged || modes.into_iter().flatten().any(|mode| mode.value == "host")
        }
    };
    // One step is enough, as whoever is joined joins nobody.
    let mut joined = targets(service).filter(|(key, _)| *key != "network_mode");
    of_itself(service) || joined.any(|(_, other)| services.get(&other).is_some_and(of_itself))
}

/// Refuses what shares with a service that has nothing of its own to share, and what would have the users of two.
pub(super) fn refuse_chains(root: &At<'_>, services: &BTreeMap<ServiceName, compose::Service>) {
    for (name, service) in services {
        let Some(at) = root.get("services").and_then(|at| at.get(name.as_str())) else { continue };
        for (key, other) in targets(service) {
            let Some(shared) = services.get(&other) else { continue };
            let shares = |theirs: &str| match theirs {
                // This is said with the networks.
                "network_mode" => key != "network_mode",
                _ => true,
            };
            let chain = targets(shared).find(|(theirs, _)| shares(theirs));
            let node = [("pid", &shared.pid), ("ipc", &shared.ipc)].into_iter().find(|(theirs, mode)| {
                *theirs == key && mode.as_ref().is_some_and(|mode| mode.value == "host")
            });
            let at = at.get(key).unwrap_or_else(|| at.clone());
            if let Some((theirs, third)) = chain {
                let message = format!("'{other}' shares with '{third}' itself, by its '{theirs}'");
                at.error_with_hint(message, &format!("name '{third}', or let '{other}' share nothing"));
            } else if node.is_some() {
                let message = format!("'{other}' has none of its own to share: it has the node's");
                at.error_with_hint(message, "name 'host' itself");
            }
        }
        let mut joined = targets(service).filter(|(key, _)| *key != "network_mode");
        if let (Some((_, one)), Some((key, other))) = (joined.next(), joined.next())
            && one != other
        {
            let at = at.get(key).unwrap_or_else(|| at.clone());
            at.error(format!("it cannot have the users of '{one}' and of '{other}', as sharing both takes"));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::desired::Desired;

    fn checked(services: &str) -> (Option<Desired>, Vec<String>) {
        let text = format!("#cloud-config\nservices:\n{services}");
        let (desired, problems) = crate::check("f", text.as_bytes());
        (desired, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn who_joins_a_container_waits_for_it_and_has_its_users() {
        let users = |services: &str| {
            let (desired, problems) = checked(services);
            let desired = desired.unwrap_or_else(|| panic!("{problems:#?}"));
            let a = desired.services.values().next().expect("a service");
            (a.joined().map(ToString::to_string), a.depends_on.len(), a.own_ids())
        };
        let b = || Some("b".to_owned());
        assert_eq!(users("  a: {image: i, pid: 'service:b'}\n  b: {image: i}\n"), (b(), 1, true));
        assert_eq!(
            users("  a: {image: i, ipc: 'service:b'}\n  b: {image: i, userns_mode: host}\n"),
            (b(), 1, false)
        );
        assert_eq!(users("  a: {image: i, ipc: 'service:b'}\n  b: {image: i, pid: host}\n"), (b(), 1, false));
        assert_eq!(
            users("  a: {image: i, privileged: true, pid: 'service:b', ipc: 'service:b'}\n  b: {image: i}\n"),
            (b(), 1, false)
        );
        assert_eq!(users("  a: {image: i, ipc: host}\n"), (None, 0, false));
        assert_eq!(users("  a: {image: i, ipc: shareable}\n"), (None, 0, true));
    }

    #[test]
    fn what_cannot_be_shared_is_refused() {
        for (services, expected) in [
            ("  a: {image: i, pid: 'service:b'}\n", "pid: there is no service 'b'"),
            ("  a: {image: i, ipc: 'container:b'}\n", "the container 'b' is not one of the node's services"),
            ("  a: {image: i, ipc: none}\n", "'none' is not supported"),
            ("  a: {image: i, pid: 'service:a'}\n", "a"),
            (
                "  a: {image: i, pid: 'service:b'}\n  b: {image: i, ipc: 'service:c'}\n  c: {image: i}\n",
                "a.pid: 'b' shares with 'c' itself, by its 'ipc'",
            ),
            (
                "  a: {image: i, network_mode: 'service:b'}\n  b: {image: i, ipc: 'service:c'}\n  c: {image: i}\n",
                "a.network_mode: 'b' shares with 'c' itself, by its 'ipc'",
            ),
            (
                "  a: {image: i, pid: 'service:b'}\n  b: {image: i, network_mode: 'service:c'}\n  c: {image: i}\n",
                "a.pid: 'b' shares with 'c' itself, by its 'network_mode'",
            ),
            ("  a: {image: i, ipc: 'service:b'}\n  b: {image: i, ipc: host}\n", "it has the node's"),
            (
                "  a: {image: i, ipc: 'service:b', pid: 'service:c'}\n  b: {image: i}\n  c: {image: i}\n",
                "a.ipc: it cannot have the users of 'c' and of 'b'",
            ),
            (
                "  a: {image: i, ipc: 'service:b', userns_mode: private}\n  b: {image: i}\n",
                "a.userns_mode: who is privileged has the node's users, who shares",
            ),
            (
                "  a: {image: i, ipc: 'service:b', sysctls: {kernel.shmmax: 1}}\n  b: {image: i}\n",
                "'kernel.shmmax' would change the memory of 'service:b'",
            ),
        ] {
            let (desired, problems) = checked(services);
            let said = problems.iter().any(|problem| problem.contains(expected));
            assert!(desired.is_none() && said, "{services}{problems:#?}");
        }
        let (desired, problems) = checked("  a: {image: i, ipc: host, shm_size: 1g}\n");
        assert!(desired.is_some() && problems[0].contains("shm_size: has no effect"), "{problems:#?}");
    }
}
