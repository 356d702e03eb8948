//! Containers on networks of their own: who reaches whom, by which names, and through which ports of the node.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use vm_tests::{Build, Disk, Lan, Response, Vm};

const PATIENCE: Duration = Duration::from_secs(120);

/// How long nothing must come where nothing may: what is dropped is not answered.
const SILENCE: Duration = Duration::from_secs(3);

/// The node's address on the test's network.
const NODE: &str = "192.0.2.10";

/// What a node with a fixed address runs: services whose port is a shell that runs what is posted to it, and whose page is
/// their name.
fn node(services: &str) -> String {
    let command = r#"
    - sh
    - -c
    - |
      mkdir -p /www/cgi-bin
      printf '#!/bin/sh\nprintf "\\r\\n"\nexec sh 2>&1\n' > /www/cgi-bin/sh
      chmod +x /www/cgi-bin/sh
      echo "this is $$NAME" > /www/index.html
      exec httpd -f -p $$PORT -h /www"#;
    format!(
        "#cloud-config\nholdfast:\n  gate: {{settle: 1s}}\n  network:\n    version: 2\n    ethernets:\n      \
         eth0: {{addresses: [{NODE}/24], nameservers: {{addresses: [192.0.2.1]}}}}\n\
         x-shell: &shell\n  image: busybox\n  restart: always\n  command: {command}\n{services}"
    )
}

