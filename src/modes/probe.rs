//! Finding out whether somebody listens, at one port or at many: connect, tell, close.
//! Many are asked side by side, a few at a time, and told in the order in which they were written.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::Duration;

use super::tcp_connect::attempt;
use crate::cli::TcpConnect;
use crate::exit::{Exit, Failure};
use crate::flow::{Flow, Transport};
use crate::link::connect::Established;
use crate::run::children::RESERVED;
use crate::run::retry::Retry;
use crate::run::session::Session;
use crate::sys::inherited::allow_descriptors;
use crate::tap::{Event, Taps};

/// Ports that are asked side by side.
const AT_ONCE: usize = 64;

/// What is known of a port.
enum Answer {
    Unknown,
    /// The connection and the time it took, until that is told.
    Open(Option<(Flow, Duration)>),
    Failed(Failure),
}

pub(super) fn run(
    options: &TcpConnect,
    mut session: Session<'_>,
    mut retry: Retry<'_>,
) -> anyhow::Result<()> {
    let mut answers = Vec::new();
    loop {
        let asked = ask(options, &mut session, &retry, &mut answers);
        let Err(failure) = asked.and_then(|()| verdict(options, &answers)) else {
            return Ok(());
        };
        if let Err(failure) = retry.wait(failure, &mut session) {
            if retry.until().is_some() && answers.len() > 1 {
                tell_failed(&answers, session.taps);
            }
            return Err(failure.into());
        }
    }
}

/// Asks every port that is not known to be open.
fn ask(
    options: &TcpConnect,
    session: &mut Session<'_>,
    retry: &Retry<'_>,
    answers: &mut Vec<Answer>,
) -> Result<(), Failure> {
    let is_last_round = retry.until().is_none();
    attempt(options, session, retry, |connector, lists| {
        answers.resize_with(lists.len(), || Answer::Unknown);
        let asked: Vec<usize> = (0..lists.len())
            .filter(|&at| !matches!(answers[at], Answer::Open(_)))
            .collect();
        let lists: Vec<Vec<SocketAddr>> = asked.iter().map(|&at| lists[at].clone()).collect();
        for &at in &asked {
            answers[at] = Answer::Unknown;
        }
        let mut told = 0;
        connector.connect_each(&lists, at_once(&lists), &mut |number, ended, taps| {
            answers[asked[number]] = Answer::from(ended);
            while told < answers.len() && tell(&mut answers[told], is_last_round, taps) {
                told += 1;
            }
            let is_open = matches!(answers[asked[number]], Answer::Open(_));
            if is_open && options.connect.any {
                // The rest is not asked any more, so what waits for its turn is told now.
                for answer in answers.iter_mut() {
                    tell(answer, false, taps);
                }
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })
    })
}

/// How many ports are asked side by side: no more than there are descriptors for, as one without would seem to be closed.
fn at_once(lists: &[Vec<SocketAddr>]) -> usize {
    let each = lists.iter().map(Vec::len).max().unwrap_or(1).max(1) as u64;
    let wanted = each.saturating_mul(AT_ONCE as u64).saturating_add(RESERVED);
    let most = allow_descriptors(wanted).saturating_sub(RESERVED) / each;
    usize::try_from(most).unwrap_or(AT_ONCE).clamp(1, AT_ONCE)
}

/// Tells of a port that is open, and of one that is not if that is `final`; returns whether it is known.
fn tell(answer: &mut Answer, is_final: bool, taps: &mut Taps) -> bool {
    match answer {
        Answer::Unknown => return false,
        Answer::Open(news) => {
            if let Some((flow, after)) = news.take() {
                taps.emit(&Event::Open { flow: &flow, after });
            }
        }
        Answer::Failed(failure) if is_final => {
            taps.emit(&Event::ProbeFailed(failure));
        }
        Answer::Failed(_) => {}
    }
    true
}

fn tell_failed(answers: &[Answer], taps: &mut Taps) {
    for answer in answers {
        if let Answer::Failed(failure) = answer {
            taps.emit(&Event::ProbeFailed(failure));
        }
    }
}

/// What is wrong, if it is: that ports are not open which should be.
fn verdict(options: &TcpConnect, answers: &[Answer]) -> Result<(), Failure> {
    let failures: Vec<&Failure> = answers
        .iter()
        .filter_map(|answer| match answer {
            Answer::Failed(failure) => Some(failure),
            Answer::Unknown | Answer::Open(_) => None,
        })
        .collect();
    let is_any_open = answers
        .iter()
        .any(|answer| matches!(answer, Answer::Open(_)));
    match failures.as_slice() {
        [] => Ok(()),
        _ if options.connect.any && is_any_open => Ok(()),
        [failure] if answers.len() == 1 => Err((*failure).clone()),
        [first, ..] => {
            let refused = failures
                .iter()
                .find(|failure| failure.exit == Exit::Refused);
            let exit = refused.unwrap_or(first).exit;
            let (count, all) = (failures.len(), answers.len());
            let text = format!("{count} of {all} ports are not open");
            Err(Failure::new(exit, text))
        }
    }
}

impl From<Result<Established, Failure>> for Answer {
    fn from(ended: Result<Established, Failure>) -> Self {
        let established = match ended {
            Ok(established) => established,
            Err(failure) => return Self::Failed(failure),
        };
        let local = established.socket.local_addr().ok();
        let local = local.and_then(|local| local.as_socket());
        let flow =
            local.map(|local| Flow::new(Transport::Tcp, local.into(), established.remote.into()));
        Self::Open(flow.map(|flow| (flow, established.after)))
    }
}
