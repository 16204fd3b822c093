//! Runs the property `escapes` over whatever the fuzzer finds.
//! What it means is said where it stands.
#![no_main]

#[allow(dead_code)]
#[path = "../properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::escapes(data));
