//! The time of day as it is written everywhere: RFC 3339, to the microsecond.
//! A clock may be set to anything, so every time has a form: one before 1970 or after 9999 has that of the first or the last there is.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Shows a time.
#[derive(Clone, Copy, Debug)]
pub struct Stamp(pub SystemTime);

/// The last microsecond of 9999, after 1970.
const LAST: Duration = Duration::new(253_402_300_799, 999_999_000);

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = UNIX_EPOCH.checked_add(since.min(LAST)).unwrap_or(self.0);
        humantime::format_rfc3339_micros(time).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_has_a_form() {
        let year = Duration::from_hours(366 * 24);
        for (time, text) in [
            (UNIX_EPOCH, "1970-01-01T00:00:00.000000Z"),
            (UNIX_EPOCH - year, "1970-01-01T00:00:00.000000Z"),
            (
                UNIX_EPOCH - Duration::from_nanos(1),
                "1970-01-01T00:00:00.000000Z",
            ),
            (
                UNIX_EPOCH + Duration::from_micros(1),
                "1970-01-01T00:00:00.000001Z",
            ),
            (UNIX_EPOCH + LAST, "9999-12-31T23:59:59.999999Z"),
            (UNIX_EPOCH + LAST + year, "9999-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(Stamp(time).to_string(), text);
        }
    }
}
