//! See `fcgi_testkit::engine_server`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fcgi_testkit::engine_server::run(data));
