//! Several containers of one service.
//!
//! The first has the service's name; the others have a number behind it, from 2 on. So another number of replicas starts and
//! stops only those that come and go. All are found by the service's name.

use std::collections::BTreeMap;

use plan::ServiceName;
use userdata::At;

use super::Release;
use crate::Config;
use crate::compose;
use crate::container::MountSource;
use crate::container_network::Network;
use crate::desired::Service;

/// How many containers a service has.
pub(crate) fn count(service: &compose::Service) -> usize {
    service.replicas.map_or(1, |replicas| usize::try_from(replicas).unwrap_or_default())
}

/// The names of its containers; one that would be too long is left out.
pub(crate) fn names(name: &ServiceName, service: &compose::Service) -> impl Iterator<Item = ServiceName> {
    let numbered = move |number| if number == 1 { name.to_string() } else { format!("{name}-{number}") };
    (1..=count(service)).filter_map(move |number| ServiceName::new(numbered(number)).ok())
}

impl Release {
    /// The containers of a service whose first is `first`; `None` when there cannot be so many.
    pub(super) fn replicas(
        &self,
        at: &At<'_>,
        name: &ServiceName,
        service: &compose::Service,
        config: &Config,
        first: Service,
    ) -> Option<Vec<(ServiceName, Service)>> {
        let key = at.get("deploy").and_then(|deploy| deploy.get("replicas")).or_else(|| at.get("scale"));
        let key = key.unwrap_or_else(|| at.clone());
        let mut whole = true;
        let mut refuse = |message: &str, hint: &str| {
            self.refuse(&key, key.node.mark, message, hint);
            whole = false;
        };
        if count(service) > 1 {
            if matches!(first.network, Network::Own(_)) && !first.reach.published.is_empty() {
                let hint = "publish one of a service in front of them, which finds them by name";
                refuse("a port of the node leads to one container, and these are several", hint);
            }
            if first.reach.container_name.is_some() {
                refuse("several containers cannot have the one name of 'container_name'", "remove it");
            }
            if let Network::Own(networks) = &first.network
                && networks.iter().any(|membership| membership.address.is_some())
            {
                refuse("several containers cannot have the one address of 'ipv4_address'", "remove it");
            }
        }
        let mut all = Vec::new();
        for replica in names(name, service) {
            if replica != *name && config.project.services.contains_key(&replica) {
                refuse(&format!("a replica would be called '{replica}', as another service is"), "");
            }
            all.push((replica.clone(), named(&first, name, &replica)));
        }
        if all.len() < count(service) {
            refuse("with a number behind it, the service's name is too long", "");
        }
        whole.then_some(all)
    }
}

/// The service `first`, called `name`, as its replica `replica`.
pub(super) fn named(first: &Service, name: &ServiceName, replica: &ServiceName) -> Service {
    let mut service = first.clone();
    if name == replica {
        return service;
    }
    if let Network::Own(networks) = &mut service.network {
        for membership in networks {
            membership.aliases.push(name.to_string());
        }
    }
    // Volumes without a name are each container's own.
    let nameless = format!("_{name}-");
    for mount in &mut service.container.mounts {
        if let MountSource::Volume { name, .. } = &mut mount.source
            && let Some(rest) = name.strip_prefix(&nameless)
        {
            *name = format!("_{replica}-{rest}");
        }
    }
    service
}

/// Who waits for a service waits for all of its containers.
pub(super) fn wait_for_all(services: &mut BTreeMap<ServiceName, Service>, config: &Config) {
    for service in services.values_mut() {
        let named = std::mem::take(&mut service.depends_on);
        for (name, condition) in named {
            let replicas = config.project.services.get(&name).map(|needed| names(&name, needed));
            let replicas = replicas.into_iter().flatten();
            service.depends_on.extend(replicas.map(|replica| (replica, condition)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Desired;

    fn checked(services: &str) -> (Option<Desired>, Vec<String>) {
        let (desired, problems) =
            crate::check("f", format!("#cloud-config\nservices:\n{services}").as_bytes());
        (desired, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn replicas_are_services_that_are_found_by_one_name() {
        let (desired, problems) =
            checked("  a: {image: i, depends_on: [web]}\n  web: {image: i, scale: 3, volumes: [/data]}\n");
        let desired = desired.unwrap_or_else(|| panic!("{problems:#?}"));
        let names: Vec<_> = desired.services.keys().map(ServiceName::as_str).collect();
        assert_eq!(names, ["a", "web", "web-2", "web-3"]);
        let waits: Vec<_> = desired.services.values().map(|service| service.depends_on.len()).collect();
        assert_eq!(waits, [3, 0, 0, 0]);
        let of = |name: &str| &desired.services[&ServiceName::new(name).expect("a name")];
        let Network::Own(networks) = &of("web-2").network else { panic!("it has a network") };
        assert_eq!(networks[0].aliases, ["web"]);
        let volume = |name: &str| match &of(name).container.mounts[0].source {
            MountSource::Volume { name, .. } => name.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!((volume("web"), volume("web-2")), ("_web-data".to_owned(), "_web-2-data".to_owned()));
    }

    #[test]
    fn what_only_one_can_have_is_refused_for_several() {
        let long = "a".repeat(62);
        for (services, expected) in [
            ("  a: {image: i, scale: 2, ports: ['80:80']}\n", "a port of the node leads to one container"),
            ("  a: {image: i, scale: 2}\n  a-2: {image: i}\n", "a replica would be called 'a-2'"),
            ("  a: {image: i, scale: 0}\n  b: {image: i, depends_on: [a]}\n", "'a' has no replicas"),
            (
                "  a: {image: i, scale: 0}\n  b: {image: i, network_mode: 'service:a'}\n",
                "'a' has no replicas",
            ),
            (&format!("  {long}: {{image: i, scale: 2}}\n"), "the service's name is too long"),
        ] {
            let (desired, problems) = checked(services);
            assert!(
                desired.is_none() && problems.iter().any(|p| p.contains(expected)),
                "{services}{problems:#?}"
            );
        }
        let (desired, problems) =
            checked("  a: {image: i, scale: 2, network_mode: host, ports: ['80:80']}\n");
        assert!(desired.is_some(), "{problems:#?}");
    }
}
