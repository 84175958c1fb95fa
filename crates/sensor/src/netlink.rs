//! Requests about links over rtnetlink, in the network namespace of the calling thread.

use futures_util::TryStreamExt as _;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use nix::errno::Errno;
use rtnetlink::Handle;

use crate::error::Error;

/// Does `work` with a netlink socket.
pub(crate) fn with<T>(work: impl AsyncFnOnce(Handle) -> Result<T, Error>) -> Result<T, Error> {
    let failed = |error| Error::system("open a netlink socket", &error);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(failed)?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(failed)?;
        tokio::spawn(connection);
        work(handle).await
    })
}

/// What the kernel refused with; `None` where the answer was no refusal.
pub(crate) fn refusal(error: &rtnetlink::Error) -> Option<Errno> {
    match error {
        rtnetlink::Error::NetlinkError(message) => {
            Some(Errno::from_raw(message.raw_code().saturating_neg()))
        }
        _ => None,
    }
}

/// The link of this name, if there is one.
pub(crate) async fn find(netlink: &Handle, name: &str) -> Result<Option<LinkMessage>, Error> {
    let mut links = netlink.link().get().match_name(name).execute();
    match links.try_next().await {
        Ok(link) => Ok(link),
        Err(error) if refusal(&error) == Some(Errno::ENODEV) => Ok(None),
        Err(error) => Err(Error::system(format!("read the device {name}"), &error)),
    }
}

/// Whether the link is the kernel's vxlan device.
pub(crate) fn is_vxlan(link: &LinkMessage) -> bool {
    infos(link).any(|info| matches!(info, LinkInfo::Kind(InfoKind::Vxlan)))
}

/// What the link says about its kind.
pub(crate) fn infos(link: &LinkMessage) -> impl Iterator<Item = &LinkInfo> {
    link.attributes
        .iter()
        .filter_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(infos) => Some(infos),
            _ => None,
        })
        .flatten()
}
