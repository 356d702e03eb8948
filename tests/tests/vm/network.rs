//! What a node makes of the network it is plugged into.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use vm_tests::{BRIDGE, Build, Lan, Process, Vm, directory};

use crate::WEB;

const PATIENCE: Duration = Duration::from_secs(120);

/// A service that runs what is posted to it, with all rights over the network and the host's processes.
const SHELL: &str = r#"services:
  shell:
    image: busybox
    network_mode: host
    privileged: true
    pid: host
    restart: always
    command:
      - sh
      - -c
      - |
        mkdir -p /www/cgi-bin
        printf '#!/bin/sh\nprintf "\\r\\n"\nexec sh 2>&1\n' > /www/cgi-bin/sh
        chmod +x /www/cgi-bin/sh
        exec httpd -f -p 80 -h /www
"#;

/// Has commands run in a guest that has [`SHELL`], by one of its addresses; gives what they print.
#[track_caller]
fn shell(lan: &Lan, address: &str, commands: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match post(lan, address, commands) {
            Ok(answer) if answer.starts_with("HTTP/1.") => return answer,
            answer if Instant::now() > deadline => panic!("{address} does not answer: {answer:?}"),
            _ => std::thread::sleep(Duration::from_millis(300)),
        }
    }
}

fn post(lan: &Lan, address: &str, commands: &str) -> std::io::Result<String> {
    let address = address.parse().expect("an address and a port");
    let commands = format!("{commands}\n");
    let head = format!("POST /cgi-bin/sh HTTP/1.0\r\nContent-Length: {}\r\n\r\n", commands.len());
    lan.inside(move || {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all((head + &commands).as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    })
}

/// Has commands run until they print each of `texts`.
#[track_caller]
fn shell_says(lan: &Lan, address: &str, commands: &str, texts: &[&str]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = shell(lan, address, commands);
        match texts.iter().find(|text| !answer.contains(**text)) {
            None => return,
            Some(text) if Instant::now() > deadline => panic!("'{text}' is not in this:\n{answer}"),
            Some(_) => std::thread::sleep(Duration::from_millis(300)),
        }
    }
}

/// A DHCP server on the bridge, and the file with what it has done.
struct Server {
    log: PathBuf,
    _process: Process,
}

impl Server {
    fn start(lan: &Lan, name: &str, options: &[&str]) -> Self {
        let log = directory().join(format!("{name}.log"));
        std::fs::remove_file(&log).ok();
        let interface = format!("--interface={BRIDGE}");
        let facility = format!("--log-facility={}", log.display());
        let mut command = vec!["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0"];
        command.extend(["--user=root", "--dhcp-leasefile=/dev/null", "--dhcp-authoritative", "--no-ping"]);
        command.extend([interface.as_str(), facility.as_str()]);
        command.extend(options);
        Self { _process: lan.spawn(&command), log }
    }

    /// How often it has done something.
    fn times(&self, what: &str) -> usize {
        std::fs::read_to_string(&self.log).unwrap_or_default().matches(what).count()
    }

