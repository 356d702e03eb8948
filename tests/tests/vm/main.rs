//! Holdfast in virtual machines: configuration in, behaviour out. One file for each thing it can do.

mod bad_input;
mod boot;
mod clock;
mod compose;
mod config;
mod container_network;
mod corruption;
mod datasources;
mod generations;
mod hostile_container;
mod images;
mod imports;
mod kernel;
mod kill;
mod logs;
mod many;
mod metadata;
mod network;
mod quota;
mod seed;
mod services;
mod stack;
mod state;
mod storage;
mod task;
mod upgrade;
mod user_namespace;

/// A web server and a service that only says hello, both of busybox.
const WEB: &str = r#"#cloud-config
hostname: harbour
holdfast:
  gate: {settle: 2s}
services:
  web:
    image: busybox
    network_mode: host
    restart: always
    command: [sh, -c, "mkdir -p /www && echo Holdfast > /www/index.html && exec httpd -f -p 80 -h /www"]
  hello:
    image: busybox
    network_mode: none
    command: [sh, -c, "echo hello from inside; exec sleep 100000"]
    logging: {driver: console}
"#;

/// What a boot with [`WEB`] says when all is well.
const WEB_RUNS: [&str; 3] =
    ["holdfast: service web running", "holdfast: service hello running", "hello: hello from inside"];
