//! Certificates from a folder, as cert-manager and others fill a Secret that is mounted there.
//!
//! In: `tls.crt` and `tls.key`. Out: the identity in use. Both files are read every [`POLL`]; the kubelet replaces
//! them together. A pair that is not valid in itself is reported once and does not replace the one in use.

use std::fs;
use std::path::Path;
use std::time::Duration;

use thiserror::Error;
use tracing::{error, info};

use crate::identity::{Identity, IdentityError};
use crate::state::State;

/// How often the files are read.
const POLL: Duration = Duration::from_secs(2);

#[derive(Debug, Error)]
enum Problem {
    #[error(
        "{0} cannot be read: {1}; mount a Secret with tls.crt and tls.key, or set CERTIFICATES=self"
    )]
    Read(String, std::io::Error),
    #[error("tls.crt and tls.key in {0} cannot be used: {1}")]
    Identity(String, IdentityError),
}

/// Follows the files for as long as the process runs.
pub(crate) async fn follow(folder: &Path, state: &State) {
    let mut last = (Vec::new(), Vec::new());
    let mut problem = String::new();
    loop {
        match read(folder, &last) {
            Ok(None) => problem.clear(),
            Ok(Some((files, identity))) => {
                info!(
                    not_after = identity.not_after,
                    "certificate read from {}",
                    folder.display()
                );
                last = files;
                state.identity.set(identity);
                problem.clear();
            }
            Err(new) => {
                let new = new.to_string();
                if new != problem {
                    error!("{new}");
                    problem = new;
                }
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

type Files = (Vec<u8>, Vec<u8>);

/// The files and their identity, if they have changed.
fn read(folder: &Path, last: &Files) -> Result<Option<(Files, Identity)>, Problem> {
    let file = |name: &str| {
        let path = folder.join(name);
        fs::read(&path).map_err(|error| Problem::Read(path.display().to_string(), error))
    };
    let files = (file("tls.crt")?, file("tls.key")?);
    if files == *last {
        return Ok(None);
    }
    let identity = Identity::from_pem(&files.0, &files.1);
    let wrong = |error| Problem::Identity(folder.display().to_string(), error);
    Ok(Some((files, identity.map_err(wrong)?)))
}
