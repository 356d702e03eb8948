//! Boots Holdfast in virtual machines and says what is expected of it, in sentences.
//!
//! ```no_run
//! # use vm_tests::{Build, Vm};
//! let mut vm = Vm::direct(Build::standard()).user_data("#cloud-config\n").port(80).boot();
//! vm.expect("service web running");
//! vm.http(80).expect("Holdfast");
//! ```
//!
//! Everything goes through the `image-build` command, as a person would use it. Nothing is skipped: a machine
//! without QEMU fails. Waiting is generous, since the machine may be busy, and says what it waited for. A failed test
//! leaves its console in `target/vm-tests/<test>/` and prints the end of it.

mod archive;
mod build;
mod console;
mod disk;
mod lan;
mod registry;
mod server;
mod time_server;
mod vm;

pub use archive::{archive, docker_save, gzip};
pub use build::{
    Build, Recipe, binary, faulty_init, hostile_image, image, kernel, kernel_probe, project, task_probe,
};
pub use disk::{Disk, iso, iso_of};
pub use lan::{BRIDGE, Lan, Process};
pub use registry::{Registry, busybox_image, busybox_program};
pub use server::{Request, Response, Server};
pub use time_server::TimeServer;
pub use vm::{Page, Vm, VmBuilder, directory};
