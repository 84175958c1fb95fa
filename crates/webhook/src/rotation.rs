//! The certificates that the webhook makes, and the order in which a new one replaces an old one. No I/O.
//!
//! A [`Generation`] is a CA, and a certificate with its key that the CA signed. The key of the CA is thrown away
//! at once, so nobody can sign another certificate that API servers would trust. All generations in use are in
//! the Secret, which each replica reads and writes by optimistic concurrency:
//!
//! ```text
//!   current                         is shown to clients
//!   current, next                   a third of the time is left: a replica adds the next one;
//!                                   each replica publishes the CAs of both
//!   current (was next), previous    the CA of the next one was published for a while: a replica promotes it;
//!                                   a replica that has not read this yet still shows the previous one
//! ```
//! Invariant: an API server that read the published CAs [`Times::settle`] ago or later trusts what each replica
//! shows. `replicas_show_only_what_api_servers_trust` proves it for any order of steps.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use time::OffsetDateTime;

use crate::identity::{Identity, validity};

/// A certificate is valid from so long before it is made, because clocks differ.
const SKEW: i64 = 3600;

/// The fields of the Secret.
const CURRENT: [&str; 3] = ["ca.crt", "tls.crt", "tls.key"];
const NEXT: [&str; 3] = ["next-ca.crt", "next-tls.crt", "next-tls.key"];
const PREVIOUS: &str = "previous-ca.crt";

/// The data of the Secret.
pub(crate) type Data = BTreeMap<String, Vec<u8>>;

/// A CA, a certificate that it signed, and the certificate's key, as PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Generation {
    pub(crate) ca: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
    /// The end of the certificate, in seconds since 1970.
    pub(crate) not_after: i64,
}

/// The generations in use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Stored {
    pub(crate) current: Option<Generation>,
    pub(crate) next: Option<Generation>,
    /// The CA of the previous one, and its end.
    pub(crate) previous: Option<(String, i64)>,
}

/// How long certificates are valid, and how fast they are replaced.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) validity: Duration,
    /// How long a CA is published before its certificate is shown.
    pub(crate) settle: Duration,
    /// How often a replica reads the Secret.
    pub(crate) poll: Duration,
}

impl Times {
    pub(crate) fn new(validity: Duration) -> Self {
        Self {
            validity,
            settle: (validity / 20).min(Duration::from_secs(10)),
            poll: (validity / 20).min(Duration::from_secs(5)),
        }
    }

