//! Medians, and ratios of pairs that were measured one after the other.

/// The middle value, or the mean of the two middle ones; `None` where there is none.
#[must_use]
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(*values.get(middle.checked_sub(1)?)?, upper))
}

/// The median of the ratios of pairs. A pair whose second value is not above zero is left out.
///
/// The values of a pair are measured one after the other, so a machine that gets slower changes both.
#[must_use]
pub fn median_ratio(pairs: impl IntoIterator<Item = (f64, f64)>) -> Option<f64> {
    let pairs = pairs.into_iter().filter(|(_, to)| *to > 0.0);
    median(pairs.map(|(value, to)| value / to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn a_ratio_is_that_of_each_pair() {
        // The machine gets slower from pair to pair; the ratio stays.
        let pairs = [(2.0, 1.0), (20.0, 10.0), (210.0, 100.0), (5.0, 0.0)];
        assert_eq!(median_ratio(pairs), Some(2.0));
        assert_eq!(median_ratio([(1.0, 0.0)]), None);
    }
}
