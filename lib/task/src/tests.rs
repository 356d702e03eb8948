//! What we write, containerd's own types read, and the other way round.

use containerd_shim_protos::api;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{EnumOrUnknown, Message, MessageField};

use super::frame::{FrameError, HEADER, MESSAGE, Request, Response};
use super::wire::{Malformed, Writer, fields};
use super::*;

#[test]
fn calls_are_containerd_s_messages() {
    let mut kill = api::KillRequest::new();
    kill.id = "web".to_owned();
    kill.exec_id = "e1".to_owned();
    kill.signal = 9;
    kill.all = true;
    let mut exec = api::ExecProcessRequest::new();
    exec.id = "web".to_owned();
    exec.exec_id = "e1".to_owned();
    exec.terminal = true;
    exec.stdin = "/in".to_owned();
    exec.stdout = "/out".to_owned();
    let process = Any { type_url: PROCESS_TYPE.to_owned(), value: b"{}".to_vec(), ..Any::default() };
    exec.spec = MessageField::some(process);
    let mut resize = api::ResizePtyRequest::new();
    resize.id = "web".to_owned();
    (resize.width, resize.height) = (80, 300);
    let mut close = api::CloseIORequest::new();
    close.id = "web".to_owned();
    close.exec_id = "e1".to_owned();
    close.stdin = true;
    let mut wait = api::WaitRequest::new();
    wait.id = "web".to_owned();
    let request = ExecRequest {
        exec: "e1".to_owned(),
        terminal: true,
        stdin: "/in".to_owned(),
        stdout: "/out".to_owned(),
        stderr: String::new(),
        process: b"{}".to_vec(),
        attach: false,
    };
    let attach = ExecRequest { attach: true, process: Vec::new(), ..request.clone() };
    let (method, message) = Call::Exec(attach.clone()).write("web");
    assert_eq!(Call::read(method, &message), Ok(("web".to_owned(), Call::Exec(attach))));
    let e1 = || "e1".to_owned();
    for (method, message, call) in [
        ("Kill", kill.write_to_bytes(), Call::Kill { exec: e1(), signal: 9, all: true }),
        ("Exec", exec.write_to_bytes(), Call::Exec(request)),
        ("ResizePty", resize.write_to_bytes(), Call::Resize { exec: String::new(), width: 80, height: 300 }),
        ("CloseIO", close.write_to_bytes(), Call::CloseIo { exec: e1() }),
        ("Wait", wait.write_to_bytes(), Call::Wait { exec: String::new() }),
    ] {
        let message = message.unwrap();
        assert_eq!(call.write("web"), (method, message.clone()), "{method}");
        assert_eq!(Call::read(method, &message), Ok(("web".to_owned(), call)), "{method}");
    }
    let refusal = Call::read("Fly", &[]).unwrap_err();
    assert_eq!(refusal.code, Code::Unimplemented);
    assert_eq!(Call::read("Kill", &[0x1d, 1]).unwrap_err().code, Code::InvalidArgument);
    // The bundle in the place of an exec, and whatever else a newer client says.
    let mut create = api::CreateTaskRequest::new();
    create.id = "web".to_owned();
    create.bundle = "/bundle".to_owned();
    assert_eq!(Call::read("Create", &create.write_to_bytes().unwrap()), Ok(("web".to_owned(), Call::Create)));
}

#[test]
fn answers_are_containerd_s_messages() {
    let exit = Exit { code: 137, at: (1_795_600_000, 7) };
    let process =
        Process { exec: "e1".to_owned(), pid: 42, status: Status::Stopped, terminal: true, exit: Some(exit) };
    let state = State { id: "web".to_owned(), bundle: "/b".to_owned(), process };
    let read = api::StateResponse::parse_from_bytes(&state.write()).unwrap();
    assert_eq!((read.id.as_str(), read.bundle.as_str(), read.pid), ("web", "/b", 42));
    assert_eq!(read.status, EnumOrUnknown::new(api::Status::STOPPED));
    assert_eq!((read.exit_status, read.terminal, read.exec_id.as_str()), (137, true, "e1"));
    assert_eq!((read.exited_at.seconds, read.exited_at.nanos), (1_795_600_000, 7));
    assert_eq!(State::read(&read.write_to_bytes().unwrap()), Ok(state));

    let wait = api::WaitResponse::parse_from_bytes(&exit.write()).unwrap();
    assert_eq!((wait.exit_status, wait.exited_at.seconds), (137, 1_795_600_000));
    assert_eq!(Exit::read(&wait.write_to_bytes().unwrap()), Ok(exit));

    let running = Running { shim: 3, pid: 42 };
    let connect = api::ConnectResponse::parse_from_bytes(&running.write_connect()).unwrap();
    assert_eq!((connect.shim_pid, connect.task_pid), (3, 42));
    assert_eq!(Running::read_connect(&running.write_connect()), Ok(running));
    assert_eq!(api::StartResponse::parse_from_bytes(&running.write_start()).unwrap().pid, 42);
    let delete = api::DeleteResponse::parse_from_bytes(&running.write_delete(&exit)).unwrap();
    assert_eq!((delete.pid, delete.exit_status, delete.exited_at.nanos), (42, 137, 7));

    let pids = api::PidsResponse::parse_from_bytes(&write_pids(&[1, 300])).unwrap();
    assert_eq!(pids.processes.iter().map(|process| process.pid).collect::<Vec<_>>(), [1, 300]);
    assert_eq!(read_pids(&pids.write_to_bytes().unwrap()), Ok(vec![1, 300]));
}

#[test]
fn frames_come_in_pieces_and_one_behind_the_other() {
    let request = |stream| Request {
        stream,
        service: SERVICE.to_owned(),
        method: "State".to_owned(),
        payload: vec![1, 2, 3],
    };
    let bytes = [request(1).write(), request(3).write()].concat();
    let length = bytes.len() / 2;
    for end in 0..length {
        assert_eq!(Request::read(&bytes[..end]), Ok(None), "{end}");
    }
    assert_eq!(Request::read(&bytes), Ok(Some((request(1), length))));
    assert_eq!(Request::read(&bytes[length..]), Ok(Some((request(3), length))));
    assert_eq!(Response::read(&bytes), Err(FrameError::Type(1)));

    let responses = [Ok(vec![7]), Ok(Vec::new()), Err((Code::NotFound.number(), "no such exec".to_owned()))];
    for result in responses {
        let response = Response { stream: 5, result };
        let bytes = response.write();
        assert_eq!(Response::read(&bytes), Ok(Some((response, bytes.len()))));
    }
    let mut long = vec![0; HEADER];
    long[..4].copy_from_slice(&u32::try_from(MESSAGE + 1).unwrap().to_be_bytes());
    assert_eq!(Request::read(&long), Err(FrameError::TooLong(MESSAGE + 1)));
}

#[test]
fn bytes_that_are_no_message_are_refused() {
    for bytes in [
        &[0x80][..],
        &[0x0a, 5, 1],
        &[0x0b],
        &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ] {
        assert_eq!(fields(bytes).last(), Some(Err(Malformed)), "{bytes:?}");
    }
    let message = Writer::new().number(1, u64::MAX).number(2, 0).text(3, "").finish();
    let read: Vec<_> = fields(&message).collect();
    assert_eq!(read, [Ok((1, wire::Value::Number(u64::MAX)))]);
}
