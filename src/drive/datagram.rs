//! A connected UDP socket: each chunk of the core is one datagram.
//!
//! Why: a connected socket hears that nobody listens (ICMP, `ECONNREFUSED`), an unconnected one never does. glommio's
//! sends allocate per call and cannot be asked for "now or not at all", so the socket is std's own.
//! Invariants: 1. one send per chunk, whole or not at all. 2. a chunk is told as transmitted only after the kernel
//!  took it. 3. the reactor gets its turn between batches.
//! Bounds: [`BATCH`] datagrams between two turns; where the kernel has no room it is asked again after [`FULL_PAUSE`].
//! Driven by: `conn` for endpoints with [`TargetSpec::datagrams`](super::TargetSpec::datagrams).
//! Spec: udp(7): errors of earlier datagrams come with the next send.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use glommio::timer::Timer;

use super::conn::Link;
use super::net;
use super::pump::Pump;
use crate::proto::event::{Closed, ClosedKind, To};
use crate::proto::ids::ConnId;

/// Datagrams between two turns of the reactor, at most.
const BATCH: usize = 64;
const FULL_PAUSE: Duration = Duration::from_millis(1);

/// Sends what the core has for `conn` until a send fails.
pub(crate) async fn serve(pump: &Pump, conn: ConnId, to: To, link: &Link) -> Closed {
    let (peer, socket) = match open(pump, to).await {
        Ok(opened) => opened,
        Err(why) => return why,
    };
    pump.with(|core, now| core.handle_connected(now, conn));
    loop {
        link.transmit.take();
        match send_batch(pump, conn, &socket) {
            Ok(0) => link.transmit.raised().await,
            Ok(_) => pump.room.breath.take().await,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Timer::new(FULL_PAUSE).await;
            }
            Err(error) => {
                // An answer of the network to an earlier datagram, or a refusal of this one.
                let kind = match error.kind() {
                    io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable => ClosedKind::Connect,
                    _ => ClosedKind::Reset,
                };
                return Closed { kind, detail: format!("{peer}: {error}") };
            }
        }
    }
}

async fn open(pump: &Pump, to: To) -> Result<(String, UdpSocket), Closed> {
    let (target, address) =
        pump.address(to).await.map_err(|detail| Closed { kind: ClosedKind::Resolve, detail })?;
    let peer = net::peer_name(&target.host, target.port, address);
    let socket = connected(address)
        .map_err(|error| Closed { kind: ClosedKind::Connect, detail: format!("{peer}: {error}") })?;
    Ok((peer, socket))
}

fn connected(address: SocketAddr) -> io::Result<UdpSocket> {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    socket.set_nonblocking(true)?;
    net::widen_send_buffer(&socket);
    Ok(socket)
}

/// Sends up to [`BATCH`] datagrams; how many. An error comes only where nothing was sent before it.
fn send_batch(pump: &Pump, conn: ConnId, socket: &UdpSocket) -> io::Result<usize> {
    pump.with(|core, now| {
        let mut sent = 0;
        while sent < BATCH
            && let Some(datagram) = core.poll_transmit(now, conn)
        {
            match socket.send(datagram) {
                Ok(bytes) => core.handle_transmitted(now, conn, bytes),
                // The next call meets it again: the kernel keeps "no room", and a refused datagram is refused again.
                Err(error) if sent == 0 || error.kind() == io::ErrorKind::ConnectionRefused => {
                    return Err(error);
                }
                Err(_) => break,
            }
            sent += 1;
        }
        Ok(sent)
    })
}
