//! The sections of compose, with variables in them.
#![no_main]

use config::{Input, Judge};
use fuzz::bounded;

const HEAD: &[u8] =
    b"#cloud-config\nholdfast: {env: {A: a, EMPTY: '', LONG: 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'}}\n";

libfuzzer_sys::fuzz_target!(|sections: &[u8]| {
    bounded(|| {
        let text = [HEAD, sections].concat();
        let outcome = config::judge(&Input::user_data("user-data", &text), Judge::Vocabulary);
        if let Some(config) = &outcome.config {
            config.effective(&outcome.meta).to_string();
        }
    });
});
