//! Syslog over UDP: a datagram is a message.
//!
//! Why: it is the one transport on which nothing is acknowledged, so only a count at this end tells what was lost.
//! Invariants: none.   Bounds: 64 KiB a datagram.   Driven by: `server`.   Spec: syslog.md 1, 4 (UDP).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::sleep;

use super::config::Transport;
use super::state::{Place, Shared};
use super::store::Origin;
use crate::fault::Fault;

/// Receives for ever.
pub(super) async fn run(shared: Arc<Shared>, mut socket: UdpSocket, address: SocketAddr) {
    let mut restarts = shared.restarts.subscribe();
    let mut buffer = vec![0; DATAGRAM];
    let origin = Origin { transport: Transport::Udp, connection: 0 };
    let mut place = Place { origin, frame_at: 0 };
    loop {
        tokio::select! {
            received = socket.recv_from(&mut buffer) => match received {
                Ok((size, _)) => {
                    shared.stats.wire_bytes.fetch_add(size as u64, Ordering::Relaxed);
                    take(&shared, place, buffer.get(..size).unwrap_or_default()).await;
                    place.frame_at += size as u64;
                }
                Err(why) => tracing::debug!("udp: {why}"),
            },
            changed = restarts.changed() => {
                if changed.is_err() {
                    return;
                }
                let downtime = restarts.borrow_and_update().downtime;
                if !downtime.is_zero() {
                    drop(socket);
                    sleep(downtime).await;
                    socket = rebind(address).await;
                }
            }
        }
    }
}

async fn take(shared: &Shared, place: Place, message: &[u8]) {
    match shared.decide("message") {
        Some(Fault::Other { word, .. }) if word == "lost" => return,
        Some(Fault::Stall(time)) => sleep(time).await,
        _ => {}
    }
    shared.take(&[(place, message)]);
}

async fn rebind(address: SocketAddr) -> UdpSocket {
    loop {
        match UdpSocket::bind(address).await {
            Ok(socket) => return socket,
            Err(why) => {
                tracing::warn!("cannot listen on {address} again: {why}");
                sleep(RETRY).await;
            }
        }
    }
}

const DATAGRAM: usize = 65_536;
const RETRY: Duration = Duration::from_millis(50);
