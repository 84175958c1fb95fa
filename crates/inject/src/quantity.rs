//! Quantities of Kubernetes: a decimal number with a unit, such as `250m`, `0.25`, `1e3` or `256Mi`.
//!
//! In: a text. Out: its value in thousandths. Quantities are compared by value, because the API server
//! writes them in another form than it got them (`0.25` as `250m`). Source: `resource.Quantity` of
//! k8s.io/apimachinery.

/// The value in thousandths, rounded up as Kubernetes does; `None` if it is no quantity, negative, or too
/// large for any machine.
pub(crate) fn thousandths(text: &str) -> Option<u128> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let digits = text
        .find(|character: char| !character.is_ascii_digit() && character != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || number.trim_matches('.').is_empty() || number.len() > 24 {
        return None;
    }
    let mantissa: u128 = format!("{whole}{fraction}").parse().ok()?;
    let decimals = u32::try_from(fraction.len()).ok()?;
    let (multiplier, exponent) = scale(unit)?;
    // In thousandths.
    let exponent = exponent.checked_add(3)?.checked_sub_unsigned(decimals)?;
    let value = mantissa.checked_mul(multiplier)?;
    if exponent >= 0 {
        value.checked_mul(10_u128.checked_pow(exponent.unsigned_abs())?)
    } else {
        Some(value.div_ceil(10_u128.checked_pow(exponent.unsigned_abs())?))
    }
}

/// The factor of a unit: a multiplier and a power of ten.
fn scale(unit: &str) -> Option<(u128, i32)> {
    let decimal = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
    let binary = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    if let Some(exponent) = (-3..).zip(decimal).find(|(_, name)| *name == unit) {
        return Some((1, exponent.0 * 3));
    }
    if let Some(power) = (1..).zip(binary).find(|(_, name)| *name == unit) {
        return Some((1024_u128.checked_pow(power.0)?, 0));
    }
    let exponent = unit.strip_prefix(['e', 'E'])?;
    let exponent: i32 = exponent.parse().ok()?;
    (-9..=18).contains(&exponent).then_some((1, exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_the_value_that_kubernetes_gives_them() {
        for (text, expected) in [
            ("250m", Some(250)),
            ("0.25", Some(250)),
            (".25", Some(250)),
            ("1.", Some(1000)),
            ("+1", Some(1000)),
            ("1e3", Some(1_000_000)),
            ("1E3", Some(1_000_000)),
            ("25e-2", Some(250)),
            ("1Ki", Some(1_024_000)),
            ("0.5Mi", Some(524_288_000)),
            ("1E", Some(10_u128.pow(21))),
            ("100n", Some(1)),
            ("0", Some(0)),
            ("-1", None),
            ("", None),
            (".", None),
            ("m", None),
            ("1mi", None),
            ("1 Gi", None),
            ("1..2", None),
            ("250 m", None),
            ("1e", None),
            ("1e99", None),
            ("9999999999999999999999999", None),
        ] {
            assert_eq!(thousandths(text), expected, "{text}");
        }
    }
}
