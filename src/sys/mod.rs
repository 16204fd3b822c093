//! What only the operating system can do.
//! All `unsafe` code and every platform condition of the program is below this folder; the rest is portable.

#![allow(unsafe_code)]

pub mod fast_open;
