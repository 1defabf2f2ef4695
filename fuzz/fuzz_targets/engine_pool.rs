//! See `fcgi_testkit::engine_pool`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fcgi_testkit::engine_pool::run(data));
