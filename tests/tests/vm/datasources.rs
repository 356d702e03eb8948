//! Configurations that come from somewhere else than a disk with user-data: their name, keys and files arrive.

use std::collections::BTreeMap;

use vm_tests::{BRIDGE, Build, Lan, Process, Request, Response, Server, Vm, VmBuilder, directory, iso};

pub(crate) const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti from-the-cloud";

/// Says what the node has got: its name, the keys that may log in, and a file of the configuration.
pub(crate) const WITNESS: &str = r#"#cloud-config
write_files:
- {path: /etc/from-the-cloud, content: "a file of the configuration\n"}
services:
  witness:
    image: busybox
    network_mode: none
    privileged: true
    pid: host
    command:
    - sh
    - -c
    - |
      cd /proc/1/root
      echo name $$(cat etc/hostname)
      find var/lib/holdfast/keys -type f -exec cat {} + | grep from-the-cloud
      cat etc/from-the-cloud
      exec sleep 100000
    logging: {driver: console}
"#;

/// A network with DHCP and these addresses beside its own.
pub(crate) fn lan_with(addresses: &[&str]) -> (Lan, Process) {
    let lan = Lan::new();
    lan.address("192.0.2.1/24");
    for address in addresses {
        lan.address(address);
    }
    let interface = format!("--interface={BRIDGE}");
    // Two that start at once would be in each other's way.
    let pid_file = format!("--pid-file={}", directory().join("dnsmasq.pid").display());
    let server = lan.spawn(&[
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--port=0",
        "--dhcp-leasefile=/dev/null",
        &interface,
        &pid_file,
        "--dhcp-range=192.0.2.50,192.0.2.59,10m",
    ]);
    (lan, server)
}

/// Answers `METHOD PATH` with a text, all else with 404.
pub(crate) fn answers(table: &[(&str, &str)]) -> impl Fn(&Request) -> Response + Send + Sync + use<> {
    let table: BTreeMap<String, String> =
        table.iter().map(|(asked, said)| ((*asked).to_owned(), (*said).to_owned())).collect();
    move |request| {
        let said = table.get(&format!("{} {}", request.method, request.path));
        said.map_or_else(Response::not_found, |said| Response::ok(said.as_str()))
    }
}

/// Boots a machine whose firmware says `smbios` beside a metadata service, and expects that all of the configuration
/// arrives; gives what the service was asked.
fn arrives_from(cloud: &str, smbios: &str, table: &[(&str, &str)]) -> Vec<Request> {
    let (lan, _dhcp) = lan_with(&["169.254.169.254/32"]);
    let server = lan.serve("169.254.169.254:80", answers(table));
    let builder = Vm::direct(Build::standard()).on_lan(&lan).smbios(smbios);
    arrives(builder, &format!("user-data: from the metadata service of {cloud} "));
    server.requests()
}

fn arrives(builder: VmBuilder, from: &str) {
    let mut vm = builder.boot();
    vm.expect(&format!("holdfast: {from}"));
    vm.expect("witness: name from-the-cloud$");
    vm.expect("witness: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5.* from-the-cloud");
    vm.expect("witness: a file of the configuration");
    vm.power_off();
}

#[test]
fn ec2_in_version_2_wants_a_token() {
    let asked = arrives_from(
        "Ec2",
        "type=1,manufacturer=Amazon EC2,product=m5.large",
        &[
            ("PUT /latest/api/token", "a token"),
            ("GET /latest/meta-data/instance-id", "i-0123456789abcdef0"),
            ("GET /latest/meta-data/local-hostname", "from-the-cloud.ec2.internal"),
            ("GET /latest/meta-data/public-keys/", "0=mine"),
            ("GET /latest/meta-data/public-keys/0/openssh-key", KEY),
            ("GET /latest/user-data", WITNESS),
        ],
    );
    for request in asked.iter().filter(|request| request.method == "GET") {
        assert_eq!(request.header("x-aws-ec2-metadata-token"), Some("a token"), "{request:?}");
    }
}

