//! Services whose new container works before the old one is stopped (`deploy.update_config.order: start-first`).
//!
//! For a while there are two. The one has the service's name, the other that of a second replica; which of them is which
//! changes with each new container, so that neither needs a third name. Both are found by the service's name.

use std::collections::BTreeMap;

use plan::ServiceName;
use userdata::At;

use super::{Release, joins, replicas};
use crate::Config;
use crate::container::{Mount, MountSource};
use crate::container_network::Network;
use crate::desired::{Desired, Service};

/// The name of a service's other container.
fn other(name: &ServiceName) -> Option<ServiceName> {
    ServiceName::new(format!("{name}-2")).ok()
}

impl Release {
    /// Whether a service can have two containers for a while. Says why not.
    pub(super) fn may_start_first(
        &self,
        at: &At<'_>,
        name: &ServiceName,
        config: &Config,
        service: &Service,
    ) -> bool {
        let order = at.get("deploy").and_then(|deploy| deploy.get("update_config")?.get("order"));
        let order = order.unwrap_or_else(|| at.clone());
        let mut fits = true;
        let mut refuse = |why: String| {
            let message = format!("it cannot have a new container before the old one is stopped: {why}");
            self.refuse(&order, order.node.mark, &message, "remove 'order', or this");
            fits = false;
        };
        let services = &config.project.services;
        if services.get(name).is_some_and(|service| replicas::count(service) != 1) {
            refuse("it has several".to_owned());
        }
        match other(name) {
            Some(other) if services.contains_key(&other) => {
                refuse(format!("the second one would be called '{other}', as another service is"));
            }
            None => refuse("with '-2' behind it, its name is too long".to_owned()),
            Some(_) => {}
        }
        if !service.reach.published.is_empty() {
            refuse("a port of the node leads to one container".to_owned());
        }
        if service.reach.container_name.is_some() {
            refuse("two cannot have the one name of 'container_name'".to_owned());
        }
        match &service.network {
            Network::Own(networks) if networks.iter().any(|network| network.address.is_some()) => {
                refuse("two cannot have the one address of 'ipv4_address'".to_owned());
            }
            Network::Of(other) => refuse(format!("both would listen at the ports of '{other}'")),
            _ => {}
        }
        for mount in service.container.mounts.iter().filter(|mount| is_shared(mount, name)) {
            refuse(format!("both would write to {}", mount.target));
        }
        let inside =
            services.iter().find(|(_, service)| joins::targets(service).any(|(_, other)| other == *name));
        if let Some((inside, _)) = inside {
            refuse(format!("'{inside}' shares what is its own"));
        }
        fits
    }
}

/// Whether a service's containers would write to the same files. Volumes without a name are each one's own.
fn is_shared(mount: &Mount, service: &ServiceName) -> bool {
    let shared = match &mount.source {
        MountSource::Volume { name, .. } => !name.starts_with(&format!("_{service}-")),
        MountSource::Bind { .. } => true,
        MountSource::Tmpfs { .. } => false,
    };
    shared && !mount.read_only
}

impl Desired {
    /// The two names of the containers of each service that has its new one first.
    pub fn turns(&self) -> impl Iterator<Item = (&ServiceName, ServiceName)> {
        let first = self.services.iter().filter(|(_, service)| service.start_first);
        first.filter_map(|(name, _)| Some((name, other(name)?)))
    }

    /// The same, where those services have the other one of their names.
    pub fn in_turn<'a>(&self, others: impl IntoIterator<Item = &'a ServiceName>) -> Self {
        let others: BTreeMap<&ServiceName, ServiceName> =
            others.into_iter().filter_map(|name| Some((name, other(name)?))).collect();
        let mut turned = self.clone();
        for (name, other) in &others {
            if let Some(service) = turned.services.remove(*name) {
                turned.services.insert(other.clone(), replicas::named(&service, name, other));
            }
        }
        for service in turned.services.values_mut() {
            let needed = std::mem::take(&mut service.depends_on);
            let renamed = |name: ServiceName| others.get(&name).cloned().unwrap_or(name);
            service.depends_on = needed.into_iter().map(|(name, when)| (renamed(name), when)).collect();
        }
        turned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(services: &str) -> (Option<Desired>, Vec<String>) {
        let services = services.replace("FIRST", "deploy: {update_config: {order: start-first}}");
        let text = format!("#cloud-config\nvolumes: {{v: }}\nservices:\n{services}");
        let (desired, problems) = crate::check("f", text.as_bytes());
        (desired, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn its_containers_take_turns_with_two_names() {
        let (desired, problems) = checked(
            "  a: {image: i, depends_on: [web]}\n  web: {image: i, FIRST, volumes: [/data, 'v:/v:ro']}\n",
        );
        let desired = desired.unwrap_or_else(|| panic!("{problems:#?}"));
        let name = |name: &str| ServiceName::new(name).expect("a name");
        assert_eq!(desired.turns().collect::<Vec<_>>(), [(&name("web"), name("web-2"))]);
        let turned = desired.in_turn([&name("web")]);
        let names: Vec<_> = turned.services.keys().map(ServiceName::as_str).collect();
        assert_eq!(names, ["a", "web-2"]);
        assert!(turned.services[&name("a")].depends_on.contains_key(&name("web-2")));
        let Network::Own(networks) = &turned.services[&name("web-2")].network else { panic!("a network") };
        assert_eq!(networks[0].aliases, ["web"]);
        assert_eq!(desired.in_turn([]), desired);
    }

    #[test]
    fn what_two_cannot_have_is_refused() {
        for (services, expected) in [
            ("  a: {image: i, FIRST, ports: ['80:80']}\n", "a port of the node"),
            ("  a: {image: i, FIRST, network_mode: host, ports: ['80:80']}\n", "a port of the node"),
            ("  a: {image: i, FIRST, container_name: b}\n", "'container_name'"),
            ("  a: {image: i, FIRST, volumes: ['v:/v']}\n", "both would write to /v"),
            ("  a: {image: i, FIRST, volumes: ['/srv:/v']}\n", "both would write to /v"),
            ("  a: {image: i, scale: 2, FIRST}\n", "it has several"),
            ("  a: {image: i, FIRST}\n  a-2: {image: i}\n", "called 'a-2'"),
            (
                "  a: {image: i, FIRST}\n  b: {image: i, network_mode: 'service:a'}\n",
                "'b' shares what is its own",
            ),
            ("  a: {image: i, FIRST, network_mode: 'service:b'}\n  b: {image: i}\n", "at the ports of 'b'"),
        ] {
            let (desired, problems) = checked(services);
            let said = problems.iter().any(|p| p.contains(expected) && p.contains("update_config.order"));
            assert!(desired.is_none() && said, "{services}{problems:#?}");
        }
        let (desired, problems) = checked("  a: {image: i, FIRST, network_mode: host}\n");
        assert!(desired.is_some(), "{problems:#?}");
    }
}