/// Sends a request to an address of the test's network, from there.
fn request(lan: &Lan, address: &str, head: String) -> std::io::Result<String> {
    let address: SocketAddr = address.parse().expect("an address and a port");
    lan.inside(move || {
        let mut stream = TcpStream::connect_timeout(&address, SILENCE)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.write_all(head.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    })
}

/// Has commands run by a shell behind an address; gives what they print.
#[track_caller]
fn shell(lan: &Lan, address: &str, commands: &str) -> String {
    let commands = format!("{commands}\n");
    let head = format!("POST /cgi-bin/sh HTTP/1.0\r\nContent-Length: {}\r\n\r\n{commands}", commands.len());
    let deadline = Instant::now() + PATIENCE;
    loop {
        match request(lan, address, head.clone()) {
            Ok(answer) if answer.starts_with("HTTP/1.") => return answer,
            answer if Instant::now() > deadline => panic!("{address} does not answer: {answer:?}"),
            _ => std::thread::sleep(Duration::from_millis(300)),
        }
    }
}

/// Has commands run until they print `text`.
#[track_caller]
fn shell_says(lan: &Lan, address: &str, commands: &str, text: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = shell(lan, address, commands);
        if answer.contains(text) {
            return;
        }
        assert!(Instant::now() < deadline, "'{text}' is not what '{commands}' says:\n{answer}");
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Fails when somebody answers at an address of the test's network.
#[track_caller]
fn nobody_answers(lan: &Lan, address: &str) {
    let answer = request(lan, address, "GET / HTTP/1.0\r\n\r\n".to_owned());
    assert!(answer.is_err(), "{address} answers: {answer:?}");
}

/// Sends a datagram to an address of the test's network until it comes back.
#[track_caller]
fn udp_echo(lan: &Lan, address: &str) {
    let address: SocketAddr = address.parse().expect("an address and a port");
    let answer = lan.inside(move || {
        let socket = UdpSocket::bind("192.0.2.1:0")?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            socket.send_to(b"echo", address)?;
            let mut buffer = [0; 16];
            match socket.recv_from(&mut buffer) {
                Ok((length, from)) => return Ok((buffer[..length].to_vec(), from)),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => {}
            }
        }
    });
    assert_eq!(
        answer.expect("an answer by UDP"),
        (b"echo".to_vec(), address),
        "from the address that was asked"
    );
}

/// The command that sends a request and prints the answer. Busybox's wget asks its C library for the port of HTTP, which a
/// static program cannot tell.
fn send(request: &str, service: &str, port: u16, patience: u32) -> String {
    let hex: String = request.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("echo {hex} | busybox xxd -r -p | busybox nc -w {patience} {service} {port}")
}

/// The command that prints a service's page.
fn get(service: &str, port: u16) -> String {
    send("GET / HTTP/1.0\r\n\r\n", service, port, 5)
}

/// The command that has another service's shell run a command.
fn by(service: &str, command: &str) -> String {
    let body = format!("{command}\n");
    send(
        &format!("POST /cgi-bin/sh HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
        service,
        80,
        60,
    )
}

fn lan() -> Lan {
    let lan = Lan::new();
    lan.address("192.0.2.1/24");
    lan
}

const REACH: &str = r#"services:
  admin:
    <<: *shell
    network_mode: host
    privileged: true
    pid: host
    ports: [99]
    expose: [97]
    environment: {NAME: admin, PORT: "99"}
  web:
    <<: *shell
    ports: ["8080:80", "127.0.0.1:8081:80"]
    environment: {NAME: web, PORT: "80"}
  db:
    <<: *shell
    dns: 192.0.2.53
    dns_search: [example]
    dns_opt: ["timeout:1"]
    environment: {NAME: db, PORT: "80"}
  echo:
    image: probe
    restart: always
    ports: ["7000-7001:7000-7001/udp"]
    command: [sh, -c, "mkfifo /tmp/echo && exec nc.openbsd -u -l 7001 <>/tmp/echo >&0"]
"#;

#[test]
fn containers_find_each_other_and_ports_lead_to_them() {
    let lan = lan();
    lan.address("192.0.2.53/32");
    let names = |server: &str, answer: &str| {
        let (server, answer) =
            (format!("--listen-address={server}"), format!("--address=/outside.example/{answer}"));
        let always = [
            "--pid-file=",
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--user=root",
            "--no-resolv",
            "--no-hosts",
        ];
        lan.spawn(&[&["dnsmasq", "--bind-interfaces", &server, &answer], always.as_slice()].concat())
    };
    let _names = [names("192.0.2.1", "192.0.2.77"), names("192.0.2.53", "192.0.2.78")];
    let build = Build::standard();
    let disk = Disk::of(&build);
    let mut vm = Vm::direct(build.clone()).on(&disk).on_lan(&lan).user_data(&node(REACH)).boot();
    vm.expect_all(&[
        "service web running",
        "service db running",
        "service admin running",
        "service echo running",
    ]);
    let (web, admin) = (format!("{NODE}:8080"), format!("{NODE}:99"));

    // By name, also one that others have to be asked for, and none that there is not.
    shell_says(&lan, &web, &get("db", 80), "this is db");
    shell_says(&lan, &web, "busybox nslookup outside.example", "192.0.2.77");
    shell_says(&lan, &web, "busybox nslookup nobody", "NXDOMAIN");
    shell_says(&lan, &web, "cat /etc/resolv.conf /etc/hosts", "nameserver 172.18.0.1");
    // Or those that the service says.
    shell_says(&lan, &web, &by("db", "busybox nslookup outside.example"), "192.0.2.78");
    shell_says(&lan, &web, &by("db", "cat /etc/resolv.conf"), "search example");
    shell_says(&lan, &web, &by("db", "cat /etc/resolv.conf"), "options timeout:1");

    // By the node's ports: from the same container, from another one, and from the node itself.
    let page = get(NODE, 8080);
    shell_says(&lan, &web, &page, "this is web");
    shell_says(&lan, &web, &by("db", &page), "this is web");
    shell_says(&lan, &admin, &page, "this is web");
    shell_says(&lan, &admin, &get("127.0.0.1", 8080), "this is web");
    shell_says(&lan, &admin, &get("127.0.0.1", 8081), "this is web");
    udp_echo(&lan, &format!("{NODE}:7001"));

    // And by nothing else.
    nobody_answers(&lan, &format!("{NODE}:8081"));
    nobody_answers(&lan, &format!("{NODE}:80"));
    shell_says(&lan, &admin, &get("172.18.0.2", 80), "this is db");
    lan.run(&["ip", "route", "add", "172.18.0.0/16", "via", NODE]);
    nobody_answers(&lan, "172.18.0.2:80");
    shell(&lan, &admin, "busybox nc -l -p 98 -e echo open >/dev/null 2>&1 </dev/null &");
    nobody_answers(&lan, &format!("{NODE}:98"));
    // What a service on the node's network exposes is let through, to where nobody listens; the rest has no answer.
    for (port, kind) in [(97, ErrorKind::ConnectionRefused), (96, ErrorKind::TimedOut)] {
        let answer = request(&lan, &format!("{NODE}:{port}"), String::new());
        assert_eq!(answer.expect_err("nobody listens").kind(), kind, "{port}");
    }

    // A connection and the ports do not need the agent; names are there again when it is.
    let mut stream = lan.inside({
        let web = web.clone();
        move || TcpStream::connect(web).expect("a connection")
    });
    stream.write_all(b"GET / HTTP/1.0\r\n").expect("half of a request");
    shell(&lan, &admin, "busybox killall -9 holdfastd");
    stream.write_all(b"\r\n").expect("the other half");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.contains("this is web"), "{answer}");
    shell_says(&lan, &web, &get("db", 80), "this is db");

    // A container that is started again is where it was.
    shell(
        &lan,
        &admin,
        "for p in $(busybox pidof httpd); do grep -qz NAME=web /proc/$p/environ && kill -9 $p; done",
    );
    vm.expect("holdfast: service web exited");
    shell_says(&lan, &web, &by("db", &get("web", 80)), "this is web");
    vm.power_off();

    // The next boot starts containers before the agent, and ends up the same.
    let mut vm = Vm::direct(build).on(&disk).on_lan(&lan).user_data(&node(REACH)).boot();
    vm.expect("service web running");
    lan.run(&["ip", "neigh", "flush", "all"]);
    shell_says(&lan, &web, &get("db", 80), "this is db");
    nobody_answers(&lan, &format!("{NODE}:80"));
    vm.power_off();
}

const APART: &str = r#"networks:
  front: {}
  back:
    internal: true
    ipam: {config: [{subnet: 10.7.0.0/24, gateway: 10.7.0.254}]}
services:
  web:
    <<: *shell
    networks: [front]
    ports: ["8080:80", "8082:82"]
    extra_hosts: ["far:192.0.2.1"]
    environment: {NAME: web, PORT: "80"}
  beside:
    <<: *shell
    network_mode: service:web
    environment: {NAME: beside, PORT: "82"}
  app:
    <<: *shell
    networks: [front, back]
    environment: {NAME: app, PORT: "80"}
  db:
    <<: *shell
    networks:
      back: {aliases: [sql], ipv4_address: 10.7.0.9}
    environment: {NAME: db, PORT: "80"}
"#;

#[test]
fn networks_are_apart_and_an_internal_one_leads_nowhere() {
    let lan = lan();
    let _far = lan.serve("192.0.2.1:8000", |_| Response::ok("this is far\n"));
    let mut vm = Vm::direct(Build::standard()).on_lan(&lan).user_data(&node(APART)).boot();
    vm.expect_all(&[
        "service web running",
        "service db running",
        "service app running",
        "service beside running",
    ]);
    let web = format!("{NODE}:8080");

    shell_says(&lan, &web, &get("app", 80), "this is app");
    shell_says(&lan, &web, &by("app", &get("sql", 80)), "this is db");
    shell_says(&lan, &web, &get("far", 8000), "this is far");
    shell_says(&lan, &web, &by("app", &get("192.0.2.1", 8000)), "this is far");

    // Not from one network into another, neither by name nor by address.
    shell_says(&lan, &web, &format!("{} || echo no way", get("db", 80)), "no way");
    shell_says(&lan, &web, &format!("{} || echo no way", get("10.7.0.9", 80)), "no way");
    // Not out of an internal one, not even to the node.
    let out = by("db", &format!("{} || echo no way", get("192.0.2.1", 8000)));
    shell_says(&lan, &web, &by("app", &out), "no way");

    // Who shares a network shares its ports and its loopback.
    shell_says(&lan, &format!("{NODE}:8082"), &get("127.0.0.1", 80), "this is web");
    vm.power_off();
}
