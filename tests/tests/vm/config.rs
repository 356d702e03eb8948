//! What the machine keys say is so on the node.

use vm_tests::{BRIDGE, Build, Lan, Response, Vm};

/// `keys`, and a service that looks at the host with `script` and says what it sees.
fn with_look(keys: &str, script: &str) -> String {
    let script = format!("cd /proc/1/root; {script}; echo looked");
    format!(
        "#cloud-config\n{keys}\nservices:\n  look:\n    image: busybox\n    network_mode: host\n    privileged: true\n    \
         pid: host\n    command: [sh, -c, {script:?}]\n    logging: {{driver: console}}\n"
    )
}

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

#[test]
fn names_hosts_and_time_zone_are_set() {
    let keys = "fqdn: web.example.com\nmanage_etc_hosts: true\ntimezone: Europe/Berlin\nfinal_message: 'done by $DATASOURCE'";
    let look = "hostname; cat etc/hostname; cat etc/hosts; readlink etc/localtime; cat etc/timezone";
    let mut vm = Vm::direct(Build::standard()).user_data(&with_look(keys, look)).boot();
    vm.expect_all(&[
        "look: web$",
        "look: 127.0.1.1 web.example.com web$",
        "look: 127.0.0.1 localhost",
        "look: /usr/share/zoneinfo/Europe/Berlin",
        "look: Europe/Berlin",
        "look: looked",
        "holdfast: done by NoCloud",
    ]);
    assert_eq!(vm.lines("look: web$").len(), 2, "one of the two names is another one");
    vm.power_off();
}

#[test]
fn files_are_written_with_mode_owner_and_content() {
    let keys = r#"write_files:
  - {path: /etc/app/one, content: "first\n", permissions: 0640, owner: '101:102'}
  - {path: /etc/app/one, content: "second\n", permissions: 0640, owner: '101:102', append: true}
  - {path: /etc/hosts, content: "10.0.0.9 db\n", append: true}
  - {path: /opt/tool/run, encoding: gz+b64, content: H4sIAAAAAAACA8vILypO5QIA6gTZIQYAAAA=, permissions: '0755'}
  - {path: /var/lib/app/late, content: late, defer: true}
  - {path: /nowhere/file, content: lost}"#;
    let look = "cat etc/app/one; stat -c '%a %u %g' etc/app/one; tail -n 1 etc/hosts; \
                stat -c 'run %a' opt/tool/run; cat opt/tool/run; cat var/lib/app/late; echo; grep -o write_files run/holdfast/config.json";
    let mut vm = Vm::direct(Build::standard()).user_data(&with_look(keys, look)).boot();
    vm.expect("holdfast: config write_files: cannot write /nowhere/file .*[Rr]ead-only");
    for line in [
        "look: first",
        "look: second",
        "look: 640 101 102",
        "look: 10.0.0.9 db",
        "look: run 755",
        "look: horse",
        "look: late",
        "look: write_files",
        "look: looked",
    ] {
        vm.expect(line);
    }
    vm.power_off();
}

#[test]
fn keys_parameters_and_modules_are_set() {
    let keys = format!(
        "ssh_authorized_keys: ['{KEY} one']\nusers: [{{name: anna, ssh_authorized_keys: ['{KEY} two']}}]\n\
         random_seed: {{data: 'some bytes'}}\n\
         holdfast:\n  sysctl: {{net.core.somaxconn: 1234, net.core.nothing: 1}}\n  modules: [vmxnet3, nothing]"
    );
    let look = "cat var/lib/holdfast/keys/users/core; cat var/lib/holdfast/keys/users/anna; \
                stat -c '%a' var/lib/holdfast/keys/users/anna; cat proc/sys/net/core/somaxconn; ls -d sys/module/vmxnet3; \
                stat -c 'host key %a' var/lib/holdfast/keys/host/ssh_host_ed25519_key; cat var/lib/holdfast/keys/host/*.pub";
    let mut vm = Vm::direct(Build::standard()).user_data(&with_look(&keys, look)).boot();
    vm.expect_all(&[
        "holdfast: config holdfast.sysctl: cannot set net.core.nothing to '1': this kernel has no such parameter",
        "holdfast: config holdfast.modules: the kernel module 'nothing' is not in this release",
    ]);
    for line in [
        "look: ssh-ed25519 .* one$",
        "look: ssh-ed25519 .* two$",
        "look: 600",
        "look: 1234",
        "look: sys/module/vmxnet3",
        "look: host key 600",
        "look: ssh-ed25519 AAAA",
        "look: looked",
    ] {
        vm.expect(line);
    }
    vm.power_off();
}

