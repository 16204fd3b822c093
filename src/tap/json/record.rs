//! The form of an event as JSON: when, what, about whom, and what there is to say of it.
//! A field has one name and one meaning wherever it occurs; what does not apply is left out.

use std::net::IpAddr;
use std::time::SystemTime;

use serde::{Serialize, Serializer};

use crate::escape::Timestamp;
use crate::flow::{Address, Flow, Identity, Transport};
use crate::sys::tcp_info::TcpInfo;
use crate::tap::{Count, Reach};

/// An event.
#[derive(Serialize)]
pub(super) struct Record<'a> {
    #[serde(serialize_with = "stamp")]
    pub(super) time: SystemTime,
    pub(super) event: &'static str,
    #[serde(flatten)]
    pub(super) who: Who<'a>,
    #[serde(flatten)]
    pub(super) details: Details<'a>,
}

/// Writes a time as RFC 3339 has it, to the microsecond.
fn stamp<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Timestamp(*time))
}

/// The socket or the addresses that an event is about.
#[derive(Default, Serialize)]
pub(super) struct Who<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    proto: Option<Transport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    local: Option<&'a Address>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<&'a Address>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) conn: Option<u64>,
}

impl<'a> Who<'a> {
    /// A connection, or the addresses of a datagram.
    pub(super) fn pair(flow: &'a Flow, conn: Option<u64>) -> Self {
        Self {
            proto: Some(flow.transport),
            local: Some(&flow.local),
            remote: Some(&flow.remote),
            conn,
        }
    }

    /// A socket by its name.
    pub(super) fn socket(identity: &'a Identity) -> Self {
        match identity {
            Identity::Pair(flow) => Self::pair(flow, None),
            Identity::Socket(proto, local) => Self {
                proto: Some(*proto),
                local: Some(local),
                ..Self::default()
            },
        }
    }

    /// Somebody who is called.
    pub(super) fn target(proto: Transport, remote: &'a Address) -> Self {
        Self {
            proto: Some(proto),
            remote: Some(remote),
            ..Self::default()
        }
    }
}

/// What there is to say beyond when, what and about whom. Times are in seconds.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Details<'a> {
    None {},
    Reach {
        reach: Reach,
    },
    Took {
        seconds: f64,
    },
    Attempt {
        error: String,
        seconds: f64,
    },
    Moved {
        bytes: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        payload: Option<&'a str>,
    },
    Truncated {
        bytes: usize,
        size: usize,
    },
    Unreachable {
        reason: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        offender: Option<IpAddr>,
    },
    Rejected {
        #[serde(skip_serializing_if = "Option::is_none")]
        datagrams: Option<usize>,
    },
    Dropped {
        datagrams: u64,
        or_more: bool,
    },
    Transferred {
        direction: &'static str,
        #[serde(flatten)]
        count: Count,
        has_end: bool,
        lost: u64,
        or_more: bool,
    },
    Exited {
        program: &'a str,
        pid: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<i32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
    },
    Error {
        error: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<u8>,
    },
    Text {
        text: &'a str,
    },
    Socket {
        state: &'static str,
        received: Count,
        sent: Count,
        ignored: u64,
        dropped: u64,
        dropped_or_more: bool,
        seconds: f64,
        #[serde(skip_serializing_if = "Option::is_none")]
        unread: Option<usize>,
        #[serde(skip_serializing_if = "Option::is_none")]
        unsent: Option<usize>,
        #[serde(skip_serializing_if = "Option::is_none")]
        tcp: Option<Path>,
    },
    Summary {
        received: Count,
        sent: Count,
        seconds: f64,
        status: u8,
    },
}

/// What TCP knows of the path to the peer.
#[derive(Serialize)]
pub(super) struct Path {
    state: &'static str,
    rtt: f64,
    rtt_variation: f64,
    retransmits: u32,
    cwnd: u32,
    mss: u32,
}

impl From<TcpInfo> for Path {
    fn from(figures: TcpInfo) -> Self {
        Self {
            state: figures.state,
            rtt: figures.rtt.as_secs_f64(),
            rtt_variation: figures.rtt_variation.as_secs_f64(),
            retransmits: figures.retransmits,
            cwnd: figures.cwnd,
            mss: figures.mss,
        }
    }
}
