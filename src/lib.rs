//! tuplecat
pub mod address;
pub mod batch;
pub mod cli;
pub mod exit;
pub mod link;
pub mod modes;
pub mod pump;
pub mod sys;
pub mod tap;
pub mod tuple;
