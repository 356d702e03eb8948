//! Metadata services that are dead, slow or lie: the node boots, says so, and runs what it ran before; when the service
//! recovers, its configuration arrives without a boot.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use vm_tests::{Build, Disk, Lan, Process, Request, Response, Server, Vm, VmBuilder};

use crate::datasources::{answers, lan_with};

const EC2: &str = "type=1,manufacturer=Amazon EC2";

fn user_data(word: &str) -> String {
    format!(
        "#cloud-config\nservices:\n  echo:\n    image: busybox\n    network_mode: none\n    \
         command: [sh, -c, 'echo this is the {word} one; exec sleep 100000']\n    logging: {{driver: console}}\n"
    )
}

fn honest(word: &str) -> impl Fn(&Request) -> Response + Send + Sync + use<> {
    answers(&[
        ("GET /latest/meta-data/instance-id", "i-1"),
        ("GET /latest/meta-data/local-hostname", "harbour"),
        ("GET /latest/user-data", &user_data(word)),
    ])
}

type Answer = Box<dyn Fn(&Request) -> Response + Send + Sync>;

/// A machine in EC2 with a disk of its own, and a metadata service that changes its mind.
struct Cloud {
    lan: Lan,
    _dhcp: Process,
    _server: Server,
    answer: Arc<Mutex<Answer>>,
    disk: Disk,
}

impl Cloud {
    /// One whose machine has run its first configuration.
    fn that_worked() -> Self {
        let (lan, dhcp) = lan_with(&["169.254.169.254/32"]);
        let answer: Arc<Mutex<Answer>> = Arc::new(Mutex::new(Box::new(honest("first"))));
        let said = Arc::clone(&answer);
        let server = lan.serve("169.254.169.254:80", move |request| {
            said.lock().expect("nobody panics with this lock")(request)
        });
        let disk = Disk::of(&Build::standard());
        let cloud = Self { lan, _dhcp: dhcp, _server: server, answer, disk };
        let mut vm = cloud.machine().boot();
        vm.expect_all(&["accepted as generation 1", "echo: this is the first one"]);
        vm.power_off();
        cloud
    }

    fn machine(&self) -> VmBuilder {
        Vm::direct(Build::standard()).on(&self.disk).on_lan(&self.lan).smbios(EC2)
    }

    fn answers(&self, answer: impl Fn(&Request) -> Response + Send + Sync + 'static) {
        *self.answer.lock().expect("nobody panics with this lock") = Box::new(answer);
    }
}

/// Boots with a service that is of no use, which is said in these words; then it recovers.
#[track_caller]
fn runs_the_last_generation(answer: impl Fn(&Request) -> Response + Send + Sync + 'static, said: &str) {
    let cloud = Cloud::that_worked();
    cloud.answers(answer);
    let mut vm = cloud.machine().boot();
    vm.expect_all(&[
        "echo: this is the first one",
        said,
        "holdfast: config (absent|rejected): generation 1 keeps running",
    ]);
    cloud.answers(honest("second"));
    vm.expect_all(&["accepted as generation 2", "echo: this is the second one"]);
    vm.power_off();
}

#[test]
fn a_slow_service_is_not_waited_for() {
    runs_the_last_generation(
        |_| Response::Silence(Duration::from_secs(60)),
        "holdfast: user-data: Ec2: .* has not answered within 10 s",
    );
}

#[test]
fn a_broken_service_is_asked_again() {
    runs_the_last_generation(
        |_| Response::status(500, "oops"),
        "holdfast: user-data: Ec2: .* answered with status 500; asking again",
    );
}

#[test]
fn a_service_that_shows_a_page_is_none() {
    runs_the_last_generation(
        |_| Response::ok("<html>Please log in</html>"),
        "holdfast: user-data: Ec2: .* has no instance-id; asking again",
    );
}

#[test]
fn endless_user_data_is_refused() {
    let honest = honest("first");
    runs_the_last_generation(
        move |request| {
            if request.path == "/latest/user-data" { Response::Endless } else { honest(request) }
        },
        "holdfast: user-data: Ec2: .*/latest/user-data answered with more than 16777216 bytes",
    );
}

#[test]
fn user_data_that_is_a_page_is_rejected() {
    let honest = honest("first");
    runs_the_last_generation(
        move |request| {
            let page = request.path == "/latest/user-data";
            if page { Response::ok("<html>Please log in</html>") } else { honest(request) }
        },
        "holdfast: config error Ec2/user-data:1:1",
    );
}

#[test]
fn a_dead_service_is_asked_until_it_lives() {
    // Nobody has the address at first: packets to it are lost.
    let (lan, _dhcp) = lan_with(&[]);
    let mut vm = Vm::direct(Build::standard()).on_lan(&lan).smbios(EC2).boot();
    vm.expect_all(&[
        "holdfast: no user-data found: Ec2 has not answered within 20 s; it is asked again until it does",
        "holdfast: config absent: there is no earlier generation",
    ]);
    lan.address("169.254.169.254/32");
    let _server = lan.serve("169.254.169.254:80", honest("first"));
    vm.expect_all(&["accepted as generation 1", "echo: this is the first one"]);
    vm.power_off();
}
