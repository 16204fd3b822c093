//! tmp
//! tmp
use crate::address::BindAddress;
use crate::cli::{SocketOptions, TcpSocketOptions};
use crate::exit::{Exit, Failure};
use crate::tap::Reach;
use socket2::{Domain, Protocol, Socket, Type};
pub fn listen(
    a: &[BindAddress],
    _s: &SocketOptions,
    _t: &TcpSocketOptions,
    backlog: i32,
) -> Result<(Socket, Reach), Failure> {
    let a = a[0];
    let f = |e: std::io::Error| {
        Failure::new(
            Exit::CannotBind,
            format!(
                "cannot listen on {}: {}",
                a.address,
                crate::exit::describe(&e)
            ),
        )
    };
    let s = Socket::new(
        Domain::for_address(a.address),
        Type::STREAM,
        Some(Protocol::TCP),
    )
    .map_err(f)?;
    s.set_reuse_address(true).map_err(f)?;
    s.bind(&a.address.into()).map_err(f)?;
    s.listen(backlog).map_err(f)?;
    Ok((s, a.reach))
}
