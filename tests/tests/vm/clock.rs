//! Whom the node believes when it asks what time it is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use vm_tests::{BRIDGE, Build, Disk, Lan, Process, Vm};

/// A service that says again and again what the clocks say: the system's and the hardware's.
const WATCH: &str = r#"
services:
  watch:
    image: busybox
    network_mode: none
    command: [sh, -c, "while sleep 1; do echo time $$(date +%s) hardware $$(cat /sys/class/rtc/rtc0/since_epoch) end; done"]
    logging: {driver: console}
"#;

/// User-data with these words below `ntp`.
fn asking(ntp: &str) -> String {
    format!("#cloud-config\nntp: {ntp}{WATCH}")
}

/// A network with a DHCP server, and with these addresses for time servers.
fn lan(servers: &[&str]) -> (Lan, Process) {
    lan_saying(servers, &[])
}

/// The same, whose DHCP server has these options.
fn lan_saying(servers: &[&str], options: &[&str]) -> (Lan, Process) {
    let lan = Lan::new();
    lan.address("192.0.2.1/24");
    for server in servers {
        lan.address(&format!("{server}/32"));
    }
    let interface = format!("--interface={BRIDGE}");
    let range = "--dhcp-range=192.0.2.50,192.0.2.59,10m";
    let quiet = ["--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--dhcp-leasefile=/dev/null"];
    let dhcp = lan.spawn(&[&["dnsmasq", &interface, range], quiet.as_slice(), options].concat());
    (lan, dhcp)
}

/// Debian's chrony, which tells this machine's time and does not touch it.
fn chrony(lan: &Lan) -> Process {
    let process = std::process::id();
    let pid_file = format!("pidfile /tmp/holdfast-tests-chronyd-{process}.pid");
    let settings = ["local stratum 8", "allow", "cmdport 0", "bindcmdaddress /", &pid_file];
    lan.spawn(&[&["chronyd", "-d", "-x", "-u", "root"], settings.as_slice()].concat())
}

/// Waits until the guest's clock is right to a few seconds; the line comes from afar. Fails when it is wrong for long.
#[track_caller]
fn is_right(vm: &mut Vm, clock: &str) {
    for _ in 0..30 {
        vm.expect("watch: time [0-9]+ hardware [0-9]+ end");
        let line =
            vm.lines("watch: time [0-9]+ hardware [0-9]+ end").pop().expect("the line that was expected");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("this machine's clock is after 1970");
        if number(&line, clock).abs_diff(now.as_secs()) <= 5 {
            return;
        }
    }
    panic!("the guest's clock ({clock}) does not become right");
}

/// The number behind a word of a line.
fn number(line: &str, word: &str) -> u64 {
    let mut words = line.split_ascii_whitespace().skip_while(|w| *w != word).skip(1);
    words
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("no number behind {word}: {line}"))
}

#[test]
fn a_clock_in_1970_is_put_right_by_chrony_and_is_known_at_the_next_boot() {
    let build = Build::standard();
    let disk = Disk::of(&build);
    let (lan, _dhcp) = lan(&[]);
    let _chrony = chrony(&lan);
    let user_data = asking("{servers: [192.0.2.1]}");
    let boot = || Vm::direct(build.clone()).on(&disk).clock("1970-01-01").user_data(&user_data);

    let mut vm = boot().on_lan(&lan).boot();
    vm.expect("holdfast: clock raised by [0-9]{9,}");
    vm.expect(r"holdfast: clock stepped by \+[0-9.]+ s from 192\.0\.2\.1");
    is_right(&mut vm, "time");
    is_right(&mut vm, "hardware");
    assert_eq!(vm.lines("holdfast: clock stepped").len(), 1, "it was stepped again");
    vm.power_off();

    let before = SystemTime::now().duration_since(UNIX_EPOCH).expect("this machine's clock is after 1970");
    let mut vm = boot().without_network().boot();
    vm.expect("watch: time [0-9]+ hardware [0-9]+ end");
    let line = vm.lines("watch: time").pop().expect("the line that was expected");
    let known = number(&line, "time");
    assert!(known.abs_diff(before.as_secs()) < 60, "the last time was forgotten: {line}");
    vm.power_off();
}

