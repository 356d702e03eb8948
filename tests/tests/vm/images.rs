//! Images are pulled from registries, kept, and never run when they are not what they are to be.

use std::fs::{self, File};
use std::time::Duration;

use vm_tests::{
    Build, Disk, Lan, Process, Registry, Request, Response, Vm, VmBuilder, busybox_image, busybox_program,
    directory,
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

/// Leaves images hardly any of the disk, until one has failed for want of room.
const HOG: &str = r#"  hog:
    image: busybox
    network_mode: none
    privileged: true
    pid: host
    volumes: ['data:/data']
    logging: {driver: console}
    command:
      - sh
      - -c
      - |
        rm -f /data/big
        free=$$(($$(stat -f -c %a /data) * 4096))
        busybox fallocate -l $$((free - (56 << 20))) /data/big && echo filled
        until grep -q 'no room' /proc/1/root/run/holdfast/images.json 2>/dev/null; do sleep 1; done
        cd /proc/1/root/var/lib/holdfast/images
        echo left over: $$(ls new layers/sha256 | grep -c erofs), $$(cat index.json 2>/dev/null | grep -c /app)
        rm /data/big && echo made room
        exec sleep 100000
volumes: {data: {}}
"#;

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

/// Answers requests for large blobs in this way, all others as they are.
fn of_layers(
    lie: impl Fn(Vec<u8>) -> Response + Send + Sync + 'static,
) -> impl Fn(&Request, Response) -> Response {
    move |request, honest| match honest {
        Response::Answer { body, .. } if request.path.contains("/blobs/") && body.len() > 100_000 => {
            lie(body)
        }
        honest => honest,
    }
}

#[test]
fn nothing_that_a_lying_registry_sends_is_run() {
    let harbour = Harbour::with_image("ahoy");
    harbour.registry.lies(of_layers(|mut body| {
        body[5000] ^= 1;
        Response::ok(body)
    }));
    let mut vm = harbour.boot(&app());
    vm.expect("image .*: cannot take its layer .* what was sent has the digest sha256:.*; it is tried again");
    harbour.registry.lies(of_layers(|body| Response::ok(&body[..1000])));
    vm.expect(
        "image .*: cannot fetch its layer .* sends 1000 bytes of it, and it has [0-9]+; it is tried again",
    );
    harbour.registry.lies(of_layers(|_| Response::Endless));
    vm.expect(
        "image .*: cannot fetch its layer .* sends more than the [0-9]+ bytes that it has; it is tried again",
    );
    vm.never_said("app: |accepted as generation");
    harbour.registry.is_honest();
    vm.expect("accepted as generation 1");
    vm.expect("app: ahoy");
    vm.power_off();
}

#[test]
fn what_a_power_cut_leaves_of_a_pull_is_not_used() {
    let harbour = Harbour::with_image("ahoy");
    harbour.registry.lies(of_layers(|body| {
        let head = format!("HTTP/1.1 200 x\r\nContent-Length: {}\r\n\r\n", body.len());
        Response::Stalled([head.as_bytes(), &body[..body.len() / 2]].concat(), Duration::from_secs(600))
    }));
    let mut vm = harbour.boot(&app());
    vm.expect("holdfast: image 192.0.2.1:5000/app:v1: pulling 2 layers");
    // Long enough for what came to be on the disk.
    std::thread::sleep(Duration::from_secs(10));
    vm.never_said("pulled, sha256:");
    vm.cut_power();

    harbour.registry.is_honest();
    let witness = "  witness:
    image: busybox
    network_mode: none
    privileged: true
    pid: host
    depends_on: [app]
    command: [sh, -c, 'echo left over: $$(ls /proc/1/root/var/lib/holdfast/images/new | wc -l)']
    logging: {driver: console}
";
    let mut vm = harbour.boot(&user_data(&format!("{REGISTRY}/app:v1"), witness));
    vm.expect_all(&["pulled, sha256:", "app: ahoy", "witness: left over: 0"]);
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

#[test]
fn an_image_that_finds_no_room_leaves_nothing_behind_and_is_pulled_once_there_is() {
    let harbour = Harbour::new();
    // Packed it is nothing, so that nobody knows before it is unpacked.
    let folder = directory().join("images");
    fs::create_dir_all(&folder).expect("target/vm-tests can be made");
    let large = File::create(folder.join("large")).and_then(|file| file.set_len(40 << 20));
    large.expect("a file can have holes");
    let layer = "[[layer]]\nfile = [{ path = 'words', text = 'ahoy' }, { path = 'large', from = 'large' }]\n";
    harbour.registry.push("app:v1", &busybox_image("large-app", layer));

    let mut vm = harbour.boot(&format!("#cloud-config\nservices:\n{HOG}"));
    vm.expect("hog: filled");
    vm.power_off();
    let mut vm = harbour.boot(&user_data(&format!("{REGISTRY}/app:v1"), HOG));
    vm.expect_all(&[
        "holdfast: config waits for 192.0.2.1:5000/app:v1: generation 1 keeps running",
        "hog: filled",
        "image 192.0.2.1:5000/app:v1: there is no room for it on the state partition: it takes [0-9]+ MiB or more, \
         and there are [0-9]+ MiB for images; remove what is not needed there, or use a larger disk; it is tried again",
        "hog: left over: 0, 0",
    ]);
    vm.expect("hog: made room");
    vm.expect("holdfast: image 192.0.2.1:5000/app:v1: pulled, sha256:");
    vm.expect("accepted as generation 2");
    vm.expect("app: ahoy");
    vm.never_said("service hog (exited|failed|stopped)|hog: .*(rror|annot)");
    vm.power_off();
}

#[test]
fn a_bit_that_changes_where_nothing_reads_is_found_when_everything_is_read() {
    let harbour = Harbour::new();
    let folder = directory().join("images");
    fs::create_dir_all(&folder).expect("target/vm-tests can be made");
    let unread: Vec<u8> = (0..40_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    fs::write(folder.join("unread"), &unread).expect("target/vm-tests can be written");
    let layer =
        "[[layer]]\nfile = [{ path = 'words', text = 'ahoy' }, { path = 'unread', from = 'unread' }]\n";
    harbour.registry.push("app:v1", &busybox_image("unread-app", layer));
    harbour.push("app:v2", "land in sight");

    let mut vm = harbour.boot(&app());
    vm.expect("app: ahoy");
    vm.power_off();
    let reader = "  reader:
    image: busybox
    network_mode: none
    privileged: true
    pid: host
    command: [sh, -c, 'while sleep 3; do kill -USR1 $$(busybox pidof holdfastd); done']
    logging: {driver: console}
";
    let next = user_data(&format!("{REGISTRY}/app:v2"), reader);
    let mut vm = harbour.boot(&next);
    vm.expect("accepted as generation 2");
    vm.expect("holdfast: images: read 3 layers, [0-9]+ MiB: 0 are damaged");
    vm.power_off();

    harbour.disk.flip_a_bit_in(&unread, "state");
    let mut vm = harbour.boot(&next);
    vm.expect("holdfast: images: read 3 layers, [0-9]+ MiB: 1 are damaged");
    vm.expect(
        "image 192.0.2.1:5000/app@sha256:[0-9a-f]+: the layer /var/lib/.*erofs, which nothing uses now, is damaged",
    );
    vm.expect("holdfast: image 192.0.2.1:5000/app@sha256:[0-9a-f]+: pulled");
    vm.expect("holdfast: images: read 3 layers, [0-9]+ MiB: 0 are damaged");
    vm.never_said("service app (exited|failed)|started again");
    vm.power_off();
}
