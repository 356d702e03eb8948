//! Azure: a disk with `ovf-env.xml` (at the first boot), the metadata service, and the report that the node is up.
//!
//! Without that report the platform takes the deployment for failed after a while, and may not let traffic in.
//! <https://learn.microsoft.com/azure/virtual-machines/linux/create-upload-generic> and
//! <https://learn.microsoft.com/azure/virtual-machines/linux/no-agent> (the report),
//! <https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service>

use std::thread;
use std::time::{Duration, Instant};

use roxmltree::Document;
use serde::Deserialize;

use super::service::{ADDRESS, Ask, Instance, SourceError, Until, from_base64, from_json};
use super::{Datasource, Found};
use crate::console;
use crate::http::{Client, Limits, Pairs};

/// The platform's own server, whose address is the same everywhere.
const WIRE_SERVER: &str = "http://168.63.129.16";

/// Its protocol's version.
const WIRE_HEADERS: Pairs<'static> = &[("x-ms-version", "2012-11-30"), ("x-ms-agent-name", "holdfast")];

/// How long the report may take, and how long after one that failed comes the next, at most.
const REPORT_LIMIT: Duration = Duration::from_secs(120);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// `ovf-env.xml`, what is used of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Environment {
    hostname: Option<String>,
    custom_data: Option<Vec<u8>>,
    keys: Vec<String>,
}

impl Environment {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, SourceError> {
        const NAME: &str = "ovf-env.xml";
        let text = String::from_utf8_lossy(bytes);
        let document = xml(NAME, &text)?;
        let all = |name: &'static str| {
            let nodes = document.descendants().filter(move |node| node.tag_name().name() == name);
            nodes.filter_map(|node| node.text().map(str::trim)).filter(|text| !text.is_empty())
        };
        if !document.descendants().any(|node| node.tag_name().name() == "ProvisioningSection") {
            return Err(SourceError::Lacks { document: NAME.to_owned(), what: "ProvisioningSection" });
        }
        // Which of the two names is used has changed over time.
        let custom_data = all("CustomData").chain(all("UserData")).next();
        Ok(Self {
            hostname: all("HostName").next().map(str::to_owned),
            custom_data: custom_data.map(|text| from_base64(NAME, text)).transpose()?,
            // Others are named by a fingerprint, and would have to be asked for with a certificate of one's own.
            keys: all("Value").filter(|value| value.contains(' ')).map(str::to_owned).collect(),
        })
    }
}

