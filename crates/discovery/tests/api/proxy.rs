//! A TCP relay on loopback in front of the API server. It counts the bytes from there, and can cut the
//! connections.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// The relay; it ends when this value is dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    received: AtomicU64,
    cut: AtomicBool,
    stopped: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    pub(crate) fn start(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let state = Arc::<State>::default();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if shared.stopped.load(Ordering::Relaxed) {
                    return;
                }
                if !shared.cut.load(Ordering::Relaxed) {
                    // An error means that the server is down; the client's connection ends then too.
                    let _ = relay(client, server, &shared);
                }
            }
        });
        Ok(Self { address, state })
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Bytes that came from the server.
    pub(crate) fn received(&self) -> u64 {
        self.state.received.load(Ordering::Relaxed)
    }

    /// Ends all connections, and each new one at once.
    pub(crate) fn cut(&self) {
        self.state.cut.store(true, Ordering::Relaxed);
        self.state.end_all();
    }

    /// Relays again.
    pub(crate) fn restore(&self) {
        self.state.cut.store(false, Ordering::Relaxed);
    }
}

impl State {
    fn end_all(&self) {
        let open = self.open.lock().map(|mut open| std::mem::take(&mut *open));
        for stream in open.into_iter().flatten() {
            // This fails if the connection has already ended.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::Relaxed);
        self.state.end_all();
        // Wakes the thread that waits for a connection.
        let _ = TcpStream::connect(self.address);
    }
}

fn relay(client: TcpStream, server: SocketAddr, state: &Arc<State>) -> io::Result<()> {
    let server = TcpStream::connect(server)?;
    let pairs = [
        (client.try_clone()?, server.try_clone()?, false),
        (server.try_clone()?, client.try_clone()?, true),
    ];
    if let Ok(mut open) = state.open.lock() {
        open.extend([client, server]);
    }
    for (from, to, is_counted) in pairs {
        let state = Arc::clone(state);
        thread::spawn(move || copy(from, to, is_counted.then_some(&state.received)));
    }
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream, count: Option<&AtomicU64>) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if let Some(count) = count {
            count.fetch_add(length as u64, Ordering::Relaxed);
        }
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
