//! The load: raw sockets, keep-alive, one request at a time on each.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};

use super::measure::Sample;
use super::mock::{self, CHUNKS, SENT_AT};

/// The key that every gateway with keys knows.
pub(crate) const KEY: &str = "sk-000000000000000000000000000000000000000000000000";

/// Long enough for any answer here; a gateway that loses one must not hang the bench.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Plain,
    Stream,
}

struct Connection {
    socket: TcpStream,
    buffer: Vec<u8>,
}

/// Loads `addr` for as long as `span`; what was begun is finished.
///
/// The sample holds a latency for each plain answer, or for each chunk its age on arrival.
pub(crate) async fn load(addr: SocketAddr, shape: Shape, connections: usize, span: Duration) -> io::Result<Sample> {
    let request: Rc<[u8]> = request(shape).into();
    let began = Instant::now();
    let local = LocalSet::new();
    let total = local.run_until(async {
        let mut tasks = JoinSet::new();
        for _ in 0..connections {
            let request = Rc::clone(&request);
            tasks.spawn_local(async move {
                let mut sample = Sample::default();
                let mut connection = Connection::open(addr).await?;
                while began.elapsed() < span {
                    let one = connection.exchange(&request, shape, &mut sample);
                    tokio::time::timeout(PATIENCE, one)
                        .await
                        .map_err(|_| io::ErrorKind::TimedOut)??;
                }
                Ok::<_, io::Error>(sample)
            });
        }
        let mut total = Sample::default();
        while let Some(sample) = tasks.join_next().await {
            total.add(sample.map_err(io::Error::other)??);
        }
        Ok::<_, io::Error>(total)
    });
    Ok(total.await?.over(began.elapsed()))
}

// === impl Connection ===

impl Connection {
    async fn open(addr: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(addr).await?;
        socket.set_nodelay(true)?;
        Ok(Self {
            socket,
            buffer: Vec::with_capacity(16 << 10),
        })
    }

    async fn exchange(&mut self, request: &[u8], shape: Shape, sample: &mut Sample) -> io::Result<()> {
        let began = Instant::now();
        self.buffer.clear();
        self.socket.write_all(request).await?;
        let head = loop {
            if let Some(end) = mock::find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            self.read().await?;
        };
        if !self.buffer.starts_with(b"HTTP/1.1 200") {
            let answer = String::from_utf8_lossy(&self.buffer).into_owned();
            return Err(io::Error::other(format!("not a 200: {answer}")));
        }
        if shape == Shape::Stream {
            return self.read_stream(head, sample).await;
        }
        let length = mock::content_length(&self.buffer[..head]);
        while length.map_or(!self.buffer.ends_with(b"0\r\n\r\n"), |length| {
            self.buffer.len() < head + length
        }) {
            self.read().await?;
        }
        sample.answer();
        sample.record(began.elapsed());
        Ok(())
    }

    async fn read_stream(&mut self, head: usize, sample: &mut Sample) -> io::Result<()> {
        let (mut at, mut chunks) = (head, 0);
        loop {
            while let Some(found) = mock::find(&self.buffer[at..], SENT_AT) {
                let digits = at + found + SENT_AT.len();
                let Some(sent) = self.buffer.get(digits..digits + 16) else {
                    break;
                };
                let sent: u64 = std::str::from_utf8(sent)
                    .ok()
                    .and_then(|sent| sent.parse().ok())
                    .unwrap_or_default();
                sample.record(Duration::from_micros(mock::now().saturating_sub(sent)));
                chunks += 1;
                at = digits + 16;
            }
            if self.buffer.ends_with(b"0\r\n\r\n") {
                break;
            }
            self.read().await?;
        }
        if chunks != CHUNKS || mock::find(&self.buffer[at..], b"data: [DONE]").is_none() {
            return Err(io::Error::other(format!(
                "a stream of {chunks} chunks, or without its end"
            )));
        }
        sample.answer();
        Ok(())
    }

    async fn read(&mut self) -> io::Result<()> {
        match self.socket.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// A chat request of about 1.1 kB.
fn request(shape: Shape) -> Vec<u8> {
    let stream = if shape == Shape::Stream { ",\"stream\":true" } else { "" };
    let text = "Say what a gateway in front of language models decides for each request. ".repeat(12);
    let body = format!(
        r#"{{"model":"bench","messages":[{{"role":"system","content":"Be brief."}},{{"role":"user","content":"{text}"}}],"temperature":0.7,"max_tokens":256{stream}}}"#
    );
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway.test\r\nauthorization: Bearer {KEY}\r\n\
         content-type: application/json\r\naccept: application/json\r\nuser-agent: bench\r\ncontent-length: {}\r\n\r\n\
         {body}",
        body.len()
    )
    .into_bytes()
}
