//! Reads an initiation before anything is done for it: who sends it, and when it was made.
//!
//! In: 148 bytes with a valid `mac1`. Out: the initiator's static key and the timestamp, both authenticated.
//! This is for admission only, and no key comes out of it: boringtun reads the same message again and does the
//! handshake. It is done here, because boringtun gives the static key (`parse_handshake_anon`) but not the
//! timestamp, and only a `Tunn` that exists for the peer would compare it.
//!
//! It takes two scalar multiplications. A handshake takes six more, for each pre-shared key.
//!
//! Source: the paper, section 5.4.2, with the names from there.

use blake2::{Blake2s256, Digest as _};
use boringtun::x25519;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::keys::{PrivateKey, PublicKey};
use crate::protocol::INITIATION_LEN;

const CONSTRUCTION: &[u8] = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const IDENTIFIER: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";

type Hash = [u8; 32];
/// Bytes that BLAKE2s takes at a time (RFC 7693 section 2.1).
const BLOCK_LEN: usize = 64;

/// A TAI64N timestamp: compared as bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timestamp([u8; 12]);

/// Who has sent an initiation, and when it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Initiation {
    pub(crate) initiator: PublicKey,
    pub(crate) timestamp: Timestamp,
}

/// Reads initiations to one private key.
pub(crate) struct Reader {
    private: PrivateKey,
    /// `HASH(CONSTRUCTION)`.
    chain: Hash,
    /// `HASH(HASH(chain || IDENTIFIER) || public key)`.
    hash: Hash,
}

impl Reader {
    pub(crate) fn new(private: PrivateKey) -> Self {
        let chain = hash(CONSTRUCTION, &[]);
        let identified = hash(&chain, IDENTIFIER);
        let hash = hash(&identified, private.public().as_bytes());
        Self {
            private,
            chain,
            hash,
        }
    }

    /// Reads an initiation; none if it was not made for this private key, or not by the owner of the static
    /// key in it.
    pub(crate) fn read(&self, message: &[u8]) -> Option<Initiation> {
        let message: &[u8; INITIATION_LEN] = message.try_into().ok()?;
        let (_, rest) = message.split_first_chunk::<8>()?;
        let (ephemeral, rest) = rest.split_first_chunk::<32>()?;
        let (sealed_static, rest) = rest.split_first_chunk::<48>()?;
        let sealed_timestamp = rest.first_chunk::<28>()?;

        let chain = derive(&self.chain, ephemeral).chain;
        let transcript = hash(&self.hash, ephemeral);
        let (chain, key) = derive(&chain, &*self.shared(ephemeral)?).both();
        let initiator = open::<32, 48>(&key, &transcript, sealed_static)?;

        let transcript = hash(&transcript, sealed_static);
        let (_, key) = derive(&chain, &*self.shared(&initiator)?).both();
        let timestamp = open::<12, 28>(&key, &transcript, sealed_timestamp)?;
        Some(Initiation {
            initiator: PublicKey::new(initiator),
            timestamp: Timestamp(timestamp),
        })
    }

    /// `DH(private key, point)`; none for a point that gives the same secret for every private key, as in
    /// Linux.
    fn shared(&self, point: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
        let point = x25519::PublicKey::from(*point);
        let shared = self.private.secret().diffie_hellman(&point);
        let contributes = shared.was_contributory();
        contributes.then(|| Zeroizing::new(shared.to_bytes()))
    }
}

/// `HASH(a || b)`.
fn hash(a: &[u8], b: &[u8]) -> Hash {
    Blake2s256::new()
        .chain_update(a)
        .chain_update(b)
        .finalize()
        .into()
}

/// `HMAC(key, a || b)` (RFC 2104): not the keyed mode of BLAKE2.
fn hmac(key: &Hash, a: &[u8], b: &[u8]) -> Hash {
    let block = |pad| {
        let mut block = Zeroizing::new([pad; BLOCK_LEN]);
        for (byte, key) in block.iter_mut().zip(key) {
            *byte ^= key;
        }
        block
    };
    let inner = Blake2s256::new()
        .chain_update(*block(0x36))
        .chain_update(a)
        .chain_update(b)
        .finalize();
    hash(&*block(0x5c), &inner)
}

