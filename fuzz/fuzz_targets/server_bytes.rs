//! See `fcgi_fuzz::server`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fcgi_fuzz::server::run(data));
