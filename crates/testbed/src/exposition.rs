//! Reads the text format of Prometheus, 0.0.4, and asserts that it is well-formed.

use std::collections::{HashMap, HashSet};

/// What a text of `/metrics` has.
#[derive(Debug)]
pub struct Exposition<'t> {
    /// The names in its `# HELP` lines.
    pub families: HashSet<&'t str>,
    /// The value of each sample, by its name with its labels.
    pub samples: HashMap<&'t str, &'t str>,
}

impl<'t> Exposition<'t> {
    /// Reads a text.
    ///
    /// # Panics
    /// If a sample does not follow the help and the type of its family, if a family or a sample is there twice, if a
    /// counter is not called `_total` or anything else is, or if a value is not a number.
    #[must_use]
    pub fn read(text: &'t str) -> Self {
        let (mut families, mut samples) = (HashSet::new(), HashMap::new());
        let (mut family, mut kind) = ("", "");
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                family = rest.split(' ').next().unwrap_or_default();
                assert!(families.insert(family), "{family} is there twice");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, of) = rest.split_once(' ').unwrap_or((rest, ""));
                assert_eq!(name, family, "{line}");
                kind = of;
                assert!(!kind.is_empty(), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            } else {
                let (sample, value) = line.rsplit_once(' ').unwrap_or((line, ""));
                let name = sample.split('{').next().unwrap_or_default();
                let suffix = name.strip_prefix(family);
                let suffixes: &[&str] = match kind {
                    "histogram" => &["_bucket", "_sum", "_count"],
                    _ => &[""],
                };
                let is_of = suffix.is_some_and(|suffix| suffixes.contains(&suffix));
                assert!(is_of, "{line} in {family}");
                assert!(value.parse::<f64>().is_ok(), "{line}");
                assert!(
                    samples.insert(sample, value).is_none(),
                    "{sample} is there twice"
                );
            }
        }
        Self { families, samples }
    }

    /// Asserts that all values are whole numbers.
    ///
    /// # Panics
    /// If one is not.
    pub fn assert_whole(&self) {
        for (sample, value) in &self.samples {
            assert!(value.parse::<u64>().is_ok(), "{sample} {value}");
        }
    }

    /// Asserts that these samples are there, each as a line of the text.
    ///
    /// # Panics
    /// If one is not.
    pub fn assert_has(&self, lines: &[&str]) {
        for line in lines {
            let (sample, value) = line.rsplit_once(' ').unwrap_or((line, ""));
            assert_eq!(
                self.samples.get(sample),
                Some(&value),
                "{line} in {self:#?}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn well_formed_texts_are_read_and_others_are_refused() {
        let help = "# HELP a_total b\n# TYPE a_total counter\n";
        let text = format!(
            "{help}a_total{{of=\"x y\"}} 1\na_total 2\n# HELP h c\n# TYPE h histogram\nh_sum 0.5\n"
        );
        let read = Exposition::read(&text);
        assert_eq!(read.families, HashSet::from(["a_total", "h"]));
        read.assert_has(&["a_total{of=\"x y\"} 1", "a_total 2", "h_sum 0.5"]);
        assert!(catch_unwind(|| Exposition::read(&text).assert_whole()).is_err());
        for rest in [
            "a_total 1\na_total 2",
            "a_total x",
            "b_total 1",
            "a_total_sum 1",
            "# HELP a_total b",
            "# HELP g b\n# TYPE g counter",
            "# HELP g_total b\n# TYPE g_total gauge",
            "# HELP g b\n# TYPE h gauge",
        ] {
            let text = format!("{help}{rest}\n");
            assert!(catch_unwind(|| Exposition::read(&text)).is_err(), "{rest}");
        }
    }
}
