//! Desired state -> the plan of a generation and its bundles. Pure: what cannot be planned comes back as problems of
//! the configuration, at the line that asked for it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::Path;

use bundle::{Bundle, Input};
use config::container::{GivenContent, GivenFile, Mount, MountSource};
use config::{Desired, Network, Problem, Service};
use plan::container::IdRange;
use plan::{Condition, ContainerNetwork, Needs, Plan, Replaced, ServiceName, Shared};
use serde_json::Value;

use crate::containers::{self, Networks};
use crate::store::{OnNode, Place, Wish};

mod turns;

/// What a plan is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) desired: &'a Desired,
    /// Name of the configuration in problems.
    pub(crate) source: &'a str,
    pub(crate) hostname: &'a str,
    pub(crate) os_version: &'a str,
    pub(crate) images: &'a OnNode<'a>,
    pub(crate) seccomp: &'a Value,
    /// Certificate authorities that containers get.
    pub(crate) certificates: Option<&'a Path>,
    /// The plan and the container networks of the last generation, what of it runs, and the networks of the node's links.
    pub(crate) last: Option<&'a Plan>,
    pub(crate) before: &'a Networks,
    pub(crate) running: &'a BTreeSet<ServiceName>,
    pub(crate) taken: &'a [(Ipv4Addr, u8)],
    /// The service that the system adds for `bootcmd` and `runcmd`.
    pub(crate) commands: Option<&'a (ServiceName, Service)>,
}

/// Everything of a generation but its number.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) hostname: String,
    os_version: String,
    gate: plan::Gate,
    services: BTreeMap<ServiceName, (Bundle, Service)>,
    networks: Networks,
    /// Whose places services take, by their own names.
    replaced: BTreeMap<ServiceName, Replaced>,
    /// Images that were pulled, by their full names, and the digests that these stood for.
    pub(crate) images: BTreeMap<String, String>,
    /// The one of them that the system added: no boot fails for it.
    added: Option<ServiceName>,
}

/// Plans what is wanted.
pub(crate) fn draft(wanted: &Wanted<'_>) -> Result<Draft, Vec<Problem>> {
    turns::draft(wanted)
}

