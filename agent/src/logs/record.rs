//! Lines of a log in the forms that receivers take.

use config::Receiver;
use serde_json::json;

/// Facility `daemon`, severities `info` and `err` (RFC 5424, section 6.2.1).
const PRIORITY: (u8, u8) = (3 * 8 + 6, 3 * 8 + 3);
/// The longest name of a program (RFC 5424, section 6).
const APP_NAME: usize = 48;

/// What each line becomes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form<'a> {
    syslog: bool,
    hostname: &'a str,
    service: &'a str,
}

/// One line of a log.
#[derive(Debug, PartialEq, Eq)]
struct Record<'a> {
    time: &'a str,
    stream: &'a str,
    /// Whether more of the same line follows.
    partial: bool,
    text: &'a str,
}

impl<'a> Form<'a> {
    pub(crate) fn of(receiver: &Receiver, hostname: &'a str, service: &'a str) -> Self {
        Self { syslog: matches!(receiver, Receiver::Syslog { .. }), hostname, service }
    }

    /// What to send for `lines`. What is not in the form of a log (the rest of a line that was cut off) is left out.
    pub(crate) fn batch(&self, lines: &[u8]) -> Vec<u8> {
        let mut batch = Vec::new();
        for line in lines.split(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(line);
            let Some(record) = Record::read(&line) else { continue };
            if self.syslog {
                let message = self.message(&record);
                // Octet counting (RFC 6587, section 3.4.1; RFC 5425, section 4.3).
                batch.extend_from_slice(format!("{} {message}", message.len()).as_bytes());
            } else {
                let mut object = json!({
                    "time": record.time, "host": self.hostname, "service": self.service, "stream": record.stream,
                    "text": record.text,
                });
                if record.partial {
                    object["partial"] = true.into();
                }
                batch.extend_from_slice(object.to_string().as_bytes());
                batch.push(b'\n');
            }
        }
        batch
    }

    /// RFC 5424: the stream is the message's id.
    fn message(&self, record: &Record<'_>) -> String {
        let priority = if record.stream == "stderr" { PRIORITY.1 } else { PRIORITY.0 };
        let (hostname, stream, text) = (self.hostname, record.stream, record.text);
        let service = &self.service[..self.service.len().min(APP_NAME)];
        format!("<{priority}>1 {} {hostname} {service} - {stream} - {text}", microseconds(record.time))
    }
}

/// A time with six digits behind the point, the most that syslog has.
fn microseconds(time: &str) -> String {
    match time.split_once('.') {
        Some((seconds, rest)) => {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).take(6).collect();
            format!("{seconds}.{digits}Z")
        }
        None => time.to_owned(),
    }
}

impl<'a> Record<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let (time, rest) = line.split_once(' ')?;
        let (stream, rest) = rest.split_once(' ')?;
        let (tag, text) = rest.split_once(' ')?;
        let known = matches!(stream, "stdout" | "stderr") && matches!(tag, "F" | "P") && time.ends_with('Z');
        known.then_some(Self { time, stream, partial: tag == "P", text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_a_message_or_an_object() {
        let lines = "2026-11-25T20:00:00.123456789Z stdout F hello world\n\
                     cut off\n\
                     2026-11-25T20:00:01.000000001Z stderr P part \u{e9}\n";
        let form = |syslog| Form { syslog, hostname: "node", service: "web" };
        let batch = String::from_utf8(form(true).batch(lines.as_bytes())).unwrap();
        let (one, two) = (
            "<30>1 2026-11-25T20:00:00.123456Z node web - stdout - hello world",
            "<27>1 2026-11-25T20:00:01.000000Z node web - stderr - part \u{e9}",
        );
        assert_eq!(batch, format!("{} {one}{} {two}", one.len(), two.len()));
        let batch = String::from_utf8(form(false).batch(lines.as_bytes())).unwrap();
        let objects: Vec<serde_json::Value> =
            batch.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let one = json!({
            "time": "2026-11-25T20:00:00.123456789Z", "host": "node", "service": "web", "stream": "stdout",
            "text": "hello world",
        });
        assert_eq!((objects.len(), &objects[0]), (2, &one));
        assert_eq!((&objects[1]["partial"], &objects[1]["text"]), (&json!(true), &json!("part \u{e9}")));
    }
}
