//! DigitalOcean: everything in one JSON document, the addresses of the droplet, which may have no DHCP, among it.
//!
//! <https://docs.digitalocean.com/reference/api/metadata/>

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::service::{ADDRESS, Ask, Instance, SourceError, from_json, named, text};
use super::{Datasource, Found};

/// What is used of it.
#[derive(Debug, Deserialize)]
struct Droplet {
    droplet_id: Value,
    #[serde(default)]
    hostname: Value,
    #[serde(default)]
    user_data: Option<String>,
    #[serde(default)]
    vendor_data: Option<String>,
    #[serde(default)]
    public_keys: Vec<String>,
    #[serde(default)]
    interfaces: Interfaces,
    #[serde(default)]
    dns: Dns,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Interfaces {
    public: Vec<Interface>,
    private: Vec<Interface>,
}

#[derive(Debug, Deserialize)]
struct Interface {
    mac: String,
    ipv4: Option<Address>,
    ipv6: Option<Address>,
    anchor_ipv4: Option<Address>,
}

#[derive(Debug, Deserialize)]
struct Address {
    ip_address: String,
    netmask: Option<String>,
    cidr: Option<u8>,
    gateway: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Dns {
    nameservers: Vec<String>,
}

pub(super) fn fetch(ask: &dyn Ask) -> Result<Found, SourceError> {
    let url = format!("{ADDRESS}/metadata/v1.json");
    let droplet: Droplet = from_json(&url, &ask.get(&url, &[])?.body)?;
    let Some(id) = text(&droplet.droplet_id) else {
        return Err(SourceError::Lacks { document: url, what: "droplet_id" });
    };
    let cloud = Datasource::DigitalOcean;
    let network = network(&droplet);
    let instance = Instance { id: Some(id), hostname: text(&droplet.hostname), keys: droplet.public_keys };
    let some = |text: Option<String>| text.filter(|text| !text.is_empty()).map(String::into_bytes);
    Ok(Found {
        vendor_data: named(cloud, "vendor-data", some(droplet.vendor_data)),
        network_config: named(
            cloud,
            "network-config",
            network.map(|network| network.to_string().into_bytes()),
        ),
        ..instance.found(cloud, some(droplet.user_data))
    })
}

/// A network configuration of version 2. Only the public interfaces have gateways and name servers.
fn network(droplet: &Droplet) -> Option<Value> {
    let Interfaces { public, private } = &droplet.interfaces;
    let public = public.iter().map(|interface| (true, interface));
    let all = public.chain(private.iter().map(|interface| (false, interface)));
    let ethernets: Map<String, Value> = all
        .enumerate()
        .map(|(number, (public, interface))| {
            (format!("eth{number}"), ethernet(interface, public, &droplet.dns))
        })
        .collect();
    (!ethernets.is_empty()).then(|| json!({"version": 2, "ethernets": ethernets}))
}

fn ethernet(interface: &Interface, public: bool, dns: &Dns) -> Value {
    let both = [&interface.ipv4, &interface.ipv6, &interface.anchor_ipv4];
    let addresses: Vec<String> = both.into_iter().flatten().filter_map(Address::with_prefix).collect();
    let gateway = |address: &Option<Address>| address.as_ref().and_then(|address| address.gateway.clone());
    let gateways = [("0.0.0.0/0", gateway(&interface.ipv4)), ("::/0", gateway(&interface.ipv6))];
    let routes: Vec<Value> = gateways
        .into_iter()
        .filter_map(|(to, via)| Some(json!({"to": to, "via": via.filter(|via| public && !via.is_empty())?})))
        .collect();
    let mut ethernet =
        json!({"match": {"macaddress": interface.mac}, "addresses": addresses, "routes": routes});
    if public && !dns.nameservers.is_empty() {
        ethernet["nameservers"] = json!({"addresses": dns.nameservers});
    }
    ethernet
}

impl Address {
    fn with_prefix(&self) -> Option<String> {
        let mask = || self.netmask.as_ref()?.parse::<std::net::Ipv4Addr>().ok();
        let prefix = self.cidr.map(u32::from).or_else(|| Some(u32::from(mask()?).leading_ones()))?;
        (!self.ip_address.is_empty()).then(|| format!("{}/{prefix}", self.ip_address))
    }
}

#[cfg(test)]
mod tests {
    use super::super::service::recorded::{KEY, Recorded};
    use super::*;

    const URL: &str = "GET http://169.254.169.254/metadata/v1.json";

    #[test]
    fn one_document_has_it_all() {
        let document = json!({
            "droplet_id": 2_756_294,
            "hostname": "sample",
            "vendor_data": "#cloud-config\n{}\n",
            "user_data": "#cloud-config\n",
            "public_keys": [KEY],
            "interfaces": {
                "public": [{
                    "mac": "04:01:2a:0f:2a:01",
                    "type": "public",
                    "ipv4": {"ip_address": "203.0.113.5", "netmask": "255.255.240.0", "gateway": "203.0.112.1"},
                    "ipv6": {"ip_address": "2001:db8::5", "cidr": 64, "gateway": "2001:db8::1"},
                    "anchor_ipv4": {"ip_address": "10.17.0.5", "netmask": "255.255.0.0", "gateway": "10.17.0.1"},
                }],
                "private": [{
                    "mac": "04:01:2a:0f:2a:02",
                    "ipv4": {"ip_address": "10.132.0.5", "netmask": "255.255.0.0", "gateway": "10.132.0.1"},
                }],
            },
            "dns": {"nameservers": ["192.0.2.53"]},
        });
        let found = fetch(&Recorded::new(&[(URL, 200, &document.to_string())])).unwrap();
        assert_eq!(found.user_data, b"#cloud-config\n");
        assert_eq!(found.meta.instance_id.as_deref(), Some("2756294"));
        assert_eq!(found.meta.local_hostname.as_deref(), Some("sample"));
        assert_eq!(found.meta.public_keys, [KEY]);
        assert!(found.vendor_data.is_some());
        let (name, text) = found.network_config.unwrap();
        let network: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(
            network["ethernets"]["eth0"],
            json!({
                "match": {"macaddress": "04:01:2a:0f:2a:01"},
                "addresses": ["203.0.113.5/20", "2001:db8::5/64", "10.17.0.5/16"],
                "routes": [{"to": "0.0.0.0/0", "via": "203.0.112.1"}, {"to": "::/0", "via": "2001:db8::1"}],
                "nameservers": {"addresses": ["192.0.2.53"]},
            })
        );
        assert_eq!(network["ethernets"]["eth1"]["routes"], json!([]));
        assert_understood(&name, &text);
    }

    /// Fails when the node would not take this network configuration.
    fn assert_understood(name: &str, text: &[u8]) {
        let input = config::Input {
            network_config: Some((name, text)),
            ..config::Input::user_data("user-data", b"#cloud-config\n{}\n")
        };
        let outcome = config::judge(&input, config::Judge::Node);
        assert!(outcome.problems.is_empty(), "{:?}", outcome.problems);
    }

    #[test]
    fn a_bare_droplet_is_one_and_another_page_is_none() {
        let found = fetch(&Recorded::new(&[(URL, 200, r#"{"droplet_id": 1, "user_data": null}"#)])).unwrap();
        assert!(found.problems.is_empty() && found.network_config.is_none());
        for page in ["<html>", "{}", r#"{"droplet_id": []}"#, "[]"] {
            assert!(fetch(&Recorded::new(&[(URL, 200, page)])).is_err(), "{page}");
        }
    }
}
