use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::*;

const LIMITS: Limits =
    Limits { connect: Duration::from_secs(2), whole: Duration::from_secs(2), body: 1000, redirects: 2 };

/// A server on the loopback that gives each connection to `answer`, until the test ends.
pub(crate) fn serve(answer: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            // A client that has had enough breaks the connection.
            thread::spawn(move || answer(stream).ok());
        }
    });
    port
}

/// The lines of a request's head, and its body.
pub(crate) fn request(stream: &mut impl Read) -> io::Result<(Vec<String>, Vec<u8>)> {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let length = lines.iter().find_map(|line| {
        line.to_ascii_lowercase().strip_prefix("content-length: ").map(|n| n.parse().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    Ok((lines, body))
}

fn says(text: impl Into<String>) -> u16 {
    let text = text.into();
    serve(move |mut stream| {
        request(&mut stream)?;
        stream.write_all(text.as_bytes())
    })
}

/// A file of authorities for tests that need none.
fn client(limits: Limits) -> Client {
    Client::trusting(Path::new("/dev/null"), limits)
}

fn get(port: u16) -> Result<Response, HttpError> {
    client(LIMITS).get(&format!("http://127.0.0.1:{port}/a?secret"), &[])
}

#[test]
fn an_answer_has_its_headers_and_its_body() {
    let port = says("HTTP/1.1 200 OK\r\nMetadata-Flavor: Google\r\nContent-Length: 2\r\n\r\nhi");
    let answer = get(port).unwrap();
    assert_eq!((answer.body.as_slice(), answer.header("metadata-flavor")), (&b"hi"[..], Some("Google")));
    let chunked = says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1\r\n!\r\n0\r\n\r\n");
    assert_eq!(get(chunked).unwrap().body, b"hi!");
}

#[test]
fn what_is_sent_is_what_was_asked_for() {
    let port = serve(|mut stream| {
        let (head, body) = request(&mut stream)?;
        let token = head.iter().find(|line| line.to_ascii_lowercase().starts_with("x-token: "));
        let said = format!("{} {} {}", head[0], token.unwrap(), String::from_utf8_lossy(&body));
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{said}", said.len())
    });
    let url = format!("http://127.0.0.1:{port}/x");
    let headers = [("X-Token", "t")];
    let text = |answer: Result<Response, HttpError>| {
        String::from_utf8(answer.unwrap().body).unwrap().to_ascii_lowercase()
    };
    assert_eq!(text(client(LIMITS).get(&url, &headers)), "get /x http/1.1 x-token: t ");
    assert_eq!(text(client(LIMITS).put(&url, &headers)), "put /x http/1.1 x-token: t ");
    assert_eq!(text(client(LIMITS).post(&url, &headers, b"<a/>")), "post /x http/1.1 x-token: t <a/>");
}

#[test]
fn forms_are_encoded() {
    assert_eq!(form(&[("a b", "1&2"), ("ä", "x_y")]), "a+b=1%262&%C3%A4=x_y");
}

#[test]
fn other_statuses_are_errors_that_name_the_address_without_secrets() {
    for (status, missing) in [(404, true), (410, true), (401, false), (500, false)] {
        let port = says(format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n"));
        let error = get(port).unwrap_err();
        assert_eq!(error.to_string(), format!("http://127.0.0.1:{port}/a answered with status {status}"));
        assert_eq!(error.is_missing(), missing);
    }
    assert_eq!(shown("https://me:secret@host/path?sig=x#y"), "https://host/path");
}

#[test]
fn servers_that_waste_time_or_memory_are_left() {
    let huge = says(format!("HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n{}", "a".repeat(1001)));
    assert!(matches!(get(huge), Err(HttpError::TooLarge { limit: 1000, .. })));
    let fits = says(format!("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{}", "a".repeat(1000)));
    assert_eq!(get(fits).unwrap().body.len(), 1000);
    let endless = serve(|mut stream| {
        request(&mut stream)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        loop {
            stream.write_all(&[b'a'; 4096])?;
        }
    });
    assert!(matches!(get(endless), Err(HttpError::TooLarge { .. })));
    let silent = serve(|stream| {
        thread::sleep(Duration::from_secs(60));
        drop(stream);
        Ok(())
    });
    let slow = serve(|mut stream| {
        request(&mut stream)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")?;
        loop {
            thread::sleep(Duration::from_millis(100));
            stream.write_all(b"a")?;
        }
    });
    let endless_head = serve(|mut stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
        loop {
            stream.write_all(b"X-A: b\r\n")?;
        }
    });
    for port in [silent, slow] {
        let begun = Instant::now();
        assert!(matches!(get(port), Err(HttpError::TimedOut { .. })));
        assert!(begun.elapsed() < LIMITS.whole + Duration::from_secs(1));
    }
    assert!(matches!(get(endless_head), Err(HttpError::Failed { .. })));
}

#[test]
fn what_does_not_speak_http_is_an_error() {
    for text in ["", "SSH-2.0-OpenSSH_9.2\r\n", "<html>", "HTTP/1.1 999999 ?\r\n\r\n"] {
        assert!(matches!(get(says(text)), Err(HttpError::Failed { .. })), "{text}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert!(get(nobody).unwrap_err().to_string().starts_with("cannot ask http://127.0.0.1:"));
    assert!(client(LIMITS).get("not a url", &[]).is_err());
}

#[test]
fn redirects_are_followed_as_often_as_allowed() {
    let target = says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    let to = |port| {
        says(format!("HTTP/1.1 302 F\r\nLocation: http://127.0.0.1:{port}/\r\nContent-Length: 0\r\n\r\n"))
    };
    let once = to(target);
    assert_eq!(get(once).unwrap().body, b"hi");
    assert_eq!(get(to(once)).unwrap().body, b"hi");
    let loop_port = serve(|mut stream| {
        request(&mut stream)?;
        stream.write_all(b"HTTP/1.1 302 F\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n")
    });
    assert!(matches!(get(loop_port), Err(HttpError::Failed { .. })));
    let none = client(Limits { redirects: 0, ..LIMITS });
    let error = none.get(&format!("http://127.0.0.1:{once}/"), &[]).unwrap_err();
    assert!(matches!(error, HttpError::Status { status: 302, .. }), "{error:?}");
}

/// What a server with TLS for `localhost` takes, and the PEM file of the authority that vouches for it.
pub(crate) fn certified(directory: &Path) -> (Arc<ServerConfig>, PathBuf) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let roots = directory.join("roots.pem");
    std::fs::write(&roots, format!("# The test's own\n{}", authority.pem())).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    (Arc::new(config), roots)
}

/// A server with such a certificate, that answers everything with `answer`.
fn serve_tls(answer: String, directory: &Path) -> (u16, PathBuf) {
    let (config, roots) = certified(directory);
    let port = serve(move |stream| {
        let connection = ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, stream);
        request(&mut stream)?;
        stream.write_all(answer.as_bytes())?;
        stream.flush()
    });
    (port, roots)
}

#[test]
fn certificates_count_when_the_node_trusts_who_signed_them() {
    let directory = tempfile::tempdir().unwrap();
    let good = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi".to_owned();
    let (port, roots) = serve_tls(good, directory.path());
    let url = format!("https://localhost:{port}/");
    assert_eq!(Client::trusting(&roots, LIMITS).get(&url, &[]).unwrap().body, b"hi");
    let stranger = client(LIMITS).get(&url, &[]).unwrap_err();
    assert!(sys::console::chain(&stranger).contains("certificate"), "{stranger:?}");
    let other_name = Client::trusting(&roots, LIMITS).get(&format!("https://127.0.0.1:{port}/"), &[]);
    assert!(other_name.is_err(), "the certificate is for another name");
    let without = Client::trusting(Path::new("/nowhere"), LIMITS).get(&url, &[]).unwrap_err();
    assert_eq!(without.to_string(), "cannot read the certificate authorities /nowhere");
}

#[test]
fn tls_is_not_left_by_a_redirect() {
    let directory = tempfile::tempdir().unwrap();
    let plain = says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    let away = format!("HTTP/1.1 302 F\r\nLocation: http://127.0.0.1:{plain}/\r\nContent-Length: 0\r\n\r\n");
    let (port, roots) = serve_tls(away, directory.path());
    let answer = Client::trusting(&roots, LIMITS).get(&format!("https://localhost:{port}/"), &[]);
    assert!(matches!(answer, Err(HttpError::Failed { .. })), "{answer:?}");
}

#[test]
fn a_privileged_client_asks_from_a_low_port() {
    let port = serve(|mut stream| {
        let from = stream.peer_addr()?.port().to_string();
        request(&mut stream)?;
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{from}", from.len())
    });
    let client = Client::privileged(LIMITS);
    for _ in 0..3 {
        let answer = client.get(&format!("http://127.0.0.1:{port}/"), &[]).expect("this test runs as root");
        assert!(String::from_utf8(answer.body).unwrap().parse::<u16>().unwrap() < 1024);
    }
}
