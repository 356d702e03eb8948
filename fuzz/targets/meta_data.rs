//! A datasource's meta-data.
#![no_main]

use fuzz::bounded;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    bounded(|| {
        config::meta_data("meta-data", bytes);
    });
});