    /// The time before the end of a certificate at which it is replaced.
    fn rest(self) -> i64 {
        seconds(self.validity / 3)
    }
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

impl Generation {
    /// Makes one for these names.
    ///
    /// # Errors
    /// When the system has no random numbers, or a name is not valid.
    pub(crate) fn make(
        names: &[String],
        now: i64,
        validity: Duration,
    ) -> Result<Self, rcgen::Error> {
        let not_after = now.saturating_add(seconds(validity));
        let parameters = |names: &[String], common_name: &str| {
            let mut parameters = CertificateParams::new(names)?;
            parameters.distinguished_name = rcgen::DistinguishedName::new();
            parameters
                .distinguished_name
                .push(DnType::CommonName, common_name);
            parameters.not_before = date(now.saturating_sub(SKEW));
            parameters.not_after = date(not_after);
            parameters.use_authority_key_identifier_extension = true;
            Ok::<_, rcgen::Error>(parameters)
        };
        // Its own name, so that a client that has several CAs finds the right one.
        let name = format!("podspan-webhook-ca-{:016x}", fastrand::u64(..));
        let mut ca = parameters(&[], &name)?;
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;
        let mut server = parameters(names, "podspan-webhook")?;
        server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = server.signed_by(&key, &ca)?;
        Ok(Self {
            ca: ca.pem(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            not_after,
        })
    }

    /// Reads one; `None` where it is not complete or not valid in itself.
    fn read(data: &Data, fields: [&str; 3]) -> Option<Self> {
        let [ca, certificate, key] = fields.map(|field| text(data, field));
        let (ca, certificate, key) = (ca?, certificate?, key?);
        let identity = Identity::from_pem(certificate.as_bytes(), key.as_bytes()).ok()?;
        ca_end(&ca)?;
        Some(Self {
            ca,
            certificate,
            key,
            not_after: identity.not_after,
        })
    }
}

fn text(data: &Data, field: &str) -> Option<String> {
    String::from_utf8(data.get(field)?.clone()).ok()
}

fn ca_end(pem: &str) -> Option<i64> {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    validity(&certificate).map(|(_, end)| end)
}

/// A time as certificates have it.
fn date(time: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(time).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// The names of a Service, and further ones.
pub(crate) fn names(service: &str, namespace: &str, more: &[String]) -> Vec<String> {
    let name = format!("{service}.{namespace}.svc");
    let mut names = vec![format!("{name}.cluster.local"), name];
    names.extend(more.iter().map(|name| {
        // As certificates have it, without zeros that could be left out.
        name.parse::<IpAddr>()
            .map_or_else(|_| name.clone(), |address| address.to_string())
    }));
    names
}

impl Stored {
    /// Reads the data of the Secret. What cannot be read is not there.
    pub(crate) fn read(data: &Data) -> Self {
        let previous = text(data, PREVIOUS).and_then(|pem| {
            let end = ca_end(&pem)?;
            Some((pem, end))
        });
        Self {
            current: Generation::read(data, CURRENT),
            next: Generation::read(data, NEXT),
            previous,
        }
    }

    /// The data of the Secret.
    pub(crate) fn data(&self) -> Data {
        let mut data = Data::new();
        let generations = [(&self.current, CURRENT), (&self.next, NEXT)];
        for (generation, fields) in generations {
            let Some(generation) = generation else {
                continue;
            };
            let texts = [&generation.ca, &generation.certificate, &generation.key];
            for (field, text) in fields.into_iter().zip(texts) {
                data.insert(field.to_owned(), text.clone().into_bytes());
            }
        }
        if let Some((previous, _)) = &self.previous {
            data.insert(PREVIOUS.to_owned(), previous.clone().into_bytes());
        }
        data
    }

    /// The CAs to publish.
    pub(crate) fn bundle(&self) -> String {
        let previous = self.previous.iter().map(|(ca, _)| ca.as_str());
        let generations = [&self.current, &self.next].into_iter().flatten();
        previous
            .chain(generations.map(|one| one.ca.as_str()))
            .collect()
    }

    /// What the Secret must have instead; `None` if it is as it must be. `known` is what this replica read or
    /// wrote last, `settled` whether the CA of the next generation was published for long enough.
    ///
    /// # Errors
    /// Those of `make`, which makes a generation.
    pub(crate) fn replacement<E>(
        &self,
        known: &Self,
        settled: bool,
        now: i64,
        times: Times,
        make: impl FnOnce() -> Result<Generation, E>,
    ) -> Result<Option<Self>, E> {
        let is_valid = |generation: &&Generation| generation.not_after > now;
        let Some(current) = self.current.as_ref().filter(is_valid) else {
            // Somebody has emptied the Secret, all replicas were off for a long time, or this is the first start.
            if known
                .current
                .as_ref()
                .is_some_and(|current| is_valid(&current))
            {
                return Ok(Some(known.clone()));
            }
            let current = match self.next.as_ref().filter(is_valid) {
                Some(next) => next.clone(),
                None => make()?,
            };
            return Ok(Some(Self {
                current: Some(current),
                ..Self::default()
            }));
        };
        if current.not_after.saturating_sub(now) > times.rest() {
            return Ok(None);
        }
        match self.next.as_ref().filter(is_valid) {
            Some(next) if settled => Ok(Some(Self {
                current: Some(next.clone()),
                next: None,
                previous: Some((current.ca.clone(), current.not_after)),
            })),
            Some(_) => Ok(None),
            None => Ok(Some(Self {
                next: Some(make()?),
                previous: self.previous.clone().filter(|(_, end)| *end > now),
                ..self.clone()
            })),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const TIMES: Times = Times {
        validity: Duration::from_secs(90),
        settle: Duration::from_secs(4),
        poll: Duration::from_secs(4),
    };

    fn named(number: usize, not_after: i64) -> Generation {
        Generation {
            ca: format!("ca{number} "),
            certificate: format!("certificate{number}"),
            key: String::new(),
            not_after,
        }
    }

    #[test]
    fn a_made_generation_is_read_back_from_the_secret() {
        let now = crate::identity::now();
        let names = names(
            "podspan-webhook",
            "podspan-system",
            &["127.0.0.1".to_owned()],
        );
        let make = || Generation::make(&names, now, Duration::from_mins(1)).unwrap();
        let stored = Stored {
            current: Some(make()),
            next: Some(make()),
            previous: Some((make().ca, now + 60)),
        };
        assert_eq!(Stored::read(&stored.data()), stored);
        let bundle = stored.bundle();
        assert_eq!(CertificateDer::pem_slice_iter(bundle.as_bytes()).count(), 3);
        let current = stored.current.unwrap();
        let identity =
            Identity::from_pem(current.certificate.as_bytes(), current.key.as_bytes()).unwrap();
        assert_eq!(
            (identity.not_before, identity.not_after),
            (now - SKEW, now + 60)
        );
    }

    #[test]
    fn what_cannot_be_read_is_not_there() {
        let now = crate::identity::now();
        let make = || Generation::make(&[], now, Duration::from_mins(1)).unwrap();
        let good = Stored {
            current: Some(make()),
            next: None,
            previous: None,
        };
        for field in CURRENT {
            for value in [b"".to_vec(), b"garbage".to_vec(), vec![0xff; 100]] {
                let mut data = good.data();
                data.insert(field.to_owned(), value);
                assert_eq!(Stored::read(&data), Stored::default(), "{field}");
            }
        }
        let mut data = good.data();
        data.insert("tls.key".to_owned(), make().key.into_bytes());
        assert_eq!(Stored::read(&data), Stored::default());
    }

    #[test]
    fn an_emptied_secret_gets_back_what_a_replica_knows() {
        let known = Stored {
            current: Some(named(1, 1000)),
            ..Stored::default()
        };
        let make = || Ok::<_, Infallible>(named(2, 2000));
        let empty = Stored::default();
        let replaced = |now| empty.replacement(&known, false, now, TIMES, make).unwrap();
        assert_eq!(replaced(10), Some(known.clone()));
        let new = replaced(1000).and_then(|stored| stored.current);
        assert_eq!(new, Some(named(2, 2000)), "the known one has expired");
    }

    /// One replica, as [`crate::authority`] acts.
    #[derive(Default)]
    struct Replica {
        known: Stored,
        /// The CA of the next generation, and since when it is published.
        seen: Option<(String, i64)>,
        polled: i64,
    }

    /// The Secret, and the bundles that were published, with their times.
    #[derive(Default)]
    struct Cluster {
        secret: Stored,
        bundles: Vec<(i64, String)>,
        made: usize,
    }

    impl Replica {
        /// One turn; with `conflict`, another replica writes meanwhile, so that this one's write is refused.
        fn turn(&mut self, cluster: &mut Cluster, now: i64, conflict: bool) {
            self.polled = now;
            let mut stored = cluster.secret.clone();
            let settled = matches!((&self.seen, &stored.next), (Some((ca, since)), Some(next))
                if *ca == next.ca && now - since >= seconds(TIMES.settle));
            let number = cluster.made;
            let make = || Ok::<_, Infallible>(named(number, now + seconds(TIMES.validity)));
            let new = stored
                .replacement(&self.known, settled, now, TIMES, make)
                .unwrap();
            if let Some(new) = new {
                cluster.made += 1;
                if conflict {
                    return;
                }
                cluster.secret = new.clone();
                stored = new;
            }
            self.known = stored;
            let bundle = self.known.bundle();
            if cluster
                .bundles
                .last()
                .is_none_or(|(_, last)| *last != bundle)
            {
                cluster.bundles.push((now, bundle));
                self.seen = None;
            }
            self.seen = self.known.next.as_ref().map(|next| match self.seen.take() {
                Some((ca, since)) if ca == next.ca => (ca, since),
                _ => (next.ca.clone(), now),
            });
        }
    }

    proptest! {
        /// Two replicas take turns in any order, at least every 4 seconds; writes conflict, and the Secret is emptied,
        /// but not twice within 8 seconds.
        #[test]
        fn replicas_show_only_what_api_servers_trust(
            turns in vec((any::<bool>(), 0..3_i64, prop::bool::weighted(0.2), prop::bool::weighted(0.02)), 1..400),
        ) {
            let mut cluster = Cluster::default();
            let mut replicas = [Replica::default(), Replica::default()];
            let (mut now, mut last_emptied) = (0, 0);
            for (which, passed, conflict, emptied) in turns {
                now += passed;
                let is_known = replicas.iter().any(|replica| replica.known.current.is_some());
                if emptied && is_known && now - last_emptied >= 8 {
                    last_emptied = now;
                    cluster.secret = Stored::default();
                }
                let due = replicas.iter().position(|replica| now - replica.polled >= 3);
                // A write that conflicts is tried again at once.
                let which = due.unwrap_or(usize::from(which));
                replicas[which].turn(&mut cluster, now, conflict);
                if conflict {
                    replicas[which].turn(&mut cluster, now, false);
                }
                if now < 20 {
                    continue;
                }
                for replica in &replicas {
                    let Some(shown) = &replica.known.current else { continue };
                    prop_assert!(shown.not_after > now - 4, "{shown:?} at {now}");
                    // What an API server has that is as late as it may be, and all it gets until now.
                    let old = cluster.bundles.iter().rposition(|(at, _)| *at <= now - seconds(TIMES.settle));
                    for (_, bundle) in &cluster.bundles[old.unwrap_or(0)..] {
                        prop_assert!(bundle.contains(&shown.ca), "{bundle} at {now}, shown {shown:?}");
                    }
                }
            }
            // Some rotations, if there was time for them.
            prop_assert!(i64::try_from(cluster.made).unwrap() >= now / 90, "{} in {now} s", cluster.made);
        }
    }
}
