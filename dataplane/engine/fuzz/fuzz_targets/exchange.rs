//! libFuzzer's way into the check of sequences of exchanges: any bytes, no panic, and the properties that it states.
#![no_main]

#[path = "../exchange.rs"]
mod exchange;

libfuzzer_sys::fuzz_target!(|data: &[u8]| exchange::exchanges(data));
