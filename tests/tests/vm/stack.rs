//! Software as people run it, from Debian's packages: nginx before a Python program with PostgreSQL and Redis.

use std::time::{Duration, Instant};

use regex::Regex;
use vm_tests::{Build, Disk, Recipe, Vm, image};

/// Making a database takes an emulated processor a while.
const PATIENCE: Duration = Duration::from_secs(400);

const STACK: &str = include_str!("stack.yaml");

fn boot(build: &Build, disk: &Disk) -> Vm {
    let mut vm = Vm::direct(build.clone()).on(disk).memory(1024).user_data(STACK).port(80).port(81).boot();
    vm.expect_within("holdfast: service web running", PATIENCE);
    vm
}

/// Asks until there is an answer: how often rows and counts have been asked. A client that gave up was maybe heard.
fn ask(vm: &Vm) -> [u32; 2] {
    let form = Regex::new(r"rows=(\d+) counts=(\d+)").expect("a regular expression");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let page = vm.http(80);
        if let Some(found) = form.captures(page.text()) {
            return [1, 2].map(|group| found[group].parse().expect("a number"));
        }
        assert!(Instant::now() < deadline, "the application does not answer: {page:?}");
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Fails when one of them has forgotten what it had answered.
fn expect_more(before: [u32; 2], now: [u32; 2]) {
    assert!(now[0] > before[0] && now[1] > before[1], "{now:?} after {before:?}");
}

#[test]
fn a_web_server_an_application_and_its_databases_keep_what_they_were_told() {
    let mut recipe = Recipe::named("stack");
    for (name, folder) in
        [("nginx", "examples"), ("postgres", "tests"), ("redis", "tests"), ("python", "tests")]
    {
        recipe = recipe.image(name, &image(name, folder));
    }
    let build = recipe.build();
    let disk = Disk::of(&build);

    // In the order of their dependencies, and by each other's names.
    let mut vm = boot(&build, &disk);
    let at = |what: &str| {
        let lines = vm.lines("holdfast: service ");
        lines
            .iter()
            .position(|line| line.ends_with(what))
            .unwrap_or_else(|| panic!("no '{what}' in {lines:#?}"))
    };
    assert!(at("rows healthy") < at("app starting") && at("counts healthy") < at("app starting"));
    assert!(at("app running") < at("web starting"));
    let first = ask(&vm);
    let second = ask(&vm);
    expect_more(first, second);

    // Containers that are killed come again by themselves, with what they had been told.
    vm.http(81).expect("killed");
    vm.expect_all(&["service rows exited", "service counts exited"]);
    let again = ["service rows healthy", "service counts healthy"];
    vm.expect_all(&again);
    let third = ask(&vm);
    expect_more(second, third);
    vm.power_off();

    // After a reboot, and after a cut of the power that came right after an answer.
    let vm = boot(&build, &disk);
    let fourth = ask(&vm);
    expect_more(third, fourth);
    let fifth = ask(&vm);
    vm.cut_power();
    let vm = boot(&build, &disk);
    expect_more(fifth, ask(&vm));
    vm.power_off();
}