/// `metadata/instance`, what is used of it.
#[derive(Debug, Deserialize)]
struct Metadata {
    compute: Compute,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Compute {
    vm_id: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    os_profile: OsProfile,
    #[serde(default)]
    public_keys: Vec<Key>,
    /// Base64.
    #[serde(default)]
    user_data: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct OsProfile {
    computer_name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Key {
    key_data: String,
}

/// `environment` is there at the first boot only. `last` is what an earlier boot found: its custom data counts as long
/// as the instance is the same.
pub(super) fn fetch(
    ask: &dyn Ask,
    environment: Option<&Environment>,
    last: Option<&Found>,
) -> Result<Found, SourceError> {
    let url = format!("{ADDRESS}/metadata/instance?api-version=2021-08-01&extended=true");
    let Metadata { compute } = from_json(&url, &ask.get(&url, &[("Metadata", "true")])?.body)?;
    let last = last.filter(|last| {
        last.datasource == Datasource::Azure && last.meta.instance_id.as_deref() == Some(&compute.vm_id)
    });
    let given = environment.and_then(|environment| environment.custom_data.clone());
    let user_data = match compute.user_data.as_deref().filter(|text| !text.is_empty()) {
        Some(text) if given.is_none() => Some(from_base64(&url, text)?),
        _ => given,
    };
    let user_data = user_data.or_else(|| Some(last?.user_data.clone()));
    let hostname = compute.os_profile.computer_name.filter(|name| !name.is_empty());
    let hostname = hostname.or_else(|| environment?.hostname.clone()).or(compute.name);
    let mut keys: Vec<String> =
        compute.public_keys.iter().map(|key| key.key_data.replace(['\r', '\n'], "")).collect();
    for key in environment.iter().flat_map(|environment| &environment.keys) {
        if !keys.contains(key) {
            keys.push(key.clone());
        }
    }
    Ok(Instance { id: Some(compute.vm_id), hostname, keys }.found(Datasource::Azure, user_data))
}

/// Tells the platform that the node is up.
pub(super) fn report_ready(ask: &dyn Ask) -> Result<(), SourceError> {
    let url = format!("{WIRE_SERVER}/machine/?comp=goalstate");
    let goal_state = ask.text(&url, WIRE_HEADERS)?;
    let report = ready(&url, &goal_state)?;
    let content_type = [("Content-Type", "text/xml; charset=utf-8")];
    let headers = [WIRE_HEADERS, &content_type].concat();
    ask.post(&format!("{WIRE_SERVER}/machine?comp=health"), &headers, report.as_bytes()).map(drop)
}

/// Reports in a thread of its own, until the platform has heard it: nothing else waits for that.
pub(super) fn start_reporting() {
    let thread = thread::Builder::new().name("azure".to_owned()).spawn(|| {
        let limits = Limits { redirects: 0, body: 1 << 20, ..Limits::default() };
        let client = Client::new(limits);
        let mut pause = Duration::from_secs(1);
        loop {
            let error =
                match report_ready(&Until { client: &client, deadline: Instant::now() + REPORT_LIMIT }) {
                    Ok(()) => return console::notice("user-data: Azure knows that the node is up"),
                    Err(error) => error,
                };
            console::warning(format_args!(
                "cannot tell Azure that the node is up: {}",
                console::chain(&error)
            ));
            thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    });
    if let Err(error) = thread {
        console::error(format_args!("cannot tell Azure that the node is up: {error}"));
    }
}

/// The report for the goal that the platform has with this machine.
fn ready(url: &str, goal_state: &str) -> Result<String, SourceError> {
    let document = xml(url, goal_state)?;
    let text = |name: &'static str| {
        let node = document.descendants().find(|node| node.tag_name().name() == name);
        let text = node.and_then(|node| node.text()).map(str::trim).filter(|text| {
            // They are written into the report as they are.
            !text.is_empty() && !text.contains(['<', '>', '&'])
        });
        text.ok_or_else(|| SourceError::Lacks { document: url.to_owned(), what: name })
    };
    let (incarnation, container, instance) =
        (text("Incarnation")?, text("ContainerId")?, text("InstanceId")?);
    Ok(format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
         <Health><GoalStateIncarnation>{incarnation}</GoalStateIncarnation><Container>\
         <ContainerId>{container}</ContainerId><RoleInstanceList><Role><InstanceId>{instance}</InstanceId>\
         <Health><State>Ready</State></Health></Role></RoleInstanceList></Container></Health>\n"
    ))
}

fn xml<'a>(document: &str, text: &'a str) -> Result<Document<'a>, SourceError> {
    // A byte order mark comes first in what the wire server sends.
    let text = text.trim_start_matches('\u{feff}').trim_start();
    Document::parse(text).map_err(|source| SourceError::Xml { document: document.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::super::service::recorded::{KEY, Recorded};
    use super::*;

    const INSTANCE: &str =
        "GET http://169.254.169.254/metadata/instance?api-version=2021-08-01&extended=true";

    fn environment(custom_data: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?>\n<Environment xmlns=\"http://schemas.dmtf.org/ovf/environment/1\" \
             xmlns:wa=\"http://schemas.microsoft.com/windowsazure\">\n <wa:ProvisioningSection>\n  \
             <wa:LinuxProvisioningConfigurationSet><wa:HostName>from-disk</wa:HostName>\
             <wa:UserName>me</wa:UserName>{custom_data}<wa:SSH><wa:PublicKeys><wa:PublicKey>\
             <wa:Fingerprint>6BE7</wa:Fingerprint><wa:Path>/home/me/.ssh/authorized_keys</wa:Path>\
             <wa:Value>{KEY}</wa:Value></wa:PublicKey></wa:PublicKeys></wa:SSH>\
             </wa:LinuxProvisioningConfigurationSet>\n </wa:ProvisioningSection>\n</Environment>\n"
        )
    }

    const CUSTOM_DATA: &str = "<wa:CustomData>I2Nsb3VkLWNvbmZpZwo=</wa:CustomData>";

    fn compute(extra: &str) -> String {
        format!(r#"{{"compute": {{"vmId": "02aab8a4", "name": "vm"{extra}}}, "network": {{}}}}"#)
    }

    fn fetched(compute: &str, environment: Option<&str>, last: Option<&Found>) -> Found {
        let environment = environment.map(|text| Environment::parse(text.as_bytes()).unwrap());
        let service = Recorded::new(&[(INSTANCE, 200, compute)]);
        let found = fetch(&service, environment.as_ref(), last).unwrap();
        assert!(service.asked.borrow()[0].contains("[Metadata: true]"));
        found
    }

    #[test]
    fn disk_and_service_are_put_together() {
        let service = compute(&format!(
            r#", "osProfile": {{"computerName": "web"}}, "publicKeys": [{{"keyData": "{KEY}\r\n", "path": "x"}}],
               "userData": "aGk=""#
        ));
        let found = fetched(&service, Some(&environment(CUSTOM_DATA)), None);
        assert_eq!(found.user_data, b"#cloud-config\n", "custom data comes before user data");
        assert_eq!(found.meta.instance_id.as_deref(), Some("02aab8a4"));
        assert_eq!(found.meta.local_hostname.as_deref(), Some("web"));
        assert_eq!(found.meta.public_keys, [KEY]);
        assert_eq!(fetched(&service, None, None).user_data, b"hi");
        let found = fetched(&compute(""), Some(&environment("")), None);
        assert_eq!(found.meta.local_hostname.as_deref(), Some("from-disk"));
        assert_eq!(found.meta.public_keys, [KEY]);
    }

    #[test]
    fn custom_data_of_the_first_boot_counts_for_the_same_instance() {
        let first = fetched(&compute(""), Some(&environment(CUSTOM_DATA)), None);
        assert_eq!(fetched(&compute(""), None, Some(&first)).user_data, b"#cloud-config\n");
        let other = compute("").replace("02aab8a4", "another");
        assert_eq!(fetched(&other, None, Some(&first)).user_data, super::super::service::nothing());
    }

    #[test]
    fn what_is_no_environment_is_an_error() {
        for text in ["", "<html>", "<a/>", "<!DOCTYPE a [<!ENTITY b \"b\">]><a>&b;</a>"] {
            assert!(Environment::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(Environment::parse(environment("<wa:CustomData>?</wa:CustomData>").as_bytes()).is_err());
        assert!(fetch(&Recorded::new(&[(INSTANCE, 200, "<html>")]), None, None).is_err());
    }

    #[test]
    fn the_platform_hears_that_the_node_is_up() {
        let goal = "\u{feff}<?xml version=\"1.0\"?><GoalState><Version>2012-11-30</Version><Incarnation>3</Incarnation>\
                    <Container><ContainerId>c-1</ContainerId><RoleInstanceList><RoleInstance>\
                    <InstanceId>i-1</InstanceId></RoleInstance></RoleInstanceList></Container></GoalState>";
        let service = Recorded::new(&[
            ("GET http://168.63.129.16/machine/?comp=goalstate", 200, goal),
            ("POST http://168.63.129.16/machine?comp=health", 200, ""),
        ]);
        report_ready(&service).unwrap();
        let said = service.asked.borrow()[1].clone();
        for word in [
            "x-ms-version: 2012-11-30",
            "Content-Type: text/xml; charset=utf-8",
            "<GoalStateIncarnation>3<",
            "<ContainerId>c-1<",
            "<InstanceId>i-1<",
            "<State>Ready<",
        ] {
            assert!(said.contains(word), "{said}");
        }
        for goal in ["<html>", "<GoalState/>", "<GoalState><Incarnation>&lt;</Incarnation></GoalState>"] {
            assert!(ready("x", goal).is_err(), "{goal}");
        }
    }
}
