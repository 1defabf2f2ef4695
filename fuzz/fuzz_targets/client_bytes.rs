//! See `fcgi_fuzz::client`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fcgi_fuzz::client::run(data));
