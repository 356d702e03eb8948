//! The output of services on the state partition: its form, its bounds, that it goes on whatever dies, and that it reaches
//! those who are to get it.

use std::io::Read;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use vm_tests::{Build, Disk, Response, Vm};

use crate::datasources::lan_with;

/// Services that log to files, and a privileged one that runs `look` among the node's files and says what it finds.
fn node(services: &str, look: &str) -> String {
    format!(
        "#cloud-config\nservices:\n{services}  look:\n    image: busybox\n    network_mode: none\n    privileged: true\n    \
         pid: host\n    logging: {{driver: console}}\n    command: [sh, -c, {look:?}]\n"
    )
}

/// A service called `name` that runs `script`, with `keys`.
fn service(name: &str, script: &str, keys: &str) -> String {
    format!(
        "  {name}:\n    image: busybox\n    network_mode: none\n    command: [sh, -c, {script:?}]\n{keys}"
    )
}

#[test]
fn logs_are_lines_with_their_stream_in_files_of_bounded_size_and_number() {
    let streams = "echo out; echo err >&2; printf half; sleep 1; echo ' and half'; printf cut";
    let count = "i=0; while [ $$i -lt 2000 ]; do echo line $$i; i=$$((i+1)); done; sleep 100000";
    let flood = "yes $$(printf %01000d 0 | busybox tr 0 x) | head -c 12000000; echo; sleep 5; echo survived; sleep 100000";
    let services = [
        service("streams", streams, ""),
        service(
            "count",
            count,
            "    logging: {driver: json-file, options: {max-size: 16k, max-file: '3'}}\n",
        ),
        service("flood", flood, ""),
    ];
    let look = "cd /proc/1/root/var/log/holdfast; \
                until grep -q survived flood.log && grep -q 'line 1999' count.log; do sleep 1; done; \
                grep -cE '^[0-9-]{10}T[0-9:]{8}[.][0-9]{9}Z (stdout|stderr) [FP] ' streams.log; cut -d ' ' -f 2- streams.log; \
                ls count.log*; find . -name 'count.log*' -size +32 | wc -l; \
                cat count.log.2 count.log.1 count.log | cut -d ' ' -f 5 | busybox awk 'NR > 1 && $$1 != last + 1 {print \"gap\"} {last = $$1}'; \
                grep -o '[[][0-9]* lines dropped: over [0-9]*' flood.log; echo looked";
    let mut vm = Vm::direct(Build::standard()).user_data(&node(&services.concat(), look)).boot();
    vm.expect_all(&[
        "look: 4$",
        "look: stdout F out",
        "look: stderr F err",
        "look: stdout F half and half",
        "look: stdout F cut",
        "look: count.log.2",
        "look: 0$",
        r"look: \[\d+ lines dropped: over 262144",
        "look: looked",
    ]);
    vm.never_said("look: gap");
    vm.never_said("look: count.log.3");
    vm.power_off();
}

#[test]
fn a_full_disk_costs_lines_and_not_the_service() {
    // The last block of a file has room for more: long lines need new ones.
    let tick = "i=0; pad=$$(printf %03000d 0); while :; do echo tick $$i $$pad; i=$$((i+1)); sleep 1; done";
    let look = "cd /proc/1/root/var; until grep -q 'tick 3' log/holdfast/tick.log; do sleep 1; done; \
                for size in 1G 512M 256M 128M 64M 32M 16M 8M 4M 2M 1M 512k 256k 128k 64k 32k 16k 8k 4k; do \
                for n in 1 2 3 4; do : > fill-$$size-$$n && fallocate -l $$size fill-$$size-$$n 2> /dev/null || break; done; done; \
                before=$$(wc -l < log/holdfast/tick.log); sleep 9; \
                echo rose by $$(($$(wc -l < log/holdfast/tick.log) - before)); rm fill-*; \
                until grep -q 'lines could not' log/holdfast/tick.log; do sleep 1; done; \
                grep -o '[[][0-9]* lines could not be written.' log/holdfast/tick.log; sleep 2; tail -n 1 log/holdfast/tick.log | cut -c 1-60; \
                echo looked";
    let build = Build::standard();
    let disk = Disk::of(&build);
    let config = node(&service("tick", tick, ""), look);
    let mut vm = Vm::direct(build).on(&disk).user_data(&config).boot();
    vm.expect("look: rose by");
    vm.expect(r"look: \[\d+ lines could not be written\]");
    vm.expect("look: .* stdout F tick");
    vm.expect("look: looked");
    vm.never_said("service tick exited");
    vm.power_off();
}

