//! Who is given so much of the disk gets no more.

use vm_tests::{Build, Disk, Vm};

#[test]
fn a_writable_layer_and_a_volume_take_no_more_than_they_may() {
    // What there is already when the limit comes counts, too.
    let fill = "fill() { dd if=/dev/zero of=$$1/full bs=64k count=400 2>&1 | grep -o 'Disk quota exceeded'; \
                echo $$2 $$(du -k $$1/full | cut -f1); }";
    let limited = format!(
        "{fill}; ls /volume; fill /tmp layer; fill /volume volume; df -k /volume | tail -1; echo end"
    );
    let config = |keys: &str, size: &str, script: &str| {
        format!(
            "#cloud-config\nvolumes: {{data: {{{size}}}}}\nservices:\n  limited:\n    image: busybox\n    network_mode: none\n    \
             logging: {{driver: console}}\n    volumes: ['data:/volume']\n    command: [sh, -c, {script:?}]\n{keys}"
        )
    };
    let build = Build::standard();
    let disk = Disk::of(&build);
    let before = "dd if=/dev/zero of=/volume/before bs=1M count=3 2>/dev/null; dd if=/dev/zero of=/tmp/x bs=1M count=9 2>/dev/null; \
                  echo end $$(du -k /tmp/x | cut -f1)";
    let mut vm = Vm::direct(build.clone()).on(&disk).user_data(&config("", "", before)).boot();
    vm.expect("limited: end 9[0-9]{3}");
    vm.power_off();

    let user_data = config("    storage_opt: {size: 4m}\n", "x-holdfast-size: 8m", &limited);
    let mut vm = Vm::direct(build.clone()).on(&disk).user_data(&user_data).boot();
    vm.expect("config .* accepted as generation 2");
    vm.expect_all(&[
        "limited: before",
        "limited: Disk quota exceeded",
        "limited: layer [34][0-9]{3}$",
        "limited: volume [45][0-9]{3}$",
        "limited: end",
    ]);
    vm.power_off();

    // Without the key there is no limit any more.
    let after = "dd if=/dev/zero of=/volume/more bs=1M count=20 2>/dev/null; echo end $$(du -k /volume/more | cut -f1)";
    let mut vm = Vm::direct(build).on(&disk).user_data(&config("", "", after)).boot();
    vm.expect("limited: end 20[0-9]{3}");
    vm.power_off();
}
