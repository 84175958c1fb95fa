//! The annotations of podspan's own pod from a file, for pods that cannot use the API server.
//!
//! In: a file that the kubelet writes, the item `metadata.annotations` of a volume `downwardAPI`. Out:
//! [`OwnAnnotations`], first and each time they change.
//!
//! A line is `key="value"`, the value in Go's quotes. The kubelet writes a new folder and renames a link onto
//! it, so a reader gets the old file or the new one. podspan asks for the file's identity once a second and
//! reads it when that has changed. This costs one system call a second. inotify would cost none, but a node
//! allows only 128 watchers for each user (`fs.inotify.max_user_instances`), and all podspans of a node are
//! one user.
//!
//! Invariant: a file that is missing or malformed changes nothing; the log says so once.
//!
//! Sources: `FormatMap` in `pkg/fieldpath/fieldpath.go` and `pkg/volume/util/atomic_writer.go` of Kubernetes.

use std::convert::Infallible;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;
use tokio::time::sleep;

use crate::go_string::unquote;
use crate::own_pod::{FILTER_ANNOTATION, MIRROR_ANNOTATION, OwnAnnotations};
use settings::Foreign;

/// How often the file is checked.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// The largest file. All annotations of a pod have at most 256 KiB, and quotes make that up to four times
/// as long.
const MAX_BYTES: u64 = 2 << 20;

/// Follows the file and calls `publish` with the annotations, first and each time they change. It never
/// returns, and continues after every failure. It needs a tokio runtime with time.
pub async fn follow_annotations_file(
    path: PathBuf,
    publish: impl FnMut(OwnAnnotations),
) -> Infallible {
    let mut follower = Follower {
        path,
        publish,
        identity: None,
        published: None,
        failing: None,
    };
    loop {
        follower.check();
        sleep(CHECK_EVERY).await;
    }
}

