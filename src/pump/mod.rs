//! The pump
//! x
pub mod end;
