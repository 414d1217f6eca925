#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| marketd_fuzz::usage_csv::check(data));
