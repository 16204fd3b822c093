//! Sending: from the runs of a batch to the peers that they are for, as many datagrams in a system call as there are.
//! A datagram counts as sent when the whole audience has it; what the kernel does not take now stays where it is.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use super::addresses::{Pair, comparable};
use super::parcel::{PARCELS, Parcel, transmit};
use super::route::Route;
use super::send_errors::{Attempts, Congestion};
use super::{Name, Settings, Socket, Speech, options};
use crate::batch::{Batch, Cursor, Run, Shape};
use crate::flow::Direction;
use crate::pump::rules::Engine;
use crate::tap::{Data, Event, Taps};

/// The most datagrams in a parcel (`UDP_MAX_SEGMENTS` before Linux 6.9), and the most bytes.
const SEGMENTS: usize = 64;
const LONGEST_PARCEL: usize = 65_507;

/// The sending side of a socket.
pub(super) struct Outbox {
    /// Where bytes without addresses go. It changes only between datagrams.
    pub(super) routes: Vec<Route>,
    /// How many of them have got the datagram at the cursor.
    served: usize,
    /// The parcels of one call, kept for the memory.
    parcels: Vec<Parcel>,
    /// How many parcels a call takes.
    most: usize,
    /// Only datagrams smaller than this are left to the kernel to cut.
    pub(super) cut_below: usize,
    /// The local address that the kernel chose for the target.
    pub(super) chosen: Option<SocketAddr>,
    /// How a peer is reached that cannot be answered from the address it had written to (a broadcast address, a group).
    pub(super) detour: Option<Route>,
    /// What the kernel said of the path when a datagram was too long for it, in bytes with headers.
    pub(super) path_mtu: Option<u32>,
    /// Whether the interface takes nothing at present.
    pub(super) congestion: Option<Congestion>,
}

impl Outbox {
    pub(super) fn new(socket: &socket2::Socket, settings: &Settings) -> Self {
        let (most, can_cut) = match settings.engine {
            Engine::Fast => (PARCELS, options::can_cut(socket)),
            Engine::Portable => (1, false),
        };
        Self {
            routes: Vec::new(),
            served: 0,
            parcels: Vec::new(),
            most,
            cut_below: if can_cut { usize::MAX } else { 0 },
            chosen: None,
            detour: None,
            path_mtu: None,
            congestion: None,
        }
    }

    /// The other way to the same peer, where there is one.
    fn detour_for(&self, route: Route) -> Option<Route> {
        self.detour
            .filter(|detour| detour.flow.remote == route.flow.remote)
    }

    /// The next parcel of `run`.
    fn parcel(&self, run: &Run, at: Cursor, place: usize, route: Route) -> Parcel {
        let left = run.len - at.offset;
        let stride = match run.shape {
            Shape::Stream => run.len.max(1),
            Shape::Datagrams(stride) => stride,
        };
        let segments = if stride < self.cut_below {
            (LONGEST_PARCEL / stride).clamp(1, SEGMENTS)
        } else {
            1
        };
        let len = left.min(stride * segments);
        let cut = u16::try_from(stride).ok().filter(|_| len > stride);
        let route = self.detour_for(route).unwrap_or(route);
        Parcel {
            at,
            place,
            len,
            cut,
            route,
        }
    }
}

impl Socket {
    /// Sends the runs from `at` on, up to the one with the index `until`.
    pub(super) fn send_batch(
        &mut self,
        batch: &Batch,
        at: &mut Cursor,
        until: usize,
        taps: &mut Taps,
    ) -> io::Result<()> {
        if self.outbox.served == 0 {
            self.update_routes();
        }
        let mut attempts = Attempts::default();
        loop {
            let parcels = self.gather(batch, at, until);
            let Some(first) = parcels.first() else {
                self.outbox.parcels = parcels;
                return Ok(());
            };
            match transmit(&self.inner, self.name, batch, &parcels) {
                Ok(taken) => {
                    attempts = Attempts::default();
                    self.settle(&parcels[..taken], batch, at, taps);
                    if taken < parcels.len() {
                        // Whatever stopped it may have been told only once, and will not be told to the next call.
                        self.drain_errors(taps);
                    }
                }
                Err(error) => {
                    if self.give_up_on(first, error, &mut attempts, taps)? {
                        self.move_past(first, batch, at);
                    }
                }
            }
            self.outbox.parcels = parcels;
        }
    }

