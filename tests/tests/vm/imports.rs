//! Images come from files: on a disk, or at an address.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use vm_tests::{
    Build, Disk, Response, Vm, archive, busybox_image, busybox_program, directory, docker_save, gzip, iso_of,
    project,
};

use crate::datasources::lan_with;

/// An image which says `words`, as an OCI layout.
fn image(words: &str) -> std::path::PathBuf {
    busybox_image(words, &format!("[[layer]]\nfile = [{{ path = 'words', text = '{words}' }}]\n"))
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-r").args([from, to]).status();
    assert!(status.expect("cp starts").success(), "{} can be copied", from.display());
}

const OLD: &str = "#cloud-config
services:
  old: {image: busybox, network_mode: none, command: [sleep, '100000']}
";

#[test]
fn images_on_a_disk_are_imported_once_and_again_when_they_are_damaged() {
    let saved = image("saved-by-docker");
    let folder = directory().join("files");
    fs::create_dir_all(&folder).expect("target/vm-tests can be made");
    copy(&gzip(&docker_save(&saved, "saved", "1")), &folder.join("saved.tar.gz"));
    copy(&archive(&image("archive-of-a-layout")), &folder.join("layout.tar"));
    copy(&image("layout-itself"), &folder.join("layout"));
    let files = iso_of(&folder, "images");

    let user_data = fs::read_to_string(project().join("examples/imports.yaml")).expect("the example");
    let disk = Disk::of(&Build::standard());
    let machine =
        |user_data: &str| Vm::direct(Build::standard()).on(&disk).without_network().user_data(user_data);
    let said = ["saved: saved-by-docker", "archive: archive-of-a-layout", "layout: layout-itself"];

    let mut vm = machine(OLD).boot();
    vm.expect("accepted as generation 1");
    vm.power_off();
    // What runs keeps running meanwhile, and the disk is only named by what waits for it.
    let mut vm = machine(&user_data).drive(&files).boot();
    vm.expect_all(&[
        "holdfast: config waits for docker.io/library/.*: generation 1 keeps running",
        "holdfast: mounts: /dev/vdc is on /var/srv/images",
        "image docker.io/library/saved:1: importing it from /srv/images/saved.tar.gz, .* MB",
        "image docker.io/library/archive:1: importing it from /srv/images/layout.tar, .* MB",
        "image docker.io/library/layout:1: importing it from /srv/images/layout",
        "image docker.io/library/saved:1: imported, sha256:[0-9a-f]{64}",
        "image docker.io/library/archive:1: imported, sha256:[0-9a-f]{64}",
        "image docker.io/library/layout:1: imported, sha256:[0-9a-f]{64}",
        "accepted as generation 2",
    ]);
    vm.expect_all(&said);
    vm.power_off();

    let mut vm = machine(&user_data).boot();
    vm.expect_all(&said);
    vm.never_said("importing|pulling");
    vm.power_off();

    disk.flip_a_bit_in(&busybox_program(&saved), "state");
    let mut vm = machine(&user_data).drive(&files).boot();
    vm.expect_all(&[
        r"fs-verity \(vda\d+, inode \d+\): FILE CORRUPTED!",
        "holdfast: image .*docker.io/library/saved:1@sha256:[0-9a-f]+.*: the layer /var/lib/.*erofs is damaged or gone",
    ]);
    vm.expect("image docker.io/library/saved:1@sha256:[0-9a-f]+: imported");
    vm.expect_all(&said);
    vm.never_said("pulling");
    vm.power_off();
}

#[test]
fn an_image_at_an_address_is_taken_when_it_is_the_right_one() {
    let good = fs::read(gzip(&archive(&image("from-afar")))).expect("the archive can be read");
    let file = directory().join("sum");
    fs::write(&file, &good).expect("target/vm-tests can be written");
    let sum = Command::new("sha256sum").arg(&file).output().expect("sha256sum starts").stdout;
    let sum = String::from_utf8_lossy(&sum[..64]).into_owned();

    let (lan, _dhcp) = lan_with(&[]);
    let head = format!("HTTP/1.1 200 x\r\nContent-Length: {}\r\n\r\n", good.len());
    let cut = [head.as_bytes(), &good[..good.len() / 2]].concat();
    let answer = Arc::new(Mutex::new(Response::Raw(cut)));
    let given = Arc::clone(&answer);
    let server =
        lan.serve("192.0.2.1:8000", move |_| given.lock().expect("nobody panics with this lock").clone());
    let gives = |response| *answer.lock().expect("nobody panics with this lock") = response;
    let user_data = format!(
        "#cloud-config
holdfast:
  images: [{{name: 'app:1', from: 'http://192.0.2.1:8000/app.tar.gz?key=secret', sha256: {sum}}}]
services:
  app:
    image: 'app:1'
    network_mode: none
    command: [sh, -c, 'cat /words; echo; exec sleep 100000']
    logging: {{driver: console}}
"
    );
    let mut vm = Vm::direct(Build::standard()).on_lan(&lan).user_data(&user_data).boot();
    let from =
        "holdfast: image docker.io/library/app:1: cannot import it from http://192.0.2.1:8000/app.tar.gz";
    vm.expect(&format!("{from}: it cannot be read to its end: .*; it is tried again until it works"));
    gives(Response::ok(fs::read(archive(&image("another"))).expect("the archive can be read")));
    vm.expect(&format!(
        "{from}: its SHA-256 is [0-9a-f]{{64}}, and the configuration says {sum}; it is tried again"
    ));
    gives(Response::status(404, "not here"));
    vm.expect(&format!("{from}: the answer has status 404; it is tried again"));
    vm.never_said("accepted as generation|app: |secret");
    gives(Response::ok(good));
    vm.expect("holdfast: image docker.io/library/app:1: imported, sha256:");
    vm.expect("accepted as generation 1");
    vm.expect("app: from-afar");
    assert!(server.requests().iter().all(|request| request.path == "/app.tar.gz?key=secret"));
    vm.power_off();
}
