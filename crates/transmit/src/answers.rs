//! Waits for what arrives at the sockets of tunnels, on a tokio runtime.
//!
//! In: duplicates of the sockets. Out: a wait that ends when a datagram or an error has arrived.
//!
//! The sockets are watched for reading only: a UDP socket becomes writable again with each datagram that leaves it
//! (`sock_def_write_space` in the kernel's `net/core/sock.c`), which would wake the runtime for each of them.
//! tokio's own `UdpSocket` watches for both.

use std::future::pending;
use std::io;
use std::net::UdpSocket;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The sockets of tunnels while a runtime waits for them.
#[derive(Debug)]
pub struct Answers([Option<AsyncFd<UdpSocket>>; 2]);

impl Answers {
    /// Registers duplicates of sockets. Must be called within a runtime with I/O.
    ///
    /// # Errors
    /// The kernel's.
    pub fn of([v4, v6]: &[Option<UdpSocket>; 2]) -> io::Result<Self> {
        let register = |socket: &Option<UdpSocket>| {
            let duplicate = socket.as_ref().map(UdpSocket::try_clone).transpose()?;
            duplicate.map(register).transpose()
        };
        Ok(Self([register(v4)?, register(v6)?]))
    }

    /// Waits until something may have arrived at one of the sockets since the last wait. Everything that has must
    /// then be read, or the caller must read again by itself.
    pub async fn wait(&self) {
        let [v4, v6] = &self.0;
        tokio::select! {
            () = readable(v4.as_ref()) => {}
            () = readable(v6.as_ref()) => {}
        }
    }
}

fn register(socket: UdpSocket) -> io::Result<AsyncFd<UdpSocket>> {
    // SAFETY: the descriptor is valid, because `UdpSocket` owns it, and stays open and the same as long as the
    // `AsyncFd` exists, because this owns the `UdpSocket` and nothing here takes it out or replaces it.
    let registered = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
    Ok(registered?)
}

async fn readable(socket: Option<&AsyncFd<UdpSocket>>) {
    match socket {
        Some(socket) => match socket.readable().await {
            Ok(mut ready) => ready.clear_ready(),
            // The runtime ends.
            Err(_) => pending().await,
        },
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::runtime::Builder;
    use tokio::time::timeout;

    use super::*;

    #[test]
    fn it_waits_for_datagrams_and_not_for_room() {
        let own = UdpSocket::bind("127.0.0.1:0").unwrap();
        own.set_nonblocking(true).unwrap();
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let sockets = [Some(own), None];
            let answers = Answers::of(&sockets).unwrap();
            let own = sockets[0].as_ref().unwrap();
            own.send_to(b"question", other.local_addr().unwrap())
                .unwrap();
            let none = timeout(Duration::from_millis(50), answers.wait()).await;
            assert!(none.is_err(), "nothing has arrived");
            for _ in 0..3 {
                other.send_to(b"answer", own.local_addr().unwrap()).unwrap();
                timeout(Duration::from_secs(10), answers.wait())
                    .await
                    .unwrap();
                assert_eq!(own.recv(&mut [0; 16]).unwrap(), 6);
            }
        });
    }
}
