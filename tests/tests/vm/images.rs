//! Images are pulled from registries, kept, and never run when they are not what they are to be.

use vm_tests::{
    Build, Disk, Lan, Process, Registry, Response, Vm, VmBuilder, busybox_image, busybox_program,
};

use crate::datasources::lan_with;

const REGISTRY: &str = "192.0.2.1:5000";

/// A network with a registry, and a machine on it with a disk of its own.
struct Harbour {
    lan: Lan,
    _dhcp: Process,
    registry: Registry,
    disk: Disk,
}

impl Harbour {
    fn new() -> Self {
        let (lan, dhcp) = lan_with(&[]);
        let registry = Registry::start(&lan, REGISTRY);
        Self { registry, disk: Disk::of(&Build::standard()), lan, _dhcp: dhcp }
    }

    /// A registry that has an image which says `words`.
    fn with_image(words: &str) -> Self {
        let harbour = Self::new();
        harbour.push("app:v1", words);
        harbour
    }

    /// Gives the registry an image which says `words`; gives its digest.
    fn push(&self, name: &str, words: &str) -> String {
        let layer = format!("[[layer]]\nfile = [{{ path = \"words\", text = {words:?} }}]\n");
        self.registry.push(name, &busybox_image(&words.replace(' ', "-"), &layer))
    }

    fn boot(&self, user_data: &str) -> Vm {
        self.machine(user_data).boot()
    }

    fn machine(&self, user_data: &str) -> VmBuilder {
        Vm::direct(Build::standard()).on(&self.disk).on_lan(&self.lan).user_data(user_data)
    }
}

/// One service that says what its image has to say.
fn user_data(image: &str, more: &str) -> String {
    format!(
        "#cloud-config
holdfast: {{registry: {{insecure: ['{REGISTRY}']}}}}
services:
  app:
    image: '{image}'
    network_mode: none
    command: [sh, -c, 'cat /words; echo; exec sleep 100000']
    logging: {{driver: console}}
{more}"
    )
}

fn app() -> String {
    user_data(&format!("{REGISTRY}/app:v1"), "")
}

#[test]
fn an_image_is_pulled_once_and_found_without_a_network_at_the_next_boot() {
    let harbour = Harbour::with_image("ahoy");
    let mut vm = harbour.boot(&app());
    vm.expect("holdfast: image 192.0.2.1:5000/app:v1: pulling 2 layers, .* from http://192.0.2.1:5000");
    vm.expect("holdfast: image 192.0.2.1:5000/app:v1: pulled, sha256:");
    vm.expect("accepted as generation 1");
    vm.expect("app: ahoy");
    vm.power_off();

    let asked = harbour.registry.requests().len();
    let mut vm = Vm::direct(Build::standard()).on(&harbour.disk).without_network().user_data(&app()).boot();
    vm.expect_all(&["app: ahoy", "unchanged, generation 1"]);
    vm.never_said("pulling");
    vm.power_off();
    assert_eq!(harbour.registry.requests().len(), asked);
}

#[test]
fn an_image_that_cannot_be_had_leaves_the_last_generation_running_until_it_can() {
    let harbour = Harbour::with_image("ahoy");
    let mut vm = harbour.boot(&app());
    vm.expect("app: ahoy");
    vm.power_off();

    let next = user_data(&format!("{REGISTRY}/app:v2"), "");
    harbour.registry.lies(|_, _| Response::status(500, "oops"));
    let mut vm = harbour.boot(&next);
    vm.expect_all(&[
        "holdfast: config waits for 192.0.2.1:5000/app:v2: generation 1 keeps running",
        "holdfast: image 192.0.2.1:5000/app:v2: cannot find it: .* answered with status 500 .*; it is tried again",
        "app: ahoy",
    ]);
    harbour.registry.is_honest();
    harbour.push("app:v2", "land in sight");
    vm.expect("accepted as generation 2");
    vm.expect("app: land in sight");
    vm.power_off();
}

#[test]
fn a_registry_that_is_away_at_the_first_boot_needs_no_other_boot() {
    let (lan, _dhcp) = lan_with(&[]);
    let mut vm = Vm::direct(Build::standard()).on_lan(&lan).user_data(&app()).boot();
    vm.expect("holdfast: config waits for 192.0.2.1:5000/app:v1: there is no earlier generation");
    vm.expect("holdfast: image 192.0.2.1:5000/app:v1: cannot find it: .*; it is tried again until it works");
    let registry = Registry::start(&lan, REGISTRY);
    registry.push("app:v1", &busybox_image("late", "[[layer]]\nfile = [{path = 'words', text = 'at last'}]"));
    vm.expect("app: at last");
    vm.power_off();
}

#[test]
fn a_bit_that_changes_on_the_disk_is_found_and_its_layer_pulled_again() {
    let harbour = Harbour::with_image("ahoy");
    let mut vm = harbour.boot(&app());
    vm.expect("app: ahoy");
    vm.power_off();

    harbour.disk.flip_a_bit_in(&busybox_program(&busybox_image("ahoy", "")), "state");
    let mut vm = harbour.boot(&app());
    vm.expect_all(&[
        r"fs-verity \(vda\d+, inode \d+\): FILE CORRUPTED!",
        "holdfast: cannot run app: cannot execute sh: .*: its layer has changed on the disk, and is pulled again",
        "holdfast: image 192.0.2.1:5000/app@sha256:[0-9a-f]+: the layer /var/lib/.*erofs is damaged or gone",
    ]);
    vm.expect("holdfast: image 192.0.2.1:5000/app@sha256:[0-9a-f]+: pulled");
    vm.expect("app: ahoy");
    vm.power_off();
}
