//! How many descriptors this process may have.
//! The soft limit is a habit, the hard limit is the rule: whoever serves many clients may go up to it (getrlimit(2)).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open descriptors only if it is less than `wanted`; returns how many there may be. Programs that are
/// started from here inherit the limit, and some of them go through all descriptors that there might be.
#[must_use]
pub fn allow_descriptors(wanted: u64) -> u64 {
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < wanted => raise_descriptors(),
        limit => limit.unwrap_or(u64::MAX),
    }
}

/// Raises the soft limit of open descriptors to the hard one; returns how many there may be.
#[must_use]
pub fn raise_descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let granted = match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => wanted.current,
        Err(_) => limit.current,
    };
    granted.unwrap_or(u64::MAX)
}
