//! The API server's address, without secrets.
//!
//! In: the text of a kubeconfig or of the environment. Out: the URL for requests, and the text of it
//! for the log. A URL may have `user:password@`, and a query or a fragment may have a token. `kube`
//! uses none of them, so they are removed here, before any other code gets the URL.
//!
//! Invariant: the text for the log has only a scheme, a host, a port and a path, and no part of a
//! password. A `/`, `?` or `#` in a password that is not escaped ends the host too early (RFC 3986,
//! section 3.2). The rest then has an `@`, and the address is not shown.

use http::Uri;
use http::uri::PathAndQuery;

/// Shown instead of an address that may have a password.
const HIDDEN: &str = "(not shown, because there is an @ after its host)";

/// Where the API server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// For requests: scheme, host, port and path.
    pub(crate) url: Uri,
    /// For the log.
    pub(crate) shown: String,
}

impl Address {
    /// Reads a URL; `None` if it is not a URL with a scheme and a host.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let given: Uri = text.parse().ok()?;
        let (_, rest) = text.split_once("://")?;
        let after_host = rest
            .find(['/', '?', '#'])
            .and_then(|end| rest.get(end..))
            .unwrap_or_default();
        let authority = given.authority()?;
        let host = authority.host();
        let whole = authority.as_str();
        let host_and_port = whole.rsplit_once('@').map_or(whole, |(_, host)| host);
        // A port that is not a number may be the start of a password. A host without a port has no
        // colon.
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
        let shown = if after_host.contains('@') {
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
    use crate::foreign_testing::any_text;

    fn part() -> impl Strategy<Value = String> {
        prop_oneof![any_text(), "[a-z0-9:@/?#%\\[\\]]{0,12}"]
    }

    #[test]
    fn a_path_with_an_at_is_requested_and_not_shown() {
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
