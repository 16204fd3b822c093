//! tuplecat
pub mod batch;
pub mod exit;
pub mod link;
pub mod local;
pub mod pump;
pub mod sys;
pub mod tap;
pub mod tuple;
