//! See `fcgi_fuzz::pair`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fcgi_fuzz::pair::run(data));
