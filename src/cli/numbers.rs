//! Whole numbers as values of options.
//! A number that is out of range and a text that is none get the same answer: what would be right.

/// The largest number that the kernel takes as a C int.
pub(super) const MAX_INT: u64 = 0x7fff_ffff;

/// A parser of the numbers from `least` to `most`, all of which `T` holds; `u64::MAX` stands for no limit.
pub(super) fn whole<T: TryFrom<u64>>(
    least: u64,
    most: u64,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse().ok();
        let number = number.filter(|number| (least..=most).contains(number));
        let number = number.and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| match most {
            u64::MAX => format!("expected a whole number, {least} or more"),
            _ => format!("expected a whole number from {least} to {most}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn what_is_no_such_number_is_told_what_would_be_right() {
        let width = whole::<u8>(1, 255);
        assert_eq!((width("1"), width("255")), (Ok(1), Ok(255)));
        for text in [
            "",
            "0",
            "256",
            "-1",
            "1.5",
            "0x1",
            " 1",
            "99999999999999999999999",
        ] {
            let expected = "expected a whole number from 1 to 255".to_owned();
            assert_eq!(width(text), Err(expected), "{text}");
        }
        let count = whole::<u64>(1, u64::MAX);
        assert_eq!(count("18446744073709551615"), Ok(u64::MAX));
        let expected = "expected a whole number, 1 or more".to_owned();
        assert_eq!(count("18446744073709551616"), Err(expected));
    }
}