/// Plans the services by the names that they have, where those that are `leaving` still run for a while.
fn draft_as_named(wanted: &Wanted<'_>, leaving: &[ServiceName]) -> Result<Draft, Vec<Problem>> {
    let (mut services, mut images) = (BTreeMap::new(), BTreeMap::new());
    let mut problems = Vec::new();
    let added = wanted.commands.map(|(name, service)| (name, service));
    if let Some((name, service)) = added.filter(|(name, _)| wanted.desired.services.contains_key(*name)) {
        let message = format!("the commands run in a service called '{name}', and there is another one");
        let mark = Some(service.image.mark);
        problems.push(Problem::error(wanted.source, mark, "holdfast.compat.run_in", message));
    }
    let assigned = containers::assign(wanted.desired, wanted.before, leaving, wanted.taken, wanted.source);
    let networks = assigned.unwrap_or_else(|more| {
        problems.extend(more);
        containers::Draft::default()
    });
    // Who shares something of another service is made after that one, which shares nothing itself.
    let all = || wanted.desired.services.iter().chain(added);
    let ids = bundle::ranges(all().map(|(name, _)| name).chain(leaving));
    let shares = |service: &Service| matches!(service.network, Network::Of(_)) || service.joined().is_some();
    for (name, service) in all().filter(|(_, s)| !shares(s)).chain(all().filter(|(_, s)| shares(s))) {
        let digest =
            |other: &ServiceName| services.get(other).map(|(bundle, _): &(Bundle, _)| bundle.digest.clone());
        let network = networks.of(name, service, digest);
        let joined = service
            .joined()
            .map(|other| Shared { service: other.clone(), digest: digest(other).unwrap_or_default() });
        let shared = (network.as_ref(), joined.as_ref());
        let ids = ids[service.joined().unwrap_or(name)];
        match make(wanted, name, service, shared, ids, &mut images) {
            Ok(bundle) => drop(services.insert(name.clone(), (bundle, service.clone()))),
            Err(problem) => problems.push(problem),
        }
    }
    for (name, (_, service)) in &services {
        let healthy =
            service.depends_on.iter().filter(|(_, condition)| **condition == Condition::ServiceHealthy);
        for (needed, _) in healthy {
            if services.get(needed).is_some_and(|(Bundle { shim, .. }, _): &(Bundle, Service)| {
                shim.health.is_none() && shim.notify.is_none()
            }) {
                let message = format!("'{needed}' has no health check, so it can never be healthy");
                let (path, mark) = (format!("services.{name}.depends_on"), Some(service.image.mark));
                problems.push(Problem::error(wanted.source, mark, &path, message));
            }
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Draft {
        hostname: wanted.hostname.to_owned(),
        os_version: wanted.os_version.to_owned(),
        gate: wanted.desired.gate,
        services,
        networks: networks.networks,
        replaced: BTreeMap::new(),
        images,
        added: added.map(|(name, _)| name.clone()),
    })
}

impl Draft {
    /// The bundles by service.
    pub(crate) fn bundles(&self) -> impl Iterator<Item = (&ServiceName, &Bundle)> {
        self.services.iter().map(|(name, (bundle, _))| (name, bundle))
    }

    /// The container networks.
    pub(crate) fn networks(&self) -> &Networks {
        &self.networks
    }

    /// The plan, as generation `number` in its `directory`.
    pub(crate) fn plan(&self, number: u64, directory: &Path) -> Plan {
        let service = |(name, (bundle, service)): (&ServiceName, &(Bundle, Service))| {
            let planned = plan::Service {
                bundle: directory.join("bundles").join(name.as_str()),
                digest: bundle.digest.clone(),
                restart: service.restart,
                depends_on: service.depends_on.clone(),
                // What sees the host's own files and mounts waits until they are there.
                needs: Needs { network: service.network == Network::Host, machine: sees_machine(service) },
                stop_timeout_ms: u64::try_from(service.stop_grace_period.as_millis()).unwrap_or(u64::MAX),
                required: self.added.as_ref() != Some(name),
                replaces: self.replaced.get(name).cloned(),
            };
            (name.clone(), planned)
        };
        Plan {
            generation: number,
            os_version: self.os_version.clone(),
            hostname: self.hostname.clone(),
            gate: self.gate,
            services: self.services.iter().map(service).collect(),
        }
    }
}

/// Whether it sees files, mounts or devices of the node's own.
fn sees_machine(service: &Service) -> bool {
    let container = &service.container;
    let bind = |mount: &Mount| matches!(mount.source, MountSource::Bind { .. });
    let file = |file: &GivenFile| matches!(file.content, GivenContent::File(_));
    service.privileged
        || container.mounts.iter().any(bind)
        || container.files.iter().any(file)
        || !container.devices.is_empty()
}

fn make(
    wanted: &Wanted<'_>,
    name: &ServiceName,
    service: &Service,
    (network, joined): (Option<&ContainerNetwork>, Option<&Shared>),
    ids: IdRange,
    images: &mut BTreeMap<String, String>,
) -> Result<Bundle, Problem> {
    let added = wanted.commands.is_some_and(|(added, _)| added == name);
    let path = if added { "holdfast.compat.run_in".to_owned() } else { format!("services.{name}.image") };
    let wish = Wish::of(service)
        .map_err(|error| Problem::error(wanted.source, Some(service.image.mark), &path, error.to_string()))?;
    let found = wanted.images.find(&wish);
    let Some(Place { image, store, sealed }) = found else {
        return Err(wish.unfulfilled(wanted.images, wanted.source, service, &path));
    };
    if store == wanted.images.store.directory() {
        images.insert(wish.reference.to_string(), image.digest.clone());
    }
    let Wanted { seccomp, hostname, certificates, .. } = *wanted;
    let input =
        Input { name, service, image, store, sealed, seccomp, hostname, certificates, network, joined, ids };
    bundle::bundle(&input).map_err(|error| {
        let mark = Some(service.image.mark);
        Problem::error(wanted.source, mark, &format!("services.{name}.image"), error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use images::Image;

    use super::*;
    use crate::store::Store;

    fn images() -> images::Index {
        let config = images::Config { cmd: vec!["run".to_owned()], ..images::Config::default() };
        let image = Image { digest: String::new(), layers: Vec::new(), config };
        let named = Image {
            config: images::Config { user: Some("web".to_owned()), ..image.config.clone() },
            ..image.clone()
        };
        let images = [("docker.io/library/a:latest", image), ("docker.io/library/named:latest", named)];
        images::Index {
            images: images.into_iter().map(|(name, image)| (name.to_owned(), image)).collect(),
            ..images::Index::default()
        }
    }

    fn plan_of(services: &str, images: &images::Index) -> Result<Plan, Vec<String>> {
        plan_after(None, &[], services, images)
    }

    fn plan_after(
        last: Option<&Plan>,
        running: &[&str],
        services: &str,
        images: &images::Index,
    ) -> Result<Plan, Vec<String>> {
        Ok(draft_after(last, running, services, images)?.plan(7, Path::new("/g/7")))
    }

    fn draft_after(
        last: Option<&Plan>,
        running: &[&str],
        services: &str,
        images: &images::Index,
    ) -> Result<Draft, Vec<String>> {
        let text =
            format!("#cloud-config\nvolumes: {{v: }}\nconfigs: {{c: {{content: d}}}}\nservices:\n{services}");
        let (desired, problems) = config::check("f", text.as_bytes());
        let desired = desired.unwrap_or_else(|| panic!("{problems:#?}"));
        let store = Store::of_node();
        let on_node = OnNode { baked: images, store: &store, pulled: images::Index::default(), imports: &[] };
        let wanted = Wanted {
            desired: &desired,
            source: "f",
            hostname: "node",
            os_version: "1.2.3",
            images: &on_node,
            seccomp: &Value::Null,
            certificates: None,
            last,
            before: &Networks::default(),
            running: &running.iter().map(|name| ServiceName::new(*name).unwrap()).collect(),
            taken: &[],
            commands: None,
        };
        draft(&wanted).map_err(|problems| problems.iter().map(Problem::to_string).collect())
    }

    #[test]
    fn services_become_entries_of_the_plan() {
        let services = "  a: {image: a, network_mode: host, restart: always, stop_grace_period: 3s}\n  \
                        b: {image: 'a:latest', network_mode: none, depends_on: [a]}\n";
        let plan = plan_of(services, &images()).expect("a plan");
        assert_eq!((plan.generation, plan.hostname.as_str(), plan.os_version.as_str()), (7, "node", "1.2.3"));
        let [a, b] = plan.services.values().collect::<Vec<_>>()[..] else { panic!("two services") };
        assert_eq!(a.bundle, Path::new("/g/7/bundles/a"));
        assert_eq!((a.needs.network, b.needs.network), (true, false));
        assert_eq!((a.stop_timeout_ms, b.stop_timeout_ms), (3_000, 10_000));
        assert_eq!((a.restart, b.restart), (plan::Restart::Always, plan::Restart::No));
        assert_eq!(b.depends_on.len(), 1);
        assert_ne!(a.digest, b.digest);
    }

    #[test]
    fn what_the_node_cannot_run_is_said_at_its_line() {
        let services = "  a: {image: nowhere, network_mode: none, pull_policy: never}\n  b: {image: a, network_mode: none, user: web}\n  \
                        c: {image: named, network_mode: none, depends_on: {b: {condition: service_healthy}}}\n";
        let problems = plan_of(services, &images()).expect_err("problems");
        assert_eq!(
            problems[0],
            "error f:5:14 services.a.image: there is no image 'docker.io/library/nowhere:latest' on this node, and \
             'pull_policy: never' keeps it from being pulled (on this node are docker.io/library/a:latest, docker.io/library/named:latest)"
        );
        assert_eq!(
            problems[1],
            "error f:7:14 services.c.depends_on: 'b' has no health check, so it can never be healthy"
        );
        let none = plan_of("  a: {image: a, network_mode: none}\n", &images::Index::default());
        assert!(none.expect_err("problems")[0].contains("on this node are no images"));
        let odd =
            plan_of("  a: {image: 'a@sha256:00', network_mode: none}\n", &images()).expect_err("problems");
        assert!(odd[0].contains("a digest is sha256: and 64 hex digits"), "{odd:?}");
    }

    #[test]
    fn who_joins_a_container_has_its_ids_and_is_another_when_it_is() {
        let bundles = |user: &str| {
            let services =
                format!("  a: {{image: a, pid: 'service:b'}}\n  b: {{image: a, user: '{user}'}}\n");
            let draft = draft_after(None, &[], &services, &images()).expect("a draft");
            let of = |name: &str| draft.services[&ServiceName::new(name).unwrap()].0.clone();
            (of("a"), of("b"))
        };
        let (a, b) = bundles("1");
        assert_eq!(a.shim.ids, b.shim.ids);
        assert_eq!(
            a.shim.joined.map(|joined| (joined.of.digest, joined.pid, joined.ipc)),
            Some((b.digest, true, false))
        );
        assert_ne!(bundles("2").0.digest, a.digest);
    }

    #[test]
    fn a_new_container_that_comes_first_has_the_other_name() {
        let of = |last: Option<&Plan>, running: &[&str], more: &str| {
            let service = format!(
                "  b: {{image: a, depends_on: [a]}}\n  a: {{image: a, deploy: {{update_config: {{order: start-first}}}}, {more}}}\n"
            );
            plan_after(last, running, &service, &images()).expect("a plan")
        };
        let said = |plan: &Plan| {
            let names: Vec<String> = plan.services.keys().map(ToString::to_string).collect();
            let needed: Vec<String> = plan.services[&ServiceName::new("b").unwrap()]
                .depends_on
                .keys()
                .map(ToString::to_string)
                .collect();
            assert_eq!(needed[0], names.iter().find(|name| *name != "b").unwrap().as_str());
            let replaced = plan.services.iter().find_map(|(_, service)| service.replaces.as_ref());
            let replaced = replaced.map(|replaced| format!("{} {:?}", replaced.service, replaced.when));
            (names.join(" "), replaced.unwrap_or_default())
        };
        let is = |names: &str, replaced: &str| (names.to_owned(), replaced.to_owned());
        let first = of(None, &[], "");
        assert_eq!(said(&first), is("a b", ""));
        assert_eq!(said(&of(Some(&first), &["a", "b"], "")), is("a b", ""), "nothing changes");
        let second = of(Some(&first), &["a", "b"], "user: '1'");
        assert_eq!(said(&second), is("a-2 b", "a ServiceStarted"));
        // As long as it is not known to work, whoever it replaces is not forgotten.
        assert_eq!(said(&of(Some(&second), &["a", "a-2", "b"], "user: '1'")), said(&second));
        // When it does not work, it makes way itself.
        assert_eq!(said(&of(Some(&second), &["a", "b"], "user: '2'")), is("a-2 b", "a ServiceStarted"));
        let third = of(Some(&second), &["a-2", "b"], "user: '2', healthcheck: {test: 'true'}");
        assert_eq!(said(&third), is("a b", "a-2 ServiceHealthy"));
        // Nothing runs, as at a boot of another release.
        assert_eq!(said(&of(Some(&second), &[], "user: '1'")).0, "a-2 b");
    }

    #[test]
    fn holdfast_plan_says_of_each_key_what_a_node_does() {
        let digest = |keys: &str| {
            let others = "b: {image: a, network_mode: none}";
            let service = format!("  a: {{image: a, network_mode: none, {keys}}}\n  {others}\n");
            plan_of(&service, &images()).expect("a plan").services.into_values().next().expect("a").digest
        };
        for (key, value) in [
            ("attach", "true"),
            ("depends_on", "[b]"),
            ("restart", "always"),
            ("stop_grace_period", "1s"),
            ("command", "other"),
            ("entrypoint", "other"),
            ("environment", "{A: b}"),
            ("logging", "{driver: console}"),
            ("pid", "host"),
            ("privileged", "true"),
            ("pull_policy", "never"),
            ("user", "'1'"),
            ("working_dir", "/tmp"),
            ("cap_add", "[SYS_TIME]"),
            ("configs", "[c]"),
            ("group_add", "[1]"),
            ("healthcheck", "{test: 'true'}"),
            ("hostname", "b"),
            ("labels", "{a: b}"),
            ("mem_limit", "64m"),
            ("read_only", "true"),
            ("stdin_open", "true"),
            ("stop_signal", "QUIT"),
            ("tty", "true"),
            ("tmpfs", "/tmp"),
            ("volumes", "['v:/v']"),
        ] {
            let restarts = digest("") != digest(&format!("{key}: {value}"));
            assert_eq!(restarts, !config::WITHOUT_RESTART.contains(&key), "{key}");
        }
        let digest = |keys: &str| {
            let service = format!("  a: {{image: a, {keys}}}\n");
            plan_of(&service, &images()).expect("a plan").services.into_values().next().expect("a").digest
        };
        for (key, value) in [
            ("dns", "192.0.2.53"),
            ("dns_opt", "[timeout:1]"),
            ("dns_search", "example.com"),
            ("expose", "[80]"),
            ("extra_hosts", "['db:192.0.2.7']"),
            ("network_mode", "host"),
            ("ports", "['80:80']"),
        ] {
            let restarts = digest("") != digest(&format!("{key}: {value}"));
            assert_eq!(restarts, !config::WITHOUT_RESTART.contains(&key), "{key}");
        }
    }
}