#[test]
fn ec2_in_version_1_has_no_tokens() {
    // Xen's firmware is known by the machine's UUID.
    arrives_from(
        "Ec2",
        "type=1,uuid=ec2e1916-9099-7caf-fd21-012345abcdef",
        &[
            ("GET /latest/meta-data/instance-id", "i-1"),
            ("GET /latest/meta-data/local-hostname", "from-the-cloud"),
            ("GET /latest/meta-data/public-keys/", "0=mine"),
            ("GET /latest/meta-data/public-keys/0/openssh-key", KEY),
            ("GET /latest/user-data", WITNESS),
        ],
    );
}

fn openstack_meta_data() -> String {
    format!(
        r#"{{"uuid": "d8e02d56-2648-49a3-bf97-6be8f1204f38", "hostname": "from-the-cloud.novalocal",
            "name": "x", "public_keys": {{"mine": "{KEY}"}}, "random_seed": "c2VlZA=="}}"#
    )
}

/// The first link, as OpenStack describes it.
const NETWORK_DATA: &str = r#"{
    "links": [{"id": "tap0", "type": "ovs", "ethernet_mac_address": "52:54:00:00:00:00", "mtu": 1450}],
    "networks": [{"id": "network0", "link": "tap0", "type": "ipv4_dhcp"}], "services": []}"#;

#[test]
fn openstack_has_documents() {
    arrives_from(
        "OpenStack",
        "type=1,product=OpenStack Nova",
        &[
            ("GET /openstack/latest/meta_data.json", &openstack_meta_data()),
            ("GET /openstack/latest/network_data.json", NETWORK_DATA),
            ("GET /openstack/latest/user_data", WITNESS),
        ],
    );
}

#[test]
fn without_ipv4_the_service_has_a_link_local_address() {
    let lan = Lan::new();
    for address in ["fd00:9::1/64", "fe80::a9fe:a9fe/64"] {
        lan.run(&["ip", "address", "add", address, "dev", BRIDGE, "nodad"]);
    }
    let interface = format!("--interface={BRIDGE}");
    let _routers = lan.spawn(&[
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--port=0",
        "--dhcp-leasefile=/dev/null",
        &interface,
        "--enable-ra",
        "--dhcp-range=fd00:9::,ra-only",
    ]);
    let documents = [
        ("GET /openstack/latest/meta_data.json", openstack_meta_data()),
        ("GET /openstack/latest/user_data", WITNESS.to_owned()),
    ];
    let documents = documents.each_ref().map(|(asked, said)| (*asked, said.as_str()));
    let _server = lan.serve("[::]:80", answers(&documents));
    let builder = Vm::direct(Build::standard()).on_lan(&lan).smbios("type=1,product=OpenStack Nova");
    arrives(builder, "user-data: from the metadata service of OpenStack ");
}

#[test]
fn a_config_drive_has_the_same_documents_and_needs_no_network() {
    let drive = iso(
        "config-2",
        &[
            ("openstack/latest/meta_data.json", &openstack_meta_data()),
            ("openstack/latest/network_data.json", NETWORK_DATA),
            ("openstack/latest/user_data", WITNESS),
        ],
    );
    let builder = Vm::direct(Build::standard()).without_network().drive(&drive);
    arrives(builder, "user-data: from the iso9660 disk /dev/vd. with the label config-2");
}

