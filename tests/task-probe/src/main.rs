//! A client of a container's task service, for tests: `task-probe SERVICE VERB [ARGUMENTS]`, one call or one process.
//!
//! It says what comes of it, a line each. A refusal is one of them.

#![expect(clippy::print_stdout, reason = "that is what it is for")]

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::json;
use task::{Call, Client, ExecRequest, Exit, Running, State, read_pids};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [service, verb, rest @ ..] = &args[..] else { panic!("task-probe SERVICE VERB [ARGUMENTS]") };
    if let Err(error) = run(service, verb, rest) {
        println!("refused: {error}");
    }
}

fn run(service: &str, verb: &str, rest: &[String]) -> Result<(), Box<dyn Error>> {
    let mut client = Client::connect(&plan::paths::task_socket(service), service)?;
    let first = String::new;
    match verb {
        "state" => {
            let state = State::read(&client.call(&Call::State { exec: first() })?)?;
            println!("{} is {:?}", state.id, state.process.status);
        }
        "connect" => {
            let running = Running::read_connect(&client.call(&Call::Connect)?)?;
            println!("shim and container are there: {}", running.shim > 1 && running.pid > running.shim);
        }
        "pids" => println!("{} processes", read_pids(&client.call(&Call::Pids)?)?.len()),
        "stats" => println!("{} bytes of metrics", client.call(&Call::Stats)?.len()),
        "pause" => drop(client.call(&Call::Pause)?),
        "resume" => drop(client.call(&Call::Resume)?),
        "create" => drop(client.call(&Call::Create)?),
        "shutdown" => drop(client.call(&Call::Shutdown)?),
        "kill" => {
            let signal = rest.first().ok_or("no signal")?.parse()?;
            client.call(&Call::Kill { exec: first(), signal, all: false })?;
        }
        "wait" => println!("ended with {}", Exit::read(&client.call(&Call::Wait { exec: first() })?)?.code),
        "exec" => exec(&mut client, rest, false)?,
        "tty" => exec(&mut client, rest, true)?,
        "attach" => attach(&mut client)?,
        // Goes away in the middle of it.
        "leave" => {
            let request =
                ExecRequest { exec: "left".to_owned(), process: process(rest), ..ExecRequest::default() };
            client.call(&Call::Exec(request))?;
            client.call(&Call::Start { exec: "left".to_owned() })?;
        }
        "return" => {
            let exit = Exit::read(&client.call(&Call::Wait { exec: "left".to_owned() })?)?;
            client.call(&Call::Delete { exec: "left".to_owned() })?;
            println!("what was left has ended with {}", exit.code);
        }
        other => panic!("no verb {other}"),
    }
    Ok(())
}

/// With rights that no container is to give it.
fn process(args: &[String]) -> Vec<u8> {
    let all = ["CAP_SYS_ADMIN"];
    let process = json!({
        "args": args, "cwd": "", "user": {"uid": 0, "gid": 0}, "noNewPrivileges": false,
        "capabilities": {"bounding": all, "effective": all, "permitted": all},
    });
    process.to_string().into_bytes()
}

/// Hears the container for some seconds, and writes to it.
fn attach(client: &mut Client) -> Result<(), Box<dyn Error>> {
    let exec = format!("attached-{}", std::process::id());
    let directory = plan::paths::task_socket("x").parent().map(PathBuf::from).unwrap_or_default();
    let (stdin, stdout) = (directory.join(format!("{exec}-stdin")), directory.join(format!("{exec}-stdout")));
    for path in [&stdin, &stdout] {
        mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR)?;
    }
    let text = |path: &PathBuf| path.display().to_string();
    let (stdin_path, stdout_path) = (text(&stdin), text(&stdout));
    let request = ExecRequest {
        exec: exec.clone(),
        stdin: stdin_path,
        stdout: stdout_path,
        attach: true,
        ..ExecRequest::default()
    };
    client.call(&Call::Exec(request))?;
    let keeper = OpenOptions::new().read(true).write(true).open(&stdout)?;
    let mut reader = File::open(&stdout)?;
    client.call(&Call::Start { exec: exec.clone() })?;
    drop(keeper);
    let mut typed = Vec::new();
    io::stdin().read_to_end(&mut typed)?;
    OpenOptions::new().write(true).open(&stdin)?.write_all(&typed)?;
    thread::sleep(Duration::from_secs(3));
    client.call(&Call::Kill { exec: exec.clone(), signal: 15, all: false })?;
    let exit = Exit::read(&client.call(&Call::Wait { exec: exec.clone() })?)?;
    client.call(&Call::Delete { exec })?;
    let mut said = String::new();
    reader.read_to_string(&mut said)?;
    println!("{said}detached with {}", exit.code);
    Ok(())
}

fn exec(client: &mut Client, args: &[String], terminal: bool) -> Result<(), Box<dyn Error>> {
    let exec = format!("probe-{}", std::process::id());
    let directory = plan::paths::task_socket("x").parent().map(PathBuf::from).unwrap_or_default();
    let fifo = |name: &str| -> io::Result<PathBuf> {
        let path = directory.join(format!("{exec}-{name}"));
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?;
        Ok(path)
    };
    let (stdin, stdout) = (fifo("stdin")?, fifo("stdout")?);
    let stderr = if terminal { None } else { Some(fifo("stderr")?) };
    let text = |path: &PathBuf| path.display().to_string();
    client.call(&Call::Exec(ExecRequest {
        exec: exec.clone(),
        terminal,
        stdin: text(&stdin),
        stdout: text(&stdout),
        stderr: stderr.as_ref().map(text).unwrap_or_default(),
        process: process(args),
        attach: false,
    }))?;
    // Both ends, so that opening does not wait, not even for a process that has ended at once; the other end goes when the
    // process has its own.
    let both = |path: &PathBuf| OpenOptions::new().read(true).write(true).open(path);
    let mut readers = Vec::new();
    for path in [Some(stdout.clone()), stderr.clone()].into_iter().flatten() {
        let keeper = both(&path)?;
        let reader = File::open(&path)?;
        readers.push((keeper, reader));
    }
    let keeper = both(&stdin)?;
    let mut input = OpenOptions::new().write(true).open(&stdin)?;
    client.call(&Call::Start { exec: exec.clone() })?;
    drop(keeper);
    let readers: Vec<_> = readers
        .into_iter()
        .map(|(keeper, mut reader)| {
            drop(keeper);
            thread::spawn(move || {
                let mut said = String::new();
                reader.read_to_string(&mut said).map(|_| said)
            })
        })
        .collect();
    if terminal {
        client.call(&Call::Resize { exec: exec.clone(), width: 100, height: 40 })?;
    }
    let mut typed = Vec::new();
    io::stdin().read_to_end(&mut typed)?;
    // The process may have no use for it.
    input.write_all(&typed).ok();
    drop(input);
    if !terminal {
        client.call(&Call::CloseIo { exec: exec.clone() })?;
    }
    let exit = Exit::read(&client.call(&Call::Wait { exec: exec.clone() })?)?;
    for reader in readers {
        print!("{}", reader.join().map_err(|_| "a reader has failed")??);
    }
    client.call(&Call::Delete { exec })?;
    println!("ended with {}", exit.code);
    for path in [Some(stdin), Some(stdout), stderr].into_iter().flatten() {
        std::fs::remove_file(path)?;
    }
    Ok(())
}
