//! Offload switches of a link, without the ethtool program.
//!
//! The kernel has a name for each feature; `ethtool --show-features` prints them. Their positions in
//! the bit sets differ between kernels. So the names are read first (`ETHTOOL_GSSET_INFO`,
//! `ETHTOOL_GSTRINGS`), then the states (`ETHTOOL_GFEATURES`); `ETHTOOL_SFEATURES` changes them.
//! All four use the SIOCETHTOOL ioctl, see `net/ethtool/ioctl.c`. Each has a structure of 32-bit words
//! with a variable part at its end, here a `Vec<u32>`: the header has the length of this part,
//! and the kernel writes no more.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::error::{Error, Result};
use crate::link::Link;

/// `ETHTOOL_GSTRINGS`: the names of a set.
const GET_STRINGS: u32 = 0x1b;
/// `ETHTOOL_GSSET_INFO`: how many names are in a set.
const GET_SET_INFO: u32 = 0x37;
/// `ETHTOOL_GFEATURES`: the states of all features.
const GET_FEATURES: u32 = 0x3a;
/// `ETHTOOL_SFEATURES`: new states of some features.
const SET_FEATURES: u32 = 0x3b;
/// `ETH_SS_FEATURES`: the set of the features' names.
const FEATURE_NAMES: u32 = 4;
/// `ETH_GSTRING_LEN` in words.
const NAME_WORDS: usize = 8;

/// A group of features under its common name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offload {
    /// TCP segmentation by the device, with all its kinds.
    Tso,
    /// Segmentation by the stack just before the driver.
    Gso,
    /// Joining of received segments.
    Gro,
    /// UDP segmentation by the device (USO).
    UdpSegmentation,
    /// Checksums finished by the device when sending. Segmentation depends on it.
    TxChecksum,
    /// Checksums checked by the device when receiving.
    RxChecksum,
    /// Frames in several pieces of memory. Segmentation depends on it.
    ScatterGather,
    /// VLAN tags (802.1Q and 802.1ad) kept apart from the frame when sending.
    TxVlan,
    /// VLAN tags kept apart from the frame when receiving.
    RxVlan,
}

impl Offload {
    /// All of them, in an order in which no change reverts an earlier one.
    pub const ALL: [Self; 9] = [
        Self::TxChecksum,
        Self::ScatterGather,
        Self::Tso,
        Self::UdpSegmentation,
        Self::Gso,
        Self::Gro,
        Self::RxChecksum,
        Self::TxVlan,
        Self::RxVlan,
    ];

    /// The kernel's names of the features in the group.
    #[must_use]
    pub const fn features(self) -> &'static [&'static str] {
        match self {
            Self::Tso => &[
                "tx-tcp-segmentation",
                "tx-tcp-ecn-segmentation",
                "tx-tcp-mangleid-segmentation",
                "tx-tcp6-segmentation",
            ],
            Self::Gso => &["tx-generic-segmentation"],
            Self::Gro => &["rx-gro"],
            Self::UdpSegmentation => &["tx-udp-segmentation"],
            Self::TxChecksum => &[
                "tx-checksum-ip-generic",
                "tx-checksum-ipv4",
                "tx-checksum-ipv6",
                "tx-checksum-sctp",
            ],
            Self::RxChecksum => &["rx-checksum"],
            Self::ScatterGather => &["tx-scatter-gather", "tx-scatter-gather-fraglist"],
            Self::TxVlan => &["tx-vlan-hw-insert", "tx-vlan-stag-hw-insert"],
            Self::RxVlan => &["rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"],
        }
    }
}

/// The state of one feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// It is on.
    pub on: bool,
    /// It can be changed.
    pub changeable: bool,
}

impl Link {
    /// All features of the link that this kernel has, by name.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn features(&self) -> Result<BTreeMap<String, Feature>> {
        self.namespace()
            .run(|| EthtoolSocket::open(self)?.features())
    }

    /// Turns the offloads in `which` on or off. Those that the device does not have are skipped; the
    /// others have the new state afterwards, or the call fails.
    ///
    /// # Errors
    /// [`Error::FixedFeature`] where the kernel kept another state (one feature can depend on
    /// another), [`Error::System`].
    pub fn set_offloads(&self, which: &[Offload], on: bool) -> Result<()> {
        self.namespace().run(|| {
            let control = EthtoolSocket::open(self)?;
            let names = control.names()?;
            let states = control.features()?;
            let wanted = which
                .iter()
                .flat_map(|offload| offload.features())
                .filter(|name| states.get(**name).is_some_and(|state| state.changeable));
            let wanted: Vec<&str> = wanted.copied().collect();
            control.set(&names, &wanted, on)?;
            let states = control.features()?;
            let kept = wanted
                .iter()
                .find(|name| states.get(**name).is_some_and(|s| s.on != on));
            kept.map_or(Ok(()), |name| {
                Err(Error::FixedFeature {
                    link: self.name().to_owned(),
                    feature: (*name).to_owned(),
                    wanted: on,
                })
            })
        })
    }
}

