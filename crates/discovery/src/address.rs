//! The API server's address, without what nobody may read in a log.
//!
//! In: the text of a kubeconfig or of the environment. Out: the URL that is asked, and what is shown
//! of it. A URL may hold `user:password@`, and a query or a fragment may hold a token. `kube` makes no
//! use of any of them, so they are dropped here, once and before anybody else has the URL.
//!
//! Invariant: what is shown has a scheme, a host, a port and a path, and of these nothing that may
//! be a part of a password: a bare `/`, `?` or `#` in a password ends the host too early (RFC 3986,
//! section 3.2), and what follows then has an `@`.

use http::Uri;
use http::uri::PathAndQuery;

/// Stands for an address that may hold a password.
const HIDDEN: &str = "(not shown, as there is an @ behind its host)";

/// Where the API server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// What is asked: scheme, host, port and path.
    pub(crate) url: Uri,
    /// What is shown.
    pub(crate) shown: String,
}

impl Address {
    /// Reads a URL; `None` where it is none with a scheme and a host.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let given: Uri = text.parse().ok()?;
        let (_, rest) = text.split_once("://")?;
        let behind_host = rest
            .find(['/', '?', '#'])
            .and_then(|end| rest.get(end..))
            .unwrap_or_default();
        let authority = given.authority()?;
        let host = authority.host();
        let whole = authority.as_str();
        let host_and_port = whole.rsplit_once('@').map_or(whole, |(_, host)| host);
        // Not a number, it may be a password's beginning; and a host alone has no colon.
        let port = host_and_port.strip_prefix(host)?;
        if host.is_empty() || !(port.is_empty() || authority.port_u16().is_some()) {
            return None;
        }
        let path: PathAndQuery = given.path().parse().ok()?;
        let url = Uri::builder()
            .scheme(given.scheme()?.clone())
            .authority(host_and_port)
            .path_and_query(path)
            .build()
            .ok()?;
        let shown = if behind_host.contains('@') {
            HIDDEN.to_owned()
        } else {
            url.to_string()
        };
        Some(Self { url, shown })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::foreign::testing::any_text;

    fn part() -> impl Strategy<Value = String> {
        prop_oneof![any_text(), "[a-z0-9:@/?#%\\[\\]]{0,12}"]
    }

    #[test]
    fn a_path_with_an_at_is_asked_and_not_shown() {
        let address = Address::parse("https://host:6443/a@b").unwrap();
        assert_eq!(address.url, "https://host:6443/a@b");
        assert_eq!(address.shown, HIDDEN);
    }

    proptest! {
        #[test]
        fn no_part_of_a_user_or_password_is_shown(user in part(), password in part()) {
            for host in ["host:6443", "[fd00::1]:6443"] {
                let text = format!("https://{user}:{password}@{host}/path?{password}#{password}");
                let Some(address) = Address::parse(&text) else { continue };
                let whole = format!("https://{host}/path");
                prop_assert!([HIDDEN, &whole].contains(&&*address.shown), "{:?}", address);
            }
        }
    }
}