#[test]
fn google_says_that_it_is_google() {
    let (lan, _dhcp) = lan_with(&["169.254.169.254/32"]);
    let instance = serde_json::json!({
        "id": 7_203_952_147_385_000_123_u64,
        "hostname": "from-the-cloud.c.project.internal",
        "attributes": {"user-data": WITNESS, "ssh-keys": format!("me:{KEY}")},
    });
    let instance = instance.to_string();
    let table = answers(&[
        ("GET /computeMetadata/v1/instance/?recursive=true", &instance),
        ("GET /computeMetadata/v1/project/attributes/?recursive=true", "{}"),
    ]);
    let google = || ("Metadata-Flavor".to_owned(), "Google".to_owned());
    let server = lan.serve("169.254.169.254:80", move |request| match table(request) {
        Response::Answer { status, body, .. } if request.header("metadata-flavor") == Some("Google") => {
            Response::Answer { status, headers: vec![google()], body }
        }
        _ => Response::status(403, "who are you?"),
    });
    let builder = Vm::direct(Build::standard()).on_lan(&lan).smbios("type=1,product=Google Compute Engine");
    arrives(builder, "user-data: from the metadata service of GCE ");
    assert!(!server.requests().is_empty());
}

const AZURE: &str = "type=3,asset=7783-7084-3265-9085-8269-3286-77";

const GOAL_STATE: &str = "<?xml version=\"1.0\"?><GoalState><Incarnation>1</Incarnation><Container>\
    <ContainerId>c-1</ContainerId><RoleInstanceList><RoleInstance><InstanceId>i-1</InstanceId></RoleInstance>\
    </RoleInstanceList></Container></GoalState>";

#[test]
fn azure_has_a_disk_and_a_service_and_hears_that_the_node_is_up() {
    let custom_data = base64(WITNESS);
    let environment = format!(
        "<Environment xmlns=\"http://schemas.dmtf.org/ovf/environment/1\" \
         xmlns:wa=\"http://schemas.microsoft.com/windowsazure\"><wa:ProvisioningSection>\
         <wa:LinuxProvisioningConfigurationSet><wa:HostName>other</wa:HostName>\
         <wa:CustomData>{custom_data}</wa:CustomData></wa:LinuxProvisioningConfigurationSet>\
         </wa:ProvisioningSection></Environment>"
    );
    let disk = iso("rd_rdfe_stable", &[("ovf-env.xml", &environment)]);
    let compute = format!(
        r#"{{"compute": {{"vmId": "02aab8a4", "osProfile": {{"computerName": "from-the-cloud"}},
            "publicKeys": [{{"keyData": "{KEY}\r\n", "path": "/home/me/.ssh/authorized_keys"}}]}}}}"#
    );
    let (lan, _dhcp) = lan_with(&["169.254.169.254/32", "168.63.129.16/32"]);
    let _metadata = lan.serve(
        "169.254.169.254:80",
        answers(&[("GET /metadata/instance?api-version=2021-08-01&extended=true", &compute)]),
    );
    let wire = lan.serve(
        "168.63.129.16:80",
        answers(&[("GET /machine/?comp=goalstate", GOAL_STATE), ("POST /machine?comp=health", "")]),
    );
    let mut vm = Vm::direct(Build::standard()).on_lan(&lan).smbios(AZURE).drive(&disk).boot();
    vm.expect_all(&[
        "holdfast: user-data: from the metadata service of Azure ",
        "holdfast: user-data: Azure knows that the node is up",
        "witness: name from-the-cloud$",
        "witness: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5.* from-the-cloud",
        "witness: a file of the configuration",
    ]);
    let report = wire.requests().into_iter().find(|request| request.method == "POST");
    let report = String::from_utf8(report.expect("a report").body).expect("text");
    assert!(report.contains("<ContainerId>c-1<") && report.contains("<State>Ready<"), "{report}");
    vm.power_off();
}

fn base64(text: &str) -> String {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let mut command =
        Command::new("base64").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("base64 starts");
    command.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("it reads");
    String::from_utf8(command.wait_with_output().expect("it ends").stdout).expect("text")
}