/// A socket for SIOCETHTOOL requests about one link.
struct EthtoolSocket {
    socket: std::os::fd::OwnedFd,
    name: [libc::c_char; libc::IFNAMSIZ],
}

impl EthtoolSocket {
    fn open(link: &Link) -> Result<Self> {
        let mut name = [0; libc::IFNAMSIZ];
        for (to, from) in name
            .iter_mut()
            .zip(link.name().bytes().take(libc::IFNAMSIZ - 1))
        {
            *to = from.cast_signed();
        }
        let socket = socket(
            AddressFamily::Inet,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .map_err(|errno| Error::system("opening a socket for ethtool requests", errno))?;
        Ok(Self { socket, name })
    }

    /// The features' names in the order of their bits. Unnamed bits are empty strings.
    fn names(&self) -> Result<Vec<String>> {
        // cmd, reserved, mask of sets (two words), count.
        let mut info = vec![GET_SET_INFO, 0, 1 << FEATURE_NAMES, 0, 0];
        self.request(&mut info)?;
        let count = info.last().copied().unwrap_or_default();
        let words = usize::try_from(count).unwrap_or_default() * NAME_WORDS;
        // cmd, set, count, names.
        let mut strings = vec![GET_STRINGS, FEATURE_NAMES, count];
        strings.resize(3 + words, 0);
        self.request(&mut strings)?;
        let name = |words: &[u32]| {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
            String::from_utf8_lossy(text).into_owned()
        };
        Ok(strings
            .get(3..)
            .unwrap_or_default()
            .chunks(NAME_WORDS)
            .map(name)
            .collect())
    }

    fn features(&self) -> Result<BTreeMap<String, Feature>> {
        let names = self.names()?;
        let blocks = names.len().div_ceil(32);
        // cmd, count of blocks, then available, requested, active, never changed of 32 features.
        let mut states = vec![GET_FEATURES, u32::try_from(blocks).unwrap_or_default()];
        states.resize(2 + 4 * blocks, 0);
        self.request(&mut states)?;
        let bit = |position: usize, column: usize| {
            let word = states
                .get(2 + 4 * (position / 32) + column)
                .copied()
                .unwrap_or_default();
            word >> (position % 32) & 1 == 1
        };
        Ok(names
            .into_iter()
            .enumerate()
            .filter(|(_, name)| !name.is_empty())
            .map(|(at, name)| {
                (
                    name,
                    Feature {
                        on: bit(at, 2),
                        changeable: bit(at, 0) && !bit(at, 3),
                    },
                )
            })
            .collect())
    }

    fn set(&self, names: &[String], wanted: &[&str], on: bool) -> Result<()> {
        let blocks = names.len().div_ceil(32);
        // cmd, count of blocks, then which of 32 features change, and their new states.
        let mut change = vec![SET_FEATURES, u32::try_from(blocks).unwrap_or_default()];
        change.resize(2 + 2 * blocks, 0);
        for (at, _) in names
            .iter()
            .enumerate()
            .filter(|(_, name)| wanted.contains(&name.as_str()))
        {
            let block = 2 + 2 * (at / 32);
            for (column, set) in [(0, true), (1, on)] {
                if let Some(word) = change.get_mut(block + column) {
                    *word |= u32::from(set) << (at % 32);
                }
            }
        }
        self.request(&mut change)
    }

    /// Passes `words` to the kernel, which writes its answer into them. A positive return value (some
    /// features were not changed) is no error here: the caller reads the states afterwards.
    fn request(&self, words: &mut [u32]) -> Result<()> {
        let data = words.as_mut_ptr().cast::<libc::c_char>();
        let mut request = libc::ifreq {
            ifr_name: self.name,
            ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: data },
        };
        // SAFETY: the request's pointer is to `words`, valid and not shared during the call; each
        // caller made it as long as the count in its header.
        let answer =
            unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
        Errno::result(answer).map(drop).map_err(|errno| {
            let name: Vec<u8> = self.name.iter().map(|byte| byte.cast_unsigned()).collect();
            let name = String::from_utf8_lossy(&name)
                .trim_end_matches('\0')
                .to_owned();
            Error::system(format!("asking for the features of {name}"), errno)
        })
    }
}