    /// Collects what can go with the next call, from `at` on; nothing is left before `until` where that is empty.
    fn gather(&mut self, batch: &Batch, at: &mut Cursor, until: usize) -> Vec<Parcel> {
        let mut parcels = std::mem::take(&mut self.outbox.parcels);
        parcels.clear();
        let mut next = *at;
        let mut place = self.outbox.served;
        while let Some(run) = batch
            .runs()
            .get(next.run)
            .filter(|_| next.run < until && parcels.len() < self.outbox.most)
        {
            let Some((route, audience)) = self.audience_of(run, place) else {
                // Nobody is addressed.
                next = past(run, next, run.len);
                if parcels.is_empty() {
                    *at = next;
                }
                continue;
            };
            if route.flow.local.ip().is_multicast() && self.outbox.detour_for(route).is_none() {
                // What was sent to a group is not answered from there.
                self.outbox.detour = Some(self.detour_to(route.flow.remote));
            }
            let parcel = self.outbox.parcel(run, next, place, route);
            if parcels
                .first()
                .is_some_and(|first| !parcel.goes_with(first))
            {
                break;
            }
            place += 1;
            if place == audience {
                place = 0;
                next = past(run, next, parcel.len);
            }
            parcels.push(parcel);
        }
        parcels
    }

    /// Who is at `place` of those whom a run is for, and how many they are.
    fn audience_of(&self, run: &Run, place: usize) -> Option<(Route, usize)> {
        if let Some(flow) = &run.flow {
            return Pair::of(flow).map(|flow| (self.route_back(flow), 1));
        }
        let routes = &self.outbox.routes;
        routes.get(place).map(|&route| (route, routes.len()))
    }

    /// Counts and shows parcels that the kernel has taken.
    fn settle(&mut self, parcels: &[Parcel], batch: &Batch, at: &mut Cursor, taps: &mut Taps) {
        if self.name.bound.port() == 0 {
            // The first datagram has bound the socket.
            self.name = Name::of(&self.inner).unwrap_or(self.name);
            self.update_routes();
        }
        for parcel in parcels {
            let stride = parcel.cut.map_or(parcel.len, usize::from);
            let bytes = Some(parcel.bytes(batch));
            self.note_sent(parcel.route.flow, parcel.len, stride, bytes, taps);
            self.move_past(parcel, batch, at);
        }
    }

    /// Counts and reports `len` bytes that were sent, as a datagram for each `stride` of them.
    pub(super) fn note_sent(
        &mut self,
        mut flow: Pair,
        len: usize,
        stride: usize,
        bytes: Option<&[u8]>,
        taps: &mut Taps,
    ) {
        if self.settings.speech == Speech::InTurn {
            self.heard = Instant::now();
        }
        self.outbox.congestion = None;
        let shape = Shape::Datagrams(stride.max(1));
        let datagrams = shape.count(len);
        flow.local.set_port(self.name.bound.port());
        self.totals.sent.add(len, datagrams);
        self.peers
            .count_sent(comparable(flow.remote), len, datagrams);
        taps.emit(&Event::Data(Data {
            direction: Direction::Outgoing,
            flow: &flow.flow(),
            conn: None,
            len,
            shape,
            bytes,
        }));
    }

    fn move_past(&mut self, parcel: &Parcel, batch: &Batch, at: &mut Cursor) {
        let run = &batch.runs()[parcel.at.run];
        let audience = self.audience_of(run, 0).map_or(1, |(_, audience)| audience);
        self.outbox.served = (parcel.place + 1) % audience;
        *at = if self.outbox.served == 0 {
            past(run, parcel.at, parcel.len)
        } else {
            parcel.at
        };
    }
}

/// The place `len` bytes on: datagrams of this run are taken one after the other, and an empty one is taken too.
fn past(run: &Run, at: Cursor, len: usize) -> Cursor {
    let offset = at.offset + len;
    if offset < run.len {
        Cursor { offset, ..at }
    } else {
        Cursor {
            run: at.run + 1,
            offset: 0,
        }
    }
}