#[test]
fn hetzner_has_one_yaml_document() {
    let metadata = format!(
        "hostname: from-the-cloud\ninstance-id: 12345678\npublic-keys:\n- {KEY}\nnetwork-config:\n  version: 1\n  \
         config:\n  - type: physical\n    name: eth0\n    mac_address: 52:54:00:00:00:00\n    subnets:\n    \
         - type: dhcp\nvendor_data: |\n  #cloud-config\n  disable_root: true\n"
    );
    arrives_from(
        "Hetzner",
        "type=1,manufacturer=Hetzner,product=vServer,serial=12345678",
        &[("GET /hetzner/v1/metadata", &metadata), ("GET /hetzner/v1/userdata", WITNESS)],
    );
}

#[test]
fn digitalocean_has_one_json_document() {
    let droplet = serde_json::json!({
        "droplet_id": 2_756_294,
        "hostname": "from-the-cloud",
        "user_data": WITNESS,
        "public_keys": [KEY],
        "interfaces": {"public": [{
            "mac": "52:54:00:00:00:00",
            "ipv4": {"ip_address": "192.0.2.70", "netmask": "255.255.255.0", "gateway": "192.0.2.1"},
        }]},
        "dns": {"nameservers": ["192.0.2.1"]},
    });
    arrives_from(
        "DigitalOcean",
        "type=1,manufacturer=DigitalOcean,product=Droplet",
        &[("GET /metadata/v1.json", &droplet.to_string())],
    );
}

#[test]
fn scaleway_gives_user_data_to_privileged_ports() {
    let (lan, _dhcp) = lan_with(&["169.254.42.42/32"]);
    let server = format!(
        r#"{{"id": "cda1b9d3", "hostname": "from-the-cloud", "ssh_public_keys": [{{"key": "{KEY}"}}]}}"#
    );
    let _server = lan.serve(
        "169.254.42.42:80",
        answers(&[("GET /conf?format=json", &server), ("GET /user_data/cloud-init", WITNESS)]),
    );
    let builder = Vm::direct(Build::standard()).on_lan(&lan).smbios("type=1,manufacturer=Scaleway");
    arrives(builder, "user-data: from the metadata service of Scaleway ");
}

/// A server with a NoCloud seed below `/seed/`, whose user-data includes the rest.
fn seed(lan: &Lan, name: &str) -> Server {
    let meta_data = format!("instance-id: i-1\nlocal-hostname: {name}\npublic-keys: ['{KEY}']\n");
    lan.serve(
        "192.0.2.1:80",
        answers(&[
            ("GET /seed/meta-data", &meta_data),
            ("GET /seed/user-data", "#include\nhttp://192.0.2.1/included\n"),
            ("GET /included", WITNESS),
        ]),
    )
}

#[test]
fn a_seed_is_named_by_the_serial_number_and_includes_more() {
    let (lan, _dhcp) = lan_with(&[]);
    let _server = seed(&lan, "from-the-cloud");
    let builder = Vm::direct(Build::standard())
        .on_lan(&lan)
        .smbios("type=1,serial=ds=nocloud;s=http://192.0.2.1/seed/");
    arrives(
        builder,
        "user-data: from the NoCloud seed http://192.0.2.1/seed/ .the machine's serial number names it",
    );
}

#[test]
fn a_seed_is_named_by_the_kernel_command_line_with_another_name() {
    let (lan, _dhcp) = lan_with(&[]);
    let _server = seed(&lan, "other");
    let builder = Vm::direct(Build::standard())
        .on_lan(&lan)
        .append("ds=nocloud;s=http://192.0.2.1/seed/;h=from-the-cloud");
    arrives(
        builder,
        "user-data: from the NoCloud seed http://192.0.2.1/seed/ .the kernel command line names it",
    );
}

#[test]
fn a_hypervisor_that_tells_no_properties_is_said_and_does_no_harm() {
    let builder = Vm::direct(Build::standard()).without_network();
    let mut vm = builder.smbios("type=1,manufacturer=VMware,, Inc.").boot();
    vm.expect("holdfast: user-data: VMware: (the hypervisor opens no channel|nobody listens at)");
    vm.expect("holdfast: no user-data found");
    vm.power_off();
}
