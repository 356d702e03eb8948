//! A datasource's network configuration, out as JSON.
#![no_main]

use fuzz::bounded;
use userdata::{Report, SourceId};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    bounded(|| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let report = Report::new("network-config");
        if let Some(state) = netconfig::read_text(text, SourceId::default(), &report) {
            state.to_json().to_string();
        }
        report.finish();
    });
});
