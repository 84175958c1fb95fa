//! Reading what callgrind writes: the number of instructions of a run.
//!
//! In: the text of a callgrind file. Out: its total of `Ir`, the only event that is counted by default.
//! Source: the chapter "Callgrind Format Specification" of valgrind's manual.

/// Why there is no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("callgrind counted something else than instructions")]
    OtherEvents,
    #[error("callgrind wrote no total")]
    NoTotal,
    #[error("callgrind counted nothing: the program has no function of the expected name")]
    Nothing,
}

pub(super) fn instructions(text: &str) -> Result<u64, Error> {
    let value = |name: &str| text.lines().rev().find_map(|line| line.strip_prefix(name));
    if value("events:").map(str::trim) != Some("Ir") {
        return Err(Error::OtherEvents);
    }
    let total = value("totals:").and_then(|total| total.trim().parse().ok());
    match total {
        None => Err(Error::NoTotal),
        Some(0) => Err(Error::Nothing),
        Some(total) => Ok(total),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_of_a_file_is_read() {
        let text = "# callgrind format\nversion: 1\ncreator: callgrind-3.19.0\npid: 21541\n\
                    cmd:  instructions plan web.pcapng\npart: 1\n\ndesc: Trigger: Program termination\n\n\
                    positions: line\nevents: Ir\nsummary: 37890\n\nfn=(38) main\n0 1\ncfn=(72)\ncalls=1 0 \n\
                    0 37889\n\ntotals: 37890\n";
        assert_eq!(instructions(text), Ok(37_890));
        assert_eq!(
            instructions(&text.replace("totals: 37890", "totals: 0")),
            Err(Error::Nothing)
        );
        assert_eq!(
            instructions(&text.replace("totals: 37890", "")),
            Err(Error::NoTotal),
            "a killed callgrind"
        );
        assert_eq!(
            instructions(&text.replace("events: Ir", "events: Ir Dr Dw")),
            Err(Error::OtherEvents)
        );
        assert_eq!(instructions(""), Err(Error::OtherEvents));
    }
}
