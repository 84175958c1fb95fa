//! Replies: at most one datagram for each pre-shared key, in memory of the caller.

use crate::keys::PresharedKeys;
use crate::protocol::RESPONSE_LEN;

/// What is to be sent to where a datagram came from.
#[derive(Debug, Clone, Copy)]
pub struct Replies {
    bytes: [[u8; RESPONSE_LEN]; PresharedKeys::MAX],
    lengths: [usize; PresharedKeys::MAX],
}

impl Replies {
    /// Nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            bytes: [[0; RESPONSE_LEN]; PresharedKeys::MAX],
            lengths: [0; PresharedKeys::MAX],
        }
    }

    /// The datagrams, each to be sent by itself.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let all = self.bytes.iter().zip(self.lengths);
        all.filter_map(|(bytes, length)| bytes.get(..length))
            .filter(|bytes| !bytes.is_empty())
    }

    /// Nothing again.
    pub(super) const fn clear(&mut self) {
        self.lengths = [0; PresharedKeys::MAX];
    }

    pub(super) fn push(&mut self, reply: &[u8]) {
        let free = self.lengths.iter().position(|length| *length == 0);
        if let Some(at) = free
            && let Some(bytes) = self.bytes[at].get_mut(..reply.len())
        {
            bytes.copy_from_slice(reply);
            self.lengths[at] = reply.len();
        }
    }
}

impl Default for Replies {
    fn default() -> Self {
        Self::new()
    }
}
