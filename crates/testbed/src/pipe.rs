//! A full pipe: the standard error of a program whose log nobody reads.

use std::io::{self, PipeReader, PipeWriter, Write as _};

use nix::fcntl::{FcntlArg, fcntl};

use crate::error::{Error, Result};

/// One page: the kernel makes no smaller pipe.
const SIZE: u16 = 4096;

/// What [`FullPipe::new`] has written, as one line.
const FILLING: u8 = b'-';

/// Both ends of a full pipe.
#[derive(Debug)]
pub struct FullPipe {
    /// A write to it blocks.
    pub writer: PipeWriter,
    /// The other end; only the test reads it.
    pub reader: PipeReader,
    /// How many bytes are in the pipe before the next write.
    pub filled: usize,
}

impl FullPipe {
    /// Makes a pipe of one page and fills it.
    ///
    /// # Errors
    /// [`Error::System`] where the kernel gives no pipe.
    pub fn new() -> Result<Self> {
        Self::make().map_err(|source| Error::system("making a full pipe", source))
    }

    fn make() -> io::Result<Self> {
        let (reader, mut writer) = io::pipe()?;
        let size = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(SIZE.into()))?;
        let filled = usize::try_from(size).unwrap_or(SIZE.into());
        let mut filling = vec![FILLING; filled];
        if let Some(last) = filling.last_mut() {
            *last = b'\n';
        }
        // In one write, so that no page is half full.
        writer.write_all(&filling)?;
        Ok(Self {
            writer,
            reader,
            filled,
        })
    }
}