/// `KDF`: the next chaining key, and what the key is made of.
struct Derived {
    secret: Zeroizing<Hash>,
    chain: Hash,
}

fn derive(chain: &Hash, input: &[u8]) -> Derived {
    let secret = Zeroizing::new(hmac(chain, input, &[]));
    let chain = hmac(&secret, &[1], &[]);
    Derived { secret, chain }
}

impl Derived {
    /// The chaining key and the key.
    fn both(self) -> (Hash, Zeroizing<Hash>) {
        let key = Zeroizing::new(hmac(&self.secret, &self.chain, &[2]));
        (self.chain, key)
    }
}

/// `AEAD` with the counter 0, backwards. `SEALED` is `LEN` + 16.
fn open<const LEN: usize, const SEALED: usize>(
    key: &Hash,
    transcript: &Hash,
    sealed: &[u8; SEALED],
) -> Option<[u8; LEN]> {
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).ok()?);
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    let mut bytes = *sealed;
    let plain = key.open_in_place(nonce, Aad::from(transcript), &mut bytes);
    plain.ok()?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Timestamp {
        pub(crate) fn of_seconds(seconds: u64) -> Self {
            let mut bytes = [0; 12];
            bytes[..8].copy_from_slice(&(seconds + (1 << 62)).to_be_bytes());
            Self(bytes)
        }
    }

    use boringtun::noise::{Tunn, TunnResult};

    fn initiation(tunn: &mut Tunn) -> [u8; INITIATION_LEN] {
        let mut out = [0; INITIATION_LEN];
        let written = tunn.format_handshake_initiation(&mut out, true);
        assert!(matches!(written, TunnResult::WriteToNetwork(_)));
        out
    }

    fn tunn(initiator: &PrivateKey, responder: PublicKey) -> Tunn {
        let (private, point) = (initiator.secret().clone(), responder.point());
        Tunn::new(private, point, None, None, 1, None)
    }

    #[test]
    fn boringtuns_initiations_have_their_key_and_rising_timestamps() {
        let [initiator, responder] = [0; 2].map(|_| PrivateKey::generate());
        let reader = Reader::new(responder.clone());
        let mut tunn = tunn(&initiator, responder.public());
        let read = [0; 3].map(|_| reader.read(&initiation(&mut tunn)).unwrap());
        assert!(read.iter().all(|read| read.initiator == initiator.public()));
        assert!(
            read.windows(2)
                .all(|pair| pair[0].timestamp < pair[1].timestamp)
        );
        let seconds = u64::from_be_bytes(*read[0].timestamp.0.first_chunk().unwrap());
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        assert!((seconds - (1 << 62)).abs_diff(now) < 100);
    }

    #[test]
    fn a_change_of_any_authenticated_byte_is_found() {
        let [initiator, responder] = [0; 2].map(|_| PrivateKey::generate());
        let reader = Reader::new(responder.clone());
        let message = initiation(&mut tunn(&initiator, responder.public()));
        for at in 8..116 {
            let mut changed = message;
            changed[at] ^= 0x40;
            assert_eq!(reader.read(&changed), None, "byte {at}");
        }
        assert_eq!(reader.read(&message[..147]), None);
    }

    #[test]
    fn an_initiation_to_another_key_is_not_read() {
        let [initiator, responder, other] = [0; 3].map(|_| PrivateKey::generate());
        let message = initiation(&mut tunn(&initiator, responder.public()));
        assert_eq!(Reader::new(other).read(&message), None);
    }

    #[test]
    fn points_that_hide_the_private_key_are_refused() {
        let reader = Reader::new(PrivateKey::generate());
        assert!(reader.shared(&[0; 32]).is_none());
        let mut one = [0; 32];
        one[0] = 1;
        assert!(reader.shared(&one).is_none());
    }
}
