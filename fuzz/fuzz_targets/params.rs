//! See `fcgi_fuzz::params`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fcgi_fuzz::params::run(data));
