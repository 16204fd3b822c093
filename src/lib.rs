//! tuplecat
pub mod batch;
pub mod exit;
pub mod link;
pub mod pump;
pub mod tap;
pub mod tuple;
