//! What a node makes of the network it is plugged into.

use vm_tests::{BRIDGE, Build, Lan, Vm};

use crate::WEB;

#[test]
fn a_dhcp_server_gives_an_address() {
    let lan = Lan::new();
    lan.address("192.0.2.1/24");
    let range = "--dhcp-range=192.0.2.50,192.0.2.50,10m";
    let interface = format!("--interface={BRIDGE}");
    let _server = lan.spawn(&[
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--port=0",
        "--dhcp-leasefile=/dev/null",
        &interface,
        range,
    ]);
    let mut vm = Vm::direct(Build::standard()).on_lan(&lan).user_data(WEB).boot();
    vm.expect("holdfast: address eth0 192.0.2.50");
    vm.power_off();
}
