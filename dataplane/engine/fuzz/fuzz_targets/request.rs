//! libFuzzer's way into the check of the same name: any bytes, no panic, and the properties that it states.
#![no_main]

#[path = "../checks.rs"]
#[allow(dead_code)]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::request(data));
