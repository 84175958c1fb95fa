//! A layer: a tar archive of files, then gzip. Files in, bytes out; the same files give the same
//! bytes.
//!
//! Entries are sorted, belong to root and have no time. A file capability stands in a PAX record
//! before its file (`SCHILY.xattr.` and the attribute's name, as star and GNU tar write it), where
//! containerd and every other runtime read it. The gzip header has no time, no name and no operating
//! system. The compressor is Rust code that the lock file pins.

use std::collections::BTreeSet;
use std::io::{self, Write as _};

use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

/// An executable in the image.
#[derive(Clone, Copy)]
pub(crate) struct Executable<'a> {
    /// Absolute.
    pub(crate) path: &'a str,
    pub(crate) bytes: &'a [u8],
    /// By its number.
    pub(crate) capability: Option<u8>,
}

pub(super) const CAPABILITY_RECORD: &str = "SCHILY.xattr.security.capability";

/// RFC 1952, "unknown": the archive is the same wherever it was made.
const UNKNOWN_SYSTEM: u8 = 255;

pub(crate) fn tar(files: &[Executable<'_>]) -> io::Result<Vec<u8>> {
    let mut files: Vec<_> = files.iter().collect();
    files.sort_by_key(|file| file.path);
    let mut archive = Builder::new(Vec::new());
    let mut folders = BTreeSet::new();
    for file in files {
        let path = file.path.trim_start_matches('/');
        for (end, _) in path.match_indices('/') {
            let folder = &path[..=end];
            if folders.insert(folder) {
                append(&mut archive, EntryType::Directory, 0o755, folder, &[])?;
            }
        }
        if let Some(capability) = file.capability {
            let attribute = permitted(capability);
            archive.append_pax_extensions([(CAPABILITY_RECORD, &attribute[..])])?;
        }
        append(&mut archive, EntryType::Regular, 0o755, path, file.bytes)?;
    }
    archive.into_inner()
}

/// Appends an entry of root without a time, so that the same files give the same bytes.
pub(crate) fn append(
    archive: &mut Builder<Vec<u8>>,
    kind: EntryType,
    mode: u32,
    path: &str,
    bytes: &[u8],
) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, path, bytes)
}

/// The attribute `security.capability` that makes one capability permitted: `struct
/// vfs_cap_data` of linux/capability.h, revision 2, little endian. The effective bit is not set: with it the
/// kernel refuses to execute the program where the container may not have the capability.
pub(super) fn permitted(capability: u8) -> [u8; 20] {
    const REVISION_2: u32 = 0x0200_0000;
    let bit = 1_u32 << (capability % 32);
    // Permitted and inheritable, first of the low 32 capabilities, then of the high ones.
    let word = if capability < 32 { 4 } else { 12 };
    let mut attribute = [0; 20];
    attribute[..4].copy_from_slice(&REVISION_2.to_le_bytes());
    attribute[word..][..4].copy_from_slice(&bit.to_le_bytes());
    attribute
}

pub(crate) fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut compressor = GzBuilder::new()
        .operating_system(UNKNOWN_SYSTEM)
        .write(Vec::new(), Compression::best());
    compressor.write_all(bytes)?;
    compressor.finish()
}
