//! See `fcgi_testkit::engine_client`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fcgi_testkit::engine_client::run(data));
