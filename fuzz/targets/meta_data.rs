//! A datasource's meta-data.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    config::meta_data("meta-data", bytes);
});
