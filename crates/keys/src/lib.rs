//! Keys of the tunnel: read and written as `wg` does, 32 bytes in base64.
//!
//! They are a crate of their own, without the protocol and its C code: the plugin of kubectl makes keys on every
//! system.
//!
//! In: a text or a [`file`](KeyFile), or the system's random numbers. Out: a key that is usable: a key of zeros is none, and refused.
//! No `Debug`, no error and no log line shows a secret key or a part of it, and secret keys are overwritten
//! when they are dropped. boringtun, which the crate `tunnel` hands them to, copies them: a private key there is
//! overwritten too, a pre-shared key and the keys of sessions are not.
//!
//! Source: `key_from_base64()` in `src/encoding.c` of wireguard-tools, RFC 7748 section 5 (clamping).

#![forbid(unsafe_code)]

mod file;

use core::fmt;
use core::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand_core::{OsRng, RngCore as _};
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

pub use file::{KeyError, KeyFile};

/// Bytes of a key.
pub const KEY_LEN: usize = 32;
/// Characters of a key in base64.
const TEXT_LEN: usize = 44;

/// Which key a text should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// A private key.
    Private,
    /// A public key.
    Public,
    /// A pre-shared key.
    Preshared,
}

impl KeyKind {
    /// Its name, and what prints one.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Private => ("a private key", "wg genkey"),
            Self::Public => ("a public key", "wg pubkey"),
            Self::Preshared => ("a pre-shared key", "wg genpsk"),
        }
    }
}

/// What is wrong with the text of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// There is no text.
    Empty,
    /// It has this number of bytes.
    Length(usize),
    /// It is not base64 of 32 bytes.
    Encoding,
    /// All bytes of the key are zero.
    Zero,
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it is empty"),
            Self::Length(bytes) => write!(f, "it has {bytes} characters"),
            Self::Encoding => f.write_str("it is not base64 of 32 bytes"),
            Self::Zero => f.write_str("it is a key of zeros, which means none"),
        }
    }
}

/// A text that is not a key. It does not contain the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} is {TEXT_LEN} characters of base64, as `{}` prints it: {defect}",
    kind.words().0, kind.words().1
)]
pub struct InvalidKey {
    /// Which key it should be.
    pub kind: KeyKind,
    /// What is wrong.
    pub defect: Defect,
}

/// Reads a key; spaces and line ends around it do not matter.
fn parse(text: &str, kind: KeyKind) -> Result<Zeroizing<[u8; KEY_LEN]>, InvalidKey> {
    let wrong = |defect| InvalidKey { kind, defect };
    let text = text.trim_ascii();
    if text.is_empty() {
        return Err(wrong(Defect::Empty));
    }
    if text.len() != TEXT_LEN {
        return Err(wrong(Defect::Length(text.len())));
    }
    // One byte more, because 44 characters can be 33 bytes.
    let mut bytes = Zeroizing::new([0; KEY_LEN + 1]);
    let length = STANDARD.decode_slice(text, bytes.as_mut_slice());
    let (Ok(KEY_LEN), Some(key)) = (length, bytes.first_chunk()) else {
        return Err(wrong(Defect::Encoding));
    };
    let key = Zeroizing::new(*key);
    if key.iter().all(|byte| *byte == 0) {
        return Err(wrong(Defect::Zero));
    }
    Ok(key)
}

/// Random bytes from the system.
///
/// # Panics
/// If the system has none: `getrandom(2)` fails only on a kernel without it.
#[must_use]
pub fn random<const LEN: usize>() -> [u8; LEN] {
    let mut bytes = [0; LEN];
    OsRng.fill_bytes(&mut bytes);
    bytes
}

/// A private key of X25519: the secret identity of one end.
#[derive(Clone)]
pub struct PrivateKey(StaticSecret);

impl PrivateKey {
    /// A new one.
    #[must_use]
    pub fn generate() -> Self {
        let mut bytes = Zeroizing::new(random::<KEY_LEN>());
        // As `wg genkey`: RFC 7748 section 5.
        bytes[0] &= 0b1111_1000;
        bytes[31] = bytes[31] & 0b0111_1111 | 0b0100_0000;
        Self(StaticSecret::from(*bytes))
    }

    /// The public key that belongs to it.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(x25519_dalek::PublicKey::from(&self.0).to_bytes())
    }

    /// As `wg` writes it.
    #[must_use]
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.0.as_bytes()))
    }

    /// What it is in calculations.
    #[must_use]
    pub const fn secret(&self) -> &StaticSecret {
        &self.0
    }
}

