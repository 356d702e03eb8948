//! A message whose body is the input: its parts, their encodings, and how they merge.
#![no_main]

use fuzz::bounded;
use userdata::{Load, Report, Role, SourceId};

const HEAD: &[u8] = b"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n";

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    bounded(|| {
        for message in [body, &[HEAD, body].concat()] {
            let report = Report::new("user-data");
            let mut load = Load::new(&report, Role::User, Some(1));
            load.add(SourceId::default(), message);
            // What is fetched is of others, too.
            load.resolve(Ok(body));
            load.merge();
            report.finish();
        }
    });
});
