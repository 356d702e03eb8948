//! containerd's own client talks to the service.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use containerd_shim_protos::api;
use containerd_shim_protos::ttrpc::context::with_timeout;
use containerd_shim_protos::{Client, TaskClient};
use rustix::event::{Timespec, poll};

use task::ExecRequest;

use super::*;
use crate::create::Completed;

const PATIENCE: i64 = 20_000_000_000;

/// Runs a service until `end` says how its container has ended; the container is a process of the test.
fn serve(directory: &Path) -> (mpsc::Sender<sys::process::Exit>, thread::JoinHandle<()>) {
    let (end, ended) = mpsc::channel();
    let (ready, is_ready) = mpsc::channel();
    let directory = directory.to_owned();
    let server = thread::spawn(move || {
        let name = ServiceName::new("web").unwrap();
        let completed = Completed::at(&directory);
        fs::write(completed.config(), "{}").unwrap();
        let container = Rc::new(Container::new(Pid::this(), &name, &completed).unwrap());
        let cgroup = directory.join("cgroup");
        fs::create_dir(&cgroup).unwrap();
        fs::write(cgroup.join("cgroup.procs"), "12\n345\n").unwrap();
        let own = Own { pid: Pid::this(), input: None, terminal: None };
        let path = directory.join("tasks/web.sock");
        let mut service =
            Service::listen(path, container, Cgroup::at(&cgroup), &name, Path::new("/bundle"), own).unwrap();
        ready.send(()).unwrap();
        let pause = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
        loop {
            if let Ok(exit) = ended.try_recv() {
                return service.finish(exit);
            }
            let mut wanted: Vec<_> = service.wanted().collect();
            if poll(&mut wanted, Some(&pause)).unwrap() > 0 {
                service.turn();
            }
        }
    });
    is_ready.recv().unwrap();
    (end, server)
}

fn client(directory: &Path) -> TaskClient {
    let address = format!("unix://{}", directory.join("tasks/web.sock").display());
    TaskClient::new(Client::connect(&address).unwrap())
}

fn of_web<T: Default>(set: impl FnOnce(&mut T)) -> T {
    let mut request = T::default();
    set(&mut request);
    request
}

#[test]
fn containerd_s_client_finds_its_way_and_another_one_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let (end, server) = serve(directory.path());
    let socket = directory.path().join("tasks/web.sock");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let context = || with_timeout(PATIENCE);
    for _ in 0..2 {
        let client = client(directory.path());
        let state = of_web(|request: &mut api::StateRequest| request.id = "web".to_owned());
        let state = client.state(context(), &state).unwrap();
        assert_eq!(
            (state.id.as_str(), state.bundle.as_str(), state.pid),
            ("web", "/bundle", std::process::id())
        );
        assert_eq!(state.status.enum_value(), Ok(api::Status::RUNNING));
        let pids = of_web(|request: &mut api::PidsRequest| request.id = "web".to_owned());
        let pids = client.pids(context(), &pids).unwrap();
        assert_eq!(pids.processes.iter().map(|process| process.pid).collect::<Vec<_>>(), [12, 345]);
        let stats = of_web(|request: &mut api::StatsRequest| request.id = "web".to_owned());
        assert_eq!(client.stats(context(), &stats).unwrap().stats.type_url, task::METRICS_TYPE);
        let pause = of_web(|request: &mut api::PauseRequest| request.id = "web".to_owned());
        client.pause(context(), &pause).unwrap();
        assert_eq!(fs::read_to_string(directory.path().join("cgroup/cgroup.freeze")).unwrap(), "1");
        let resume = of_web(|request: &mut api::ResumeRequest| request.id = "web".to_owned());
        client.resume(context(), &resume).unwrap();

        // What it may not, and what is not there.
        let shutdown = of_web(|request: &mut api::ShutdownRequest| request.id = "web".to_owned());
        let other = of_web(|request: &mut api::StateRequest| request.id = "db".to_owned());
        let start = of_web(|request: &mut api::StartRequest| {
            (request.id, request.exec_id) = ("web".to_owned(), "none".to_owned());
        });
        for (error, wanted) in [
            (client.shutdown(context(), &shutdown).err(), "made and ended by init"),
            (client.state(context(), &other).err(), "this is the shim of 'web'"),
            (client.start(context(), &start).err(), "there is no process 'none'"),
        ] {
            let error = error.expect("it is refused").to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }
    // One that talks nonsense, and one that says nothing, are in nobody's way.
    let mut odd = UnixStream::connect(&socket).unwrap();
    odd.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    odd.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(odd.read(&mut [0]).unwrap(), 0, "it is cut off");
    let _silent = UnixStream::connect(&socket).unwrap();

    let waiting = client(directory.path());
    let waits = thread::spawn(move || {
        let wait = of_web(|request: &mut api::WaitRequest| request.id = "web".to_owned());
        waiting.wait(with_timeout(PATIENCE), &wait).unwrap().exit_status
    });
    // Its request shall come before the end.
    thread::sleep(Duration::from_millis(200));
    end.send(sys::process::Exit::Signal(9)).unwrap();
    assert_eq!(waits.join().unwrap(), 137);
    server.join().unwrap();
    assert!(!socket.exists());
}

#[test]
fn an_exec_is_described_before_it_is_started() {
    let request = |exec: &str, process: &str| ExecRequest {
        exec: exec.to_owned(),
        process: process.as_bytes().to_vec(),
        ..ExecRequest::default()
    };
    for (process, problem) in
        [("{", "cannot be understood"), ("{}", "has no arguments"), (r#"{"args": []}"#, "has no arguments")]
    {
        let refusal = Exec::new(request("e", process)).unwrap_err();
        assert!(refusal.message.contains(problem), "{process}: {refusal}");
    }
    let exec = Exec::new(request("e", r#"{"args": ["id"], "user": {"uid": 0}}"#)).unwrap();
    assert_eq!(exec.process("e").status, Status::Created);
    assert!(exec.running().is_err() && exec.leave().is_ok());
}