    /// Waits until it has done something so often.
    #[track_caller]
    fn expect(&self, what: &str, times: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.times(what) < times {
            assert!(Instant::now() < deadline, "'{what}' is not {times} times in {}", self.log.display());
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

#[test]
fn a_dhcp_server_gives_an_address() {
    let lan = Lan::new();
    lan.address("192.0.2.1/24");
    let _server = Server::start(&lan, "server", &["--dhcp-range=192.0.2.50,192.0.2.50,10m"]);
    let mut vm = Vm::direct(Build::standard()).on_lan(&lan).user_data(WEB).boot();
    vm.expect("holdfast: address eth0 192.0.2.50");
    vm.power_off();
}

#[test]
fn a_lease_is_renewed_rebound_refused_and_ends() {
    let lan = Lan::new();
    lan.address("10.9.0.1/24");
    // Renewed after 15 s and rebound after 30 s; two minutes is the shortest that this server gives.
    let times = ["--dhcp-option=option:T1,15", "--dhcp-option=option:T2,30"];
    let first = [
        "--dhcp-range=10.9.0.50,10.9.0.59,120",
        "--dhcp-option=option:dns-server,10.9.0.53",
        "--dhcp-option=option:domain-search,example.com",
        "--dhcp-option=option:mtu,1400",
        "--dhcp-option=option:classless-static-route,10.10.0.0/16,10.9.0.7,0.0.0.0/0,10.9.0.1",
    ];
    let server = Server::start(&lan, "first", &[first.as_slice(), &times].concat());
    let user_data = format!("#cloud-config\n{SHELL}");
    let mut vm =
        Vm::direct(Build::standard()).on_lan(&lan).append("ip=eth0:dhcp").user_data(&user_data).boot();
    vm.expect("holdfast: address eth0 10.9.0.5");
    let leased = lan.run(&["cat", &server.log.display().to_string()]);
    let address = leased.lines().find_map(|line| line.split_once("DHCPACK(lan0) ")?.1.split(' ').next());
    let address = address.expect("the server has given an address").to_owned();
    let host = format!("{address}:80");
    shell_says(
        &lan,
        &host,
        "ip route; cat /etc/resolv.conf /sys/class/net/eth0/mtu",
        &[
            "10.10.0.0/16 via 10.9.0.7",
            "default via 10.9.0.1",
            "search example.com\nnameserver 10.9.0.53\n",
            "\n1400\n",
        ],
    );

    // A renewal, then a cable that is out for a moment, then a boot: nobody has to be asked for a new address.
    server.expect("DHCPACK", 2);
    let before = server.times("DHCPACK");
    vm.cable(0, false);
    std::thread::sleep(Duration::from_secs(1));
    vm.cable(0, true);
    server.expect("DHCPACK", before + 1);
    let discovered = server.times("DHCPDISCOVER");
    vm.monitor("system_reset");
    vm.expect(&format!("holdfast: address eth0 {address}"));
    assert_eq!(server.times("DHCPDISCOVER"), discovered, "the address of before was not asked for");

    // The server moves, and the lease goes on.
    drop(server);
    lan.run(&["ip", "address", "del", "10.9.0.1/24", "dev", BRIDGE]);
    lan.address("10.9.0.2/24");
    let range = ["--dhcp-range=10.9.0.50,10.9.0.59,120"];
    let server = Server::start(&lan, "second", &[range.as_slice(), &times].concat());
    server.expect("DHCPACK", 1);
    shell_says(&lan, &host, "ip -4 address show dev eth0", &[&address]);
    vm.never_said("the lease of .* has ended");

    // The network gets other addresses, and the old one is refused.
    drop(server);
    lan.address("10.9.1.1/24");
    let range = ["--dhcp-range=10.9.1.50,10.9.1.59,120"];
    let server = Server::start(&lan, "third", &[range.as_slice(), &times].concat());
    vm.expect(&format!("holdfast: network eth0: the lease of {address} has ended"));
    vm.expect("holdfast: address eth0 10.9.1.5");
    server.expect("DHCPNAK", 1);

    // There is no server any more, and no address when the lease has ended.
    drop(server);
    vm.expect_within("holdfast: network eth0: the lease of 10.9.1.5. has ended", Duration::from_secs(200));
    vm.power_off();
}

#[test]
fn routers_and_dhcpv6_give_addresses_where_there_is_no_ipv4() {
    let lan = Lan::new();
    lan.run(&["ip", "address", "add", "fd00:9::1/64", "dev", BRIDGE, "nodad"]);
    let options = [
        "--enable-ra",
        "--dhcp-range=fd00:9::100,fd00:9::1ff,slaac,64,120",
        "--dhcp-option=option6:dns-server,[fd00:9::53]",
    ];
    let server = Server::start(&lan, "six", &options);
    let user_data = format!("#cloud-config\n{SHELL}");
    let mut vm = Vm::direct(Build::standard()).on_lan(&lan).user_data(&user_data).boot();
    vm.expect_all(&[
        "holdfast: address eth0 fd00:9::5054:ff:fe00:0",
        "holdfast: address eth0 fd00:9::1[0-9a-f]{2}$",
        "holdfast: service shell running",
    ]);
    server.expect("DHCPREPLY", 1);
    shell_says(
        &lan,
        "[fd00:9::5054:ff:fe00:0]:80",
        "ip -6 route; cat /etc/resolv.conf",
        &["default via fe80::", "nameserver fd00:9::53\n"],
    );
    vm.power_off();
}

/// Four links by their addresses, the last of which is not there at first.
const DESCRIBED: &str = r#"#cloud-config
holdfast:
  network:
    version: 2
    ethernets:
      first:
        match: {macaddress: "52:54:00:00:00:00"}
        set-name: lan0
        addresses: [192.0.2.5/24, "2001:db8::5/64"]
        mtu: 1400
        routes:
          - {to: 10.10.0.0/16, via: 192.0.2.7, metric: 50}
          - {to: default, via: 192.0.2.1, table: 100}
        routing-policy: [{from: 192.0.2.5, table: 100, priority: 1000}]
        nameservers: {addresses: [192.0.2.53], search: [example.com]}
      a: {match: {macaddress: "52:54:00:00:00:01"}, set-name: a}
      b: {match: {macaddress: "52:54:00:00:00:02"}, set-name: b}
      late: {match: {macaddress: "52:54:00:00:00:03"}, addresses: [198.51.100.9/24], optional: true}
    bonds:
      bond0:
        interfaces: [a, b]
        addresses: [198.51.100.5/24]
        parameters: {mode: active-backup, mii-monitor-interval: 100, primary: a}
    vlans:
      tagged: {id: 100, link: first, addresses: [203.0.113.5/24]}
      port: {id: 200, link: first}
    bridges:
      br0: {interfaces: [port], addresses: [10.20.0.1/24], parameters: {stp: false, forward-delay: 4}}
    tunnels:
      wg0:
        mode: wireguard
        addresses: [10.30.0.1/24]
        key: "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
        port: 51820
        peers:
          - keys: {public: "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="}
            endpoint: 192.0.2.8:51820
            allowed-ips: [10.30.0.0/24]
"#;

#[test]
fn a_described_network_is_made_and_kept() {
    let lan = Lan::new();
    lan.address("192.0.2.1/24");
    lan.address("198.51.100.1/24");
    let user_data = format!("{DESCRIBED}{SHELL}");
    let machine = Vm::direct(Build::standard()).on_lan(&lan).on_lan(&lan).on_lan(&lan).hot_plug();
    let mut vm = machine.user_data(&user_data).boot();
    vm.expect_all(&[
        "holdfast: address lan0 192.0.2.5",
        "holdfast: address lan0 2001:db8::5",
        "holdfast: address bond0 198.51.100.5",
        "holdfast: address tagged 203.0.113.5",
        "holdfast: address br0 10.20.0.1",
        "holdfast: address wg0 10.30.0.1",
        "holdfast: service shell running",
    ]);
    let (single, bonded) = ("192.0.2.5:80", "198.51.100.5:80");
    let look = "ip rule; ip route; ip route show table 100; cat /etc/resolv.conf /sys/class/net/lan0/mtu; \
                ls /sys/class/net/br0/brif; cat /sys/class/net/br0/bridge/forward_delay; cat /proc/net/vlan/config";
    let whole = [
        "1000:\tfrom 192.0.2.5 lookup 100",
        "10.10.0.0/16 via 192.0.2.7 dev lan0",
        "default via 192.0.2.1 dev lan0",
        "search example.com\nnameserver 192.0.2.53\n1400\nport\n400\n",
        "tagged         | 100  | lan0",
    ];
    shell_says(&lan, single, look, &whole);

    // What the VLAN sends has its tag.
    let dump = {
        let lan = lan.clone();
        std::thread::spawn(move || {
            let filter = ["tcpdump", "-i", BRIDGE, "-c", "1", "-e", "-nn", "vlan", "100", "and", "arp"];
            lan.run(&[["timeout", "60"].as_slice(), &filter].concat())
        })
    };
    shell(&lan, single, "for i in 1 2 3 4 5; do ping -c 1 -W 1 203.0.113.9; done");
    let frame = dump.join().expect("a frame was seen");
    assert!(frame.contains("who-has 203.0.113.9 tell 203.0.113.5"), "{frame}");

    // A member of the bond loses its cable, and the other one takes its place.
    let bond = "cat /proc/net/bonding/bond0";
    shell_says(&lan, bonded, bond, &["fault-tolerance (active-backup)", "Currently Active Slave: a\n"]);
    vm.cable(1, false);
    shell_says(&lan, bonded, bond, &["Currently Active Slave: b\n"]);
    vm.cable(1, true);
    shell_says(&lan, bonded, bond, &["Currently Active Slave: a\n"]);

    // A link appears.
    vm.plug_in(&lan);
    vm.expect("holdfast: address eth[0-9]+ 198.51.100.9");

    // What somebody changes is put right, also by an agent that was just started.
    let change = "ip address del 192.0.2.5/24 dev lan0; ip link set lan0 mtu 1500; ip rule del priority 1000; \
                  ip link del br0; ip address add 192.0.2.77/24 dev lan0";
    shell(&lan, bonded, change);
    vm.expect_all(&["holdfast: address lan0 192.0.2.5", "holdfast: address br0 10.20.0.1"]);
    shell_says(&lan, single, look, &whole);
    shell(&lan, bonded, "kill -9 $(pidof holdfastd)");
    vm.expect("holdfast: agent running");
    shell(&lan, bonded, "ip link del tagged");
    vm.expect_all(&["holdfast: address tagged 203.0.113.5"]);
    shell_says(&lan, single, look, &whole);
    let addresses = shell(&lan, single, "ip -4 address show dev lan0");
    assert!(addresses.contains("192.0.2.77/24"), "what others add stays: {addresses}");
    vm.never_said("holdfast: network .*cannot");
    vm.power_off();
}

/// One end of a tunnel: its number, its private key, and the other end's public one.
const ENDS: [(u8, &str, &str); 2] = [
    (1, "UGBTF8NLfvzDjEAR7dvlwf0DpDkOk4b41bsPAudViUE=", "Uc9OPZb2x0HwfoqzsuF+mL/VVEBMiuVrVLethH98HAc="),
    (2, "UP796jlRxIPg9oxhqIsNMrnTGBL1gY3s8aQydqRDY2E=", "nkcwDdHjdpZLfPRr1KvYnkaZcrGLD6MdW6mjBIMCCVQ="),
];

#[test]
fn two_nodes_talk_through_a_tunnel_that_nobody_else_reads() {
    let lan = Lan::new();
    lan.address("192.0.2.1/24");
    let mut machines = ENDS.map(|(number, key, peer)| {
        let other = 3 - number;
        let user_data = format!(
            r#"#cloud-config
holdfast:
  network:
    version: 2
    ethernets: {{eth0: {{addresses: [192.0.2.1{number}/24]}}}}
    tunnels:
      wg0:
        mode: wireguard
        key: {key}
        port: 51820
        addresses: [10.9.0.{number}/24]
        peers:
        - keys: {{public: {peer}}}
          allowed-ips: [10.9.0.{other}/32]
          endpoint: 192.0.2.1{other}:51820
{SHELL}"#
        );
        Vm::direct(Build::standard()).on_lan(&lan).user_data(&user_data).boot()
    });
    for vm in &mut machines {
        vm.expect_all(&["holdfast: address wg0 10.9.0.", "holdfast: service shell running"]);
    }
    let through = "ping -c 1 -W 5 10.9.0.1 && wget -qO- http://10.9.0.1/cgi-bin/sh && echo answered";
    shell_says(&lan, "192.0.2.12:80", through, &["1 packets received", "answered"]);
    for vm in machines {
        // Keys are secret.
        for (_, key, _) in ENDS {
            vm.never_said(&key.replace('+', "."));
        }
        vm.power_off();
    }
}
