//! Any bytes as user-data and as vendor-data, through the whole judge and out as JSON.
#![no_main]

use config::{Input, Judge};
use fuzz::bounded;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    bounded(|| {
        let input =
            Input { vendor_data: Some(("vendor-data", bytes)), ..Input::user_data("user-data", bytes) };
        let outcome = config::judge(&input, Judge::Vocabulary);
        if let Some(config) = &outcome.config {
            config.effective(&outcome.meta).to_string();
        }
        let node = config::judge(&Input::user_data("user-data", bytes), Judge::Node);
        assert!(node.config.is_none() || outcome.config.is_some(), "a node accepts what a laptop does not");
    });
});
