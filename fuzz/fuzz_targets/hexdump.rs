//! Runs the property `hexdump` on the inputs of the fuzzer.
//! `properties.rs` describes it.
#![no_main]

#[allow(dead_code)]
#[path = "../properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::hexdump(data));
