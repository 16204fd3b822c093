//! A parcel: what the kernel takes as one, a datagram or a run of equal ones that it cuts itself (`UDP_SEGMENT`, udp(7)).
//! Parcels that are sent from the same address and cut alike go with one system call, each to its own destination.

use std::io::IoSlice;
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg, sendmsg,
};

use super::Name;
use super::addresses::in_family;
use super::control::{Source, room_to_send};
use super::route::Route;
use crate::batch::{Batch, Cursor};

/// The most parcels that one call sends.
pub(super) const PARCELS: usize = 64;

/// Bytes for one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parcel {
    /// The first of its bytes.
    pub(super) at: Cursor,
    /// Which member of the audience of these bytes it is for.
    pub(super) place: usize,
    /// How many bytes it has.
    pub(super) len: usize,
    /// The size of its datagrams, where there are several.
    pub(super) cut: Option<u16>,
    /// Whom it goes to.
    pub(super) route: Route,
}

impl Parcel {
    /// Whether it can go in one call with `first`: the control messages are the same for all.
    pub(super) fn goes_with(&self, first: &Self) -> bool {
        let uncut = self.cut.is_none() && first.cut.is_some_and(|cut| self.len <= cut.into());
        self.route.source == first.route.source && (self.cut == first.cut || uncut)
    }

    pub(super) fn bytes<'a>(&self, batch: &'a Batch) -> &'a [u8] {
        let run = &batch.runs()[self.at.run];
        &batch.bytes(run)[self.at.offset..][..self.len]
    }

    /// The destination to name in the call.
    fn destination(&self, name: Name) -> Option<SockaddrStorage> {
        // A connected socket has its destination.
        let remote = Some(self.route.flow.remote).filter(|_| name.remote.is_none());
        remote.map(|remote| in_family(remote, name.bound).into())
    }
}

/// Sends `parcels`, which all go with the first of them, in one call: sendmsg(2), or sendmmsg(2) if there are several. Returns how
/// many the kernel took, at least one.
pub(super) fn transmit(
    socket: &socket2::Socket,
    name: Name,
    batch: &Batch,
    parcels: &[Parcel],
) -> nix::Result<usize> {
    let Some(first) = parcels.first() else {
        return Ok(0);
    };
    let source = first
        .route
        .source
        .map(|local| Source::new(local, name.bound));
    let cut = first.cut.unwrap_or_default();
    let mut controls = [ControlMessage::UdpGsoSegments(&cut); 2];
    let mut count = usize::from(first.cut.is_some());
    if let Some(source) = &source {
        controls[count] = source.message();
        count += 1;
    }
    let controls = &controls[..count];
    let fd = socket.as_raw_fd();
    let none = MsgFlags::empty();
    if parcels.len() == 1 {
        let slice = [IoSlice::new(first.bytes(batch))];
        sendmsg(fd, &slice, controls, none, first.destination(name).as_ref())?;
        return Ok(1);
    }
    let part = |at: usize| parcels.get(at);
    let slices: [_; PARCELS] = std::array::from_fn(|at| {
        [IoSlice::new(
            part(at).map_or(&[], |parcel| parcel.bytes(batch)),
        )]
    });
    let destinations: [_; PARCELS] =
        std::array::from_fn(|at| part(at).and_then(|parcel| parcel.destination(name)));
    let room = room_to_send(first.cut, source.as_ref());
    let mut headers = MultiHeaders::preallocate(parcels.len(), room);
    Ok(sendmmsg(fd, &mut headers, &slices, destinations, controls, none)?.count())
}