#[test]
fn authorities_are_trusted_by_the_node_and_its_containers() {
    // Any block of base64 that is long enough: nobody on the node looks into it.
    let certificate =
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----", "Zm9v".repeat(40));
    let keys = format!(
        "ca_certs:\n  remove_defaults: true\n  trusted:\n    - |\n      {}",
        certificate.replace('\n', "\n      ")
    );
    let look = "grep -c . etc/ssl/certs/ca-certificates.crt";
    // The first time there is no such directory in the container: it makes one, fails, and is started again.
    let container = "  app:
    image: busybox
    network_mode: none
    restart: on-failure
    command:
      - sh
      - -c
      - cd /etc/ssl/certs || { mkdir -p /etc/ssl/certs; exit 1; };
        cat ca-certificates.crt; echo x > ca-certificates.crt; echo tried
    logging: {driver: console}
";
    let mut vm = Vm::direct(Build::standard()).user_data(&(with_look(&keys, look) + container)).boot();
    vm.expect_all(&["look: 3$", "app: Zm9vZm9v", "app: .*[Rr]ead-only file system", "app: tried"]);
    vm.power_off();
}

#[test]
fn a_file_is_fetched_and_somebody_is_told() {
    let lan = Lan::new();
    lan.address("192.0.2.1/24");
    let interface = format!("--interface={BRIDGE}");
    let quiet = ["--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--dhcp-leasefile=/dev/null"];
    let range = ["--dhcp-range=192.0.2.50,192.0.2.50,10m", &interface];
    let _dhcp = lan.spawn(&[&["dnsmasq"], &quiet[..], &range].concat());
    let server = lan.serve("192.0.2.1:80", |request| match request.path.as_str() {
        "/motd" => Response::ok("fetched\n"),
        _ => Response::ok(""),
    });
    let keys = "hostname: harbour
phone_home: {url: 'http://192.0.2.1/here/$INSTANCE_ID', post: [hostname, pub_key_ed25519, instance_id]}
write_files:
  - {path: /etc/motd, content: 'not this', source: {uri: 'http://192.0.2.1/motd', headers: {X-Token: secret}}}
  - {path: /etc/other, content: this, source: {uri: 'http://192.0.2.1:81/other'}}";
    let mut vm = Vm::direct(Build::standard())
        .on_lan(&lan)
        .user_data(&with_look(keys, "cat etc/motd; cat etc/other; echo"))
        .boot();
    vm.expect("holdfast: config write_files: cannot ask http://192.0.2.1:81/other");
    vm.expect_all(&["look: fetched", "look: this", "holdfast: phone_home: done"]);
    vm.never_said("secret");
    vm.power_off();
    let requests = server.requests();
    let of = |path: &str| requests.iter().find(|request| request.path == path).expect("it was asked for");
    assert_eq!(of("/motd").header("x-token"), Some("secret"));
    let told = String::from_utf8_lossy(&of("/here/image-build").body).into_owned();
    assert!(told.contains("hostname=harbour") && told.contains("instance_id=image-build"), "{told}");
    assert!(told.contains("pub_key_ed25519=ssh-ed25519"), "{told}");
}

#[test]
fn power_is_switched_off_once_per_instance() {
    let keys = "power_state: {mode: poweroff, message: 'that was it'}";
    let build = Build::standard();
    let disk = vm_tests::Disk::of(&build);
    let mut vm = Vm::direct(build.clone()).on(&disk).user_data(&with_look(keys, "true")).boot();
    vm.expect("holdfast: that was it");
    vm.expect("holdfast: asked to power off by the agent");
    vm.power_off();
    let again = || Vm::direct(build.clone()).on(&disk).user_data(&with_look(keys, "true"));
    let mut vm = again().boot();
    vm.expect("look: looked");
    std::thread::sleep(std::time::Duration::from_secs(10));
    vm.never_said("asked to power off");
    vm.power_off();
    // The same disk as another instance, such as a copy of it.
    let mut vm = again().smbios("type=1,serial=ds=nocloud;i=another").boot();
    vm.expect("holdfast: asked to power off by the agent");
    vm.power_off();
}

#[test]
fn the_example_of_a_machine_boots() {
    let example =
        std::fs::read_to_string(vm_tests::project().join("examples/machine.yaml")).expect("the example");
    let mut vm = Vm::direct(Build::standard()).disk_size("3G").user_data(&example).boot();
    vm.expect("holdfast: config .* accepted as generation 1");
    vm.expect_all(&[
        "greeter: Welcome to harbour",
        "holdfast: swap: 128 MiB in /var/swap.img",
        r"holdfast: harbour is up after \d+\.\d+ s",
    ]);
    vm.never_said("holdfast: config (warning|error|write_files|swap|holdfast)");
    vm.power_off();
}