impl FromStr for PrivateKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let bytes = parse(text, KeyKind::Private)?;
        Ok(Self(StaticSecret::from(*bytes)))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey")
    }
}

/// A public key of X25519: the identity of one end. Not secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; KEY_LEN]);

impl PublicKey {
    /// Of the bytes that a message has.
    #[must_use]
    pub const fn new(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// Its bytes, as messages have them.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// What it is in calculations.
    #[must_use]
    pub fn point(self) -> x25519_dalek::PublicKey {
        x25519_dalek::PublicKey::from(self.0)
    }
}

impl FromStr for PublicKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        Ok(Self(*parse(text, KeyKind::Public)?))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A pre-shared key: who has it belongs to the group.
#[derive(Clone, PartialEq, Eq)]
pub struct PresharedKey(Zeroizing<[u8; KEY_LEN]>);

impl PresharedKey {
    /// A new one.
    #[must_use]
    pub fn generate() -> Self {
        Self(Zeroizing::new(random()))
    }

    /// As `wg` writes it.
    #[must_use]
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.0.as_slice()))
    }

    /// Its bytes, as the protocol takes them.
    #[must_use]
    pub fn bytes(&self) -> [u8; KEY_LEN] {
        *self.0
    }
}

impl FromStr for PresharedKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        parse(text, KeyKind::Preshared).map(Self)
    }
}

impl fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresharedKey")
    }
}

/// The pre-shared keys that are valid at a receiver: one, or two during a rotation, the older one first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresharedKeys {
    first: PresharedKey,
    second: Option<PresharedKey>,
}

/// A text that is not a list of pre-shared keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeys {
    /// There is no key in it.
    #[error("there is no pre-shared key in it; write one, or two during a rotation, one a line")]
    None,
    /// There are more than two.
    #[error(
        "there are {0} pre-shared keys in it; two are valid at most, one a line: remove the oldest"
    )]
    Many(usize),
    /// One of them is invalid.
    #[error("line {line}: {source}")]
    Line {
        /// The number of the line, from 1 on.
        line: usize,
        /// What is wrong with it.
        source: InvalidKey,
    },
}

impl PresharedKeys {
    /// How many there can be.
    pub const MAX: usize = 2;

    /// One key.
    #[must_use]
    pub const fn one(key: PresharedKey) -> Self {
        Self {
            first: key,
            second: None,
        }
    }

    /// Two keys, during a rotation. The same key twice is one key.
    #[must_use]
    pub fn two(first: PresharedKey, second: PresharedKey) -> Self {
        let second = (first != second).then_some(second);
        Self { first, second }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &PresharedKey> {
        [Some(&self.first), self.second.as_ref()]
            .into_iter()
            .flatten()
    }

    /// The last one.
    #[must_use]
    pub fn newest(&self) -> &PresharedKey {
        self.second.as_ref().unwrap_or(&self.first)
    }

    /// A line for each, as they are read.
    #[must_use]
    pub fn to_lines(&self) -> Zeroizing<String> {
        // Room for all: a text that grows leaves copies behind.
        let mut lines = Zeroizing::new(String::with_capacity(Self::MAX * (TEXT_LEN + 1)));
        for key in self.iter() {
            lines.push_str(&key.to_base64());
            lines.push('\n');
        }
        lines
    }

    /// How many there are, one or two.
    #[must_use]
    pub const fn count(&self) -> usize {
        if self.second.is_some() { 2 } else { 1 }
    }
}

impl FromStr for PresharedKeys {
    type Err = InvalidKeys;

    /// One key a line; empty lines do not matter.
    fn from_str(text: &str) -> Result<Self, InvalidKeys> {
        let lines = text.lines().enumerate();
        let mut keys = lines
            .filter(|(_, text)| !text.trim_ascii().is_empty())
            .map(|(at, text)| {
                let line = at + 1;
                text.parse()
                    .map_err(|source| InvalidKeys::Line { line, source })
            });
        let first = keys.next().ok_or(InvalidKeys::None)??;
        let second = keys.next().transpose()?;
        match (second, keys.count()) {
            (None, _) => Ok(Self::one(first)),
            (Some(second), 0) => Ok(Self::two(first, second)),
            (Some(_), more) => Err(InvalidKeys::Many(Self::MAX + more)),
        }
    }
}

#[cfg(test)]
mod tests;
