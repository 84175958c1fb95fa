//! How many values are in each of many buckets, whose width grows with the value.
//!
//! A decade has [`PER_DECADE`] buckets, so a bucket's end is a fixed part above its start for small and for
//! large values. A bucket does not include its end.

use serde::Serialize;

/// Each bucket ends a fourth above its start, or a little more.
const PER_DECADE: i32 = 10;

/// Values of one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bucket {
    /// Where it starts.
    pub from: f64,
    /// Where it ends.
    pub to: f64,
    /// How many values are in it.
    pub count: usize,
}

impl Bucket {
    /// The middle on a logarithmic axis.
    #[must_use]
    pub fn middle(&self) -> f64 {
        (self.from * self.to).sqrt()
    }
}

/// The buckets from the first to the last that has a value, without gaps. Values that are not above zero are
/// left out.
#[must_use]
pub fn buckets(values: &[f64]) -> Vec<Bucket> {
    let place = |value: &f64| (value.log10() * f64::from(PER_DECADE)).floor();
    let mut places: Vec<f64> = values
        .iter()
        .map(place)
        .filter(|place| place.is_finite())
        .collect();
    places.sort_unstable_by(f64::total_cmp);
    let (Some(&first), Some(&last)) = (places.first(), places.last()) else {
        return Vec::new();
    };
    let edge = |place: f64| 10_f64.powf(place / f64::from(PER_DECADE));
    let mut buckets = Vec::new();
    let mut place = first;
    while place <= last {
        let start = places.partition_point(|one| *one < place);
        let end = places.partition_point(|one| *one <= place);
        buckets.push(Bucket {
            from: edge(place),
            to: edge(place + 1.0),
            count: end - start,
        });
        place += 1.0;
    }
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_in_one_bucket_and_there_are_no_gaps() {
        let values = [0.011, 0.5, 1.0, 1.1, 9.99, 0.0, f64::NAN];
        let buckets = buckets(&values);
        assert_eq!(buckets.iter().map(|bucket| bucket.count).sum::<usize>(), 5);
        for pair in buckets.windows(2) {
            assert!((pair[0].to - pair[1].from).abs() < 1e-9);
        }
        for value in [0.011, 0.5, 1.1, 9.99] {
            let has = |bucket: &&Bucket| bucket.from <= value && value < bucket.to;
            assert_eq!(buckets.iter().filter(has).count(), 1, "{value}");
        }
        let of_one = buckets
            .iter()
            .find(|bucket| (bucket.from - 1.0).abs() < 1e-9);
        assert_eq!(of_one.map(|bucket| bucket.count), Some(2), "1.0 and 1.1");
        assert!(super::buckets(&[]).is_empty());
    }
}