#[test]
fn a_false_server_among_three_is_not_followed() {
    let (lan, _dhcp) = lan(&["192.0.2.2", "192.0.2.3"]);
    let hour = Duration::from_secs(3600);
    let _right = lan.tell_time("192.0.2.1", Duration::ZERO);
    let false_one = lan.tell_time("192.0.2.2", hour);
    let _also_right = lan.tell_time("192.0.2.3", Duration::from_millis(3));
    let user_data = asking("{servers: [192.0.2.2, 192.0.2.1, 192.0.2.3]}");
    let mut vm = Vm::direct(Build::standard()).on_lan(&lan).clock("1970-01-01").user_data(&user_data).boot();
    vm.expect(r"holdfast: clock stepped by \+[0-9.]+ s from 192\.0\.2\.[13]");
    is_right(&mut vm, "time");
    assert!(false_one.asked() > 0, "nobody has asked the false one");
    vm.power_off();
}

#[test]
fn two_servers_that_disagree_leave_the_clock_alone() {
    let (lan, _dhcp) = lan(&["192.0.2.2"]);
    let _right = lan.tell_time("192.0.2.1", Duration::ZERO);
    let _false_one = lan.tell_time("192.0.2.2", Duration::from_secs(3600));
    let user_data = asking("{servers: [192.0.2.1, 192.0.2.2]}");
    let mut vm = Vm::direct(Build::standard()).on_lan(&lan).user_data(&user_data).boot();
    vm.expect("holdfast: clock: the time servers disagree");
    vm.never_said("clock stepped");
    is_right(&mut vm, "time");
    vm.power_off();
}

#[test]
fn the_network_may_name_the_server() {
    let (lan, _dhcp) = lan_saying(&["192.0.2.9"], &["--dhcp-option=option:ntp-server,192.0.2.9"]);
    let _right = lan.tell_time("192.0.2.9", Duration::ZERO);
    let user_data = format!("#cloud-config\n{}", WATCH.trim_start());
    let mut vm = Vm::direct(Build::standard()).on_lan(&lan).clock("1970-01-01").user_data(&user_data).boot();
    vm.expect(r"holdfast: clock stepped by \+[0-9.]+ s from 192\.0\.2\.9");
    is_right(&mut vm, "time");
    vm.power_off();
}

#[test]
fn nobody_is_asked_when_the_configuration_says_so() {
    let (lan, _dhcp) = lan(&[]);
    let server = lan.tell_time("192.0.2.1", Duration::ZERO);
    let user_data = asking("{enabled: false, servers: [192.0.2.1]}");
    let mut vm = Vm::direct(Build::standard()).on_lan(&lan).user_data(&user_data).boot();
    vm.expect("holdfast: address eth0 192.0.2.5");
    for _ in 0..5 {
        vm.expect("watch: time");
    }
    assert_eq!(server.asked(), 0, "it was asked");
    vm.power_off();
}

#[test]
fn the_first_certificate_is_judged_when_the_clock_is_right() {
    let build = Build::standard();
    let disk = Disk::of(&build);
    let (lan, _dhcp) = lan(&[]);
    let _right = lan.tell_time("192.0.2.1", Duration::ZERO);
    let boot = |user_data: &str| {
        Vm::direct(build.clone()).on(&disk).on_lan(&lan).clock("1970-01-01").user_data(user_data).boot()
    };
    let mut vm = boot(&asking("{servers: [192.0.2.1]}"));
    vm.expect("holdfast: clock stepped");
    vm.expect("watch: time");
    vm.power_off();

    // Nobody answers there; it fails at once when it is tried.
    let mut vm = boot("#include\nhttps://192.0.2.1/more\n");
    vm.expect("https://192.0.2.1/more not included");
    let order = vm.lines("holdfast: clock (stepped|is right)|https://192.0.2.1/more not included");
    assert!(order[0].contains("holdfast: clock"), "the certificate came first: {order:#?}");
    vm.power_off();
}
