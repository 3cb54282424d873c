//! A listener whose connections are bounded in number and in idleness.

use axum::serve::Listener;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// Accepts while fewer than [`CONNECTIONS_MAX`] connections are open; further ones wait in the kernel's backlog.
#[derive(Debug)]
pub(super) struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl Bounded {
    pub fn new(listener: TcpListener) -> Bounded {
        Bounded {
            listener,
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        }
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let places = Arc::clone(&self.places);
        let place = places.acquire_owned().await.expect("the semaphore is never closed");
        // Errors such as too many open files are waited out within.
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let connection = Connection {
            stream,
            idle: Box::pin(sleep(IDLE_MAX)),
            asking: None,
            _place: place,
        };
        (connection, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that breaks when nothing arrives and nothing can be written for [`IDLE_MAX`], and when a request that has begun
/// to arrive gets no answer for [`ASKING_MAX`], however it trickles.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    idle: Pin<Box<Sleep>>,
    /// Until when what has arrived since the last write must be answered.
    asking: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    /// Who takes what is written is alive, though a listener never says a word.
    fn note(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.idle.as_mut().reset(Instant::now() + IDLE_MAX);
            self.asking = None;
        }
        written
    }

    /// Whether the time for a request to arrive is over; it begins with the first byte.
    fn asks_too_long(&mut self, arrived: bool, context: &mut Context<'_>) -> bool {
        if arrived && self.asking.is_none() {
            self.asking = Some(Box::pin(sleep(ASKING_MAX)));
        }
        let asking = self.asking.as_mut();
        asking.is_some_and(|asking| asking.as_mut().poll(context).is_ready())
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buf);
        if self.asks_too_long(buf.filled().len() > before, context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        match read {
            Poll::Ready(result) => {
                self.idle.as_mut().reset(Instant::now() + IDLE_MAX);
                Poll::Ready(result)
            }
            Poll::Pending => self
                .idle
                .as_mut()
                .poll(context)
                .map(|()| Err(io::ErrorKind::TimedOut.into())),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Applications, an operator or two, a scraper.
const CONNECTIONS_MAX: usize = 1_024;

/// Above the time that a request has once its head is there, so that the 408 goes first.
const ASKING_MAX: Duration = Duration::from_secs(60);

/// Above the pause between two scrapes of `/metrics`.
const IDLE_MAX: Duration = Duration::from_secs(75);

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// The server's end of a connection, and the client's.
    async fn connected() -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).await.unwrap();
        let (connection, _) = Bounded::new(listener).accept().await;
        (connection, client)
    }

    /// Reads a byte that the client has sent `every` so long before; how many until the connection breaks, of `most`.
    async fn trickled(connection: &mut Connection, client: &mut TcpStream, every: Duration, most: usize) -> usize {
        for count in 0..most {
            tokio::time::pause();
            tokio::time::advance(every).await;
            tokio::time::resume();
            client.write_all(b"G").await.unwrap();
            if connection.read_u8().await.is_err() {
                return count;
            }
        }
        most
    }

    #[test]
    fn a_request_that_trickles_is_cut_off_and_one_that_is_answered_is_not() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (mut connection, mut client) = connected().await;
            let every = Duration::from_secs(5);
            let count = trickled(&mut connection, &mut client, every, 100).await;
            assert!((11..=13).contains(&count), "{count}");

            let (mut connection, mut client) = connected().await;
            for _ in 0..10 {
                assert_eq!(trickled(&mut connection, &mut client, every, 5).await, 5);
                connection.write_all(b"ok").await.unwrap();
            }
        });
    }
}