#[test]
fn a_log_goes_on_whatever_dies() {
    let tick = "i=0; while :; do echo tick $$i; i=$$((i+1)); sleep 1; done";
    let look = "cd /proc/1/root/var/log/holdfast; wait() { until grep -q \"$$1\" tick.log; do sleep 1; done; }; wait 'tick 2'; \
                kill -9 $$(pidof holdfastd); wait 'tick 5'; \
                cut -d ' ' -f 4- tick.log | head -n 6 | busybox tr '\\n' ,; echo; \
                for p in /proc/[0-9]*; do tr '\\0' ' ' < $$p/cmdline | grep -q '^[^ ]*shim-holdfast-v1 run .*/tick ' && kill -9 $${p#/proc/}; done; \
                until [ $$(grep -c 'tick 0' tick.log) = 2 ]; do sleep 1; done; grep -c 'tick 5' tick.log; echo looked";
    let config = node(&service("tick", tick, "    restart: always\n"), look);
    let mut vm = Vm::direct(Build::standard()).user_data(&config).boot();
    vm.expect("look: tick 0,tick 1,tick 2,tick 3,tick 4,tick 5,");
    vm.expect("look: 1$");
    vm.expect("look: looked");
    vm.power_off();
}

/// The numbers of the ticks in these lines, each once, in the order of their first coming.
fn ticks<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<u32> {
    let mut ticks: Vec<u32> = Vec::new();
    for line in lines {
        let number = line.rsplit("tick ").next().and_then(|rest| rest.split('"').next()?.parse().ok());
        ticks.extend(number.filter(|number| !ticks.contains(number)));
    }
    ticks
}

/// The messages of a connection, each behind its length, as far as they have come whole.
fn messages(mut bytes: &str) -> Vec<&str> {
    let mut messages = Vec::new();
    while let Some((length, rest)) = bytes.split_once(' ') {
        let length = length.parse().unwrap_or_else(|_| panic!("'{length}' is no length"));
        let Some(message) = rest.get(..length) else { break };
        messages.push(message);
        bytes = &rest[length..];
    }
    messages
}

#[test]
fn logs_reach_receivers_that_come_late_and_an_agent_that_is_killed_forgets_none() {
    let (lan, _dhcp) = lan_with(&["192.0.2.9/32"]);
    let up = Arc::new(AtomicBool::new(false));
    let is_up = Arc::clone(&up);
    let web = lan.serve("192.0.2.9:80", move |_| match is_up.load(Ordering::Relaxed) {
        true => Response::ok(""),
        false => Response::status(503, ""),
    });
    let tick = "i=0; while :; do echo tick $$i; i=$$((i+1)); sleep 1; done";
    let look = "sleep 20; kill -9 $$(pidof holdfastd); echo killed the agent";
    let forward = "hostname: harbour\nholdfast:\n  logs:\n    forward:\n      - tcp://192.0.2.9:601\n      \
                   - {to: 'http://192.0.2.9/in', headers: {X-Token: secret}}\n";
    let config = node(&service("tick", tick, ""), look);
    let config = config.replace("#cloud-config\n", &format!("#cloud-config\n{forward}"));
    let mut vm = Vm::direct(Build::standard()).on_lan(&lan).user_data(&config).boot();
    vm.expect_all(&[
        "holdfast: logs: .*; it is tried again until http://192.0.2.9 takes them",
        "holdfast: logs: cannot connect to tcp://192.0.2.9:601: .*; it is tried again until",
    ]);
    up.store(true, Ordering::Relaxed);
    let syslog = lan.inside(|| TcpListener::bind("192.0.2.9:601").expect("an address of the network"));
    let connections = Arc::<Mutex<Vec<String>>>::default();
    let hearing = Arc::clone(&connections);
    std::thread::spawn(move || {
        for mut stream in syslog.incoming().flatten() {
            hearing.lock().expect("nobody panics").push(String::new());
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..length]);
                hearing.lock().expect("nobody panics").last_mut().expect("one at least").push_str(&text);
            }
        }
    });
    let heard = || -> Vec<String> {
        let connections = connections.lock().expect("nobody panics");
        connections.iter().flat_map(|text| messages(text)).map(str::to_owned).collect()
    };
    vm.expect("look: killed the agent");
    vm.expect("holdfast: agent running");
    let posted = || -> Vec<String> {
        let taken = web.requests().into_iter().filter(|request| request.path == "/in");
        taken
            .flat_map(|request| {
                String::from_utf8_lossy(&request.body).lines().map(str::to_owned).collect::<Vec<_>>()
            })
            .collect()
    };
    let got = |lines: &[String]| ticks(lines.iter().map(String::as_str));
    let deadline = Instant::now() + Duration::from_secs(180);
    while got(&posted()).len() <= 40 || got(&heard()).len() <= 40 {
        assert!(Instant::now() < deadline, "{:?} {:?}", posted(), heard());
        std::thread::sleep(Duration::from_millis(500));
    }
    for (who, ticks) in [("syslog", got(&heard())), ("HTTP", got(&posted()))] {
        assert!(ticks.iter().copied().eq(0..u32::try_from(ticks.len()).expect("few")), "{who}: {ticks:?}");
    }
    assert!(
        heard()[0].starts_with("<30>1 20") && heard()[0].ends_with("Z harbour tick - stdout - tick 0"),
        "{:?}",
        heard()
    );
    let object = r#""host":"harbour","service":"tick","stream":"stdout","text":"tick 0","time":"20"#;
    assert!(posted()[0].contains(object), "{:?}", posted());
    assert!(web.requests().iter().all(|request| request.header("x-token") == Some("secret")));
    vm.power_off();
}