/// What changes when a file is replaced or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl From<Metadata> for Identity {
    fn from(metadata: Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Why the file cannot be used.
#[derive(Debug, Error)]
enum FileError {
    #[error("{0}")]
    Read(#[from] io::Error),
    #[error("it has more than {MAX_BYTES} bytes, which no pod's annotations have")]
    TooLong,
    #[error("the value of {0} is not in double quotes as the kubelet writes it")]
    Malformed(&'static str),
}

struct Follower<P> {
    path: PathBuf,
    publish: P,
    /// Of the file that was last read.
    identity: Option<Identity>,
    published: Option<OwnAnnotations>,
    /// The failure that was logged.
    failing: Option<String>,
}

impl<P: FnMut(OwnAnnotations)> Follower<P> {
    /// Reads the file if it has changed.
    fn check(&mut self) {
        let is_same = match fs::metadata(&self.path) {
            Ok(metadata) => self.identity == Some(metadata.into()),
            Err(error) => return self.failed(&error.into()),
        };
        if is_same {
            return;
        }
        match self.read() {
            Ok(annotations) => self.succeeded(annotations),
            Err(error) => self.failed(&error),
        }
    }

    fn read(&mut self) -> Result<OwnAnnotations, FileError> {
        let file = File::open(&self.path)?;
        self.identity = Some(file.metadata()?.into());
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(FileError::TooLong);
        }
        parse(&String::from_utf8_lossy(&bytes))
    }

    fn succeeded(&mut self, annotations: OwnAnnotations) {
        if self.failing.take().is_some() || self.published.is_none() {
            let file = self.path.display().to_string();
            tracing::info!(
                "following the annotations {FILTER_ANNOTATION} and {MIRROR_ANNOTATION} in {}",
                Foreign(&file)
            );
        }
        if self.published.as_ref() != Some(&annotations) {
            self.published = Some(annotations.clone());
            (self.publish)(annotations);
        }
    }

    fn failed(&mut self, error: &FileError) {
        // A file that is there again is read.
        if matches!(error, FileError::Read(_)) {
            self.identity = None;
        }
        let error = error.to_string();
        if self.failing.as_ref() == Some(&error) {
            return;
        }
        let file = self.path.display().to_string();
        tracing::warn!(
            "the annotations in ANNOTATIONS={} cannot be read, and the last ones stay in use: {error}; \
             check that the volume downwardAPI has the item metadata.annotations at this path",
            Foreign(&file)
        );
        self.failing = Some(error);
    }
}

/// The annotations in a file's text.
fn parse(text: &str) -> Result<OwnAnnotations, FileError> {
    let value = |key: &'static str| {
        let of_key = |line: &'_ str| -> Option<String> {
            Some(line.strip_prefix(key)?.strip_prefix('=')?.to_owned())
        };
        let Some(quoted) = text.lines().find_map(of_key) else {
            return Ok(None);
        };
        match unquote(&quoted) {
            Some((value, "")) => Ok(Some(value)),
            _ => Err(FileError::Malformed(key)),
        }
    };
    Ok(OwnAnnotations::new(
        value(FILTER_ANNOTATION)?,
        value(MIRROR_ANNOTATION)?,
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    fn annotations(filter: Option<&str>, mirror: Option<&str>) -> OwnAnnotations {
        OwnAnnotations::new(filter.map(str::to_owned), mirror.map(str::to_owned))
    }

    #[test]
    fn a_file_of_the_kubelet_is_read() {
        let text = "kubernetes.io/config.source=\"api\"\n\
                    podspan.dev/filter=\"tcp port 80 and \\\"x\\\" \\\\tcp\\n\"\n\
                    podspan.dev/filterx=\"no\"\n\
                    podspan.dev/mirror=\"off\"";
        let read = parse(text).unwrap();
        assert_eq!(
            read,
            annotations(Some("tcp port 80 and \"x\" \\tcp\n"), Some("off"))
        );
        assert_eq!(parse("").unwrap(), OwnAnnotations::default());
        // A value that contains the text of another line is within its quotes.
        let inside = "a=\"\\npodspan.dev/mirror=\\\"off\\\"\"\n";
        assert_eq!(parse(inside).unwrap(), OwnAnnotations::default());
    }

    #[test]
    fn a_value_that_is_not_quoted_is_an_error() {
        for line in [
            "podspan.dev/mirror=off",
            "podspan.dev/mirror=\"off",
            "podspan.dev/mirror=\"a\"b",
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains("podspan.dev/mirror"), "{error}");
        }
    }

    /// Writes the file as the kubelet does: a new folder, and a link that is renamed onto the old one.
    fn write(folder: &Path, version: &str, text: &str) {
        let data = folder.join(version);
        fs::create_dir(&data).unwrap();
        fs::write(data.join("annotations"), text).unwrap();
        symlink(version, folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    }

    #[test]
    fn a_file_is_published_when_it_changes_and_a_failure_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("..data/annotations");
        let mut published = Vec::new();
        let mut follower = Follower {
            path,
            publish: |annotations| published.push(annotations),
            identity: None,
            published: None,
            failing: None,
        };
        follower.check();
        assert!(follower.failing.is_some(), "there is no file yet");
        write(folder.path(), "..1", "podspan.dev/filter=\"udp\"\n");
        follower.check();
        assert!(follower.failing.is_none());
        follower.check();
        write(
            folder.path(),
            "..2",
            "podspan.dev/filter=\"udp\"\nother=\"x\"\n",
        );
        follower.check();
        write(folder.path(), "..3", "podspan.dev/filter=udp\n");
        follower.check();
        assert!(follower.failing.is_some(), "malformed");
        fs::remove_file(folder.path().join("..data")).unwrap();
        follower.check();
        write(folder.path(), "..4", "podspan.dev/mirror=\"off\"\n");
        follower.check();
        let long = "x".repeat(usize::try_from(MAX_BYTES).unwrap());
        write(folder.path(), "..5", &long);
        follower.check();
        write(folder.path(), "..6", &format!("{long}y"));
        follower.check();
        assert!(follower.failing.is_some(), "too long");
        let expected = [
            annotations(Some("udp"), None),
            annotations(None, Some("off")),
            annotations(None, None),
        ];
        assert_eq!(published, expected);
    }

    proptest! {
        #[test]
        fn any_text_is_annotations_or_an_error(text in "(podspan.dev/(filter|mirror)=|\"|\\\\|\\PC|\n)*") {
            let _ = parse(&text);
        }
    }
}
