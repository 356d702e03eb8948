//! Logs on their way to a receiver that comes and goes.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use config::Receiver;
use rustls::{ServerConnection, StreamOwned};

use super::follow::Follower;
use super::place::{Place, Places};
use super::receiver::Connection;
use super::{BATCH, Forward};
use crate::http::tests::{certified, serve};

fn line(number: u32) -> String {
    format!("2026-11-25T20:00:00.{number:09}Z stdout F line {number}\n")
}

fn lines(numbers: std::ops::Range<u32>) -> String {
    numbers.map(line).collect()
}

/// Follows the log at `path` to its end.
fn rest(path: &Path, place: &mut Option<Place>, most: usize) -> String {
    let mut all = String::new();
    while let Some((lines, next)) = Follower::new(path).next(place.as_ref(), most) {
        all.push_str(std::str::from_utf8(&lines).unwrap());
        *place = Some(next);
    }
    all
}

#[test]
fn a_log_is_followed_through_its_rotation() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("web.log");
    let older = |number: u32| directory.path().join(format!("web.log.{number}"));
    let mut place = None;
    assert_eq!(rest(&path, &mut place, BATCH), "");
    fs::write(older(1), lines(0..3)).unwrap();
    fs::write(&path, lines(3..5)).unwrap();
    assert_eq!(rest(&path, &mut place, 60), lines(0..5), "the oldest comes first, in small batches, too");
    assert_eq!(rest(&path, &mut place, BATCH), "");
    // Written on, and rotated twice before anybody looks.
    fs::write(&path, lines(3..7)).unwrap();
    fs::rename(older(1), older(2)).unwrap();
    fs::rename(&path, older(1)).unwrap();
    fs::rename(older(1), older(2)).unwrap();
    fs::write(older(1), lines(7..9)).unwrap();
    fs::write(&path, lines(9..10)).unwrap();
    assert_eq!(rest(&path, &mut place, BATCH), lines(5..10));
    // The file that it has come to is gone: what is left is sent.
    fs::remove_file(&path).unwrap();
    fs::write(older(1), lines(20..22)).unwrap();
    fs::write(older(2), "").unwrap();
    fs::write(&path, lines(22..23) + "2026 not yet who").unwrap();
    assert_eq!(rest(&path, &mut place, BATCH), lines(20..23));
}

#[test]
fn syslog_over_tls_goes_to_whom_the_node_trusts() {
    let directory = tempfile::tempdir().unwrap();
    let (config, roots) = certified(directory.path());
    let (heard, hears) = mpsc::channel();
    let port = serve(move |stream| {
        let connection = ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, stream);
        let mut bytes = [0; 64];
        let length = stream.read(&mut bytes)?;
        heard.send(String::from_utf8_lossy(&bytes[..length]).into_owned()).map_err(io::Error::other)?;
        // Until the client has seen that it is still there.
        std::thread::sleep(Duration::from_secs(2));
        Ok(())
    });
    let receiver = |host: &str| Receiver::Syslog { host: host.to_owned(), port, tls: true };
    Connection::trusting(&receiver("localhost"), &roots).send(b"5 hello").unwrap();
    assert_eq!(hears.recv().unwrap(), "5 hello");
    let other_name = Connection::trusting(&receiver("127.0.0.1"), &roots).send(b"5 hello");
    let none = directory.path().join("none.pem");
    fs::write(&none, "").unwrap();
    let stranger = Connection::trusting(&receiver("localhost"), &none).send(b"5 hello");
    for error in [other_name.unwrap_err(), stranger.unwrap_err()] {
        assert!(sys::console::chain(&error).contains("certificate"), "{error:?}");
    }
    assert!(hears.try_recv().is_err(), "a stranger got something");
}

/// What a receiver gets on one connection until `enough` of it has come.
fn received(listener: &TcpListener, enough: &str) -> (String, TcpStream) {
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut text = String::new();
    let mut bytes = [0; 4096];
    while !text.contains(enough) {
        let length = stream.read(&mut bytes).unwrap();
        assert!(length > 0, "{text}");
        text.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
    }
    (text, stream)
}

#[test]
fn what_a_receiver_did_not_get_is_sent_again() {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let receiver = Receiver::Syslog { host: "127.0.0.1".to_owned(), port, tls: false };
    let logs = directory.path().join("logs");
    fs::create_dir(&logs).unwrap();
    fs::write(logs.join("web.log"), lines(0..2)).unwrap();
    let forward =
        Forward { receiver: receiver.clone(), hostname: "node".to_owned(), directory: logs.clone() };
    let places = || Places::of(&directory.path().join("places"), &receiver);
    let server = std::thread::spawn(move || {
        // The first connection ends without a word, whatever was written to it.
        let (_, stream) = received(&listener, "line 1");
        drop(stream);
        let (text, mut stream) = received(&listener, "line 1");
        stream.write_all(b"thanks").unwrap();
        assert!(text.contains("node web - stdout - line 0") && text.contains("- line 1"), "{text}");
        stream
    });
    let mut connection = Connection::new(&receiver);
    let mut kept = places();
    forward.turn(&mut kept, &mut connection).expect_err("it was closed");
    connection.close();
    assert!(forward.turn(&mut kept, &mut connection).unwrap());
    assert!(!forward.turn(&mut places(), &mut connection).unwrap(), "it was kept where it has come to");
    drop(server.join().unwrap());
}
