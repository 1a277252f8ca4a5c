//! The backend: HTTP/1.1 with keep-alive and fixed answers, as little work as can be.

use std::io;
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Content chunks of a stream.
pub(crate) const CHUNKS: u32 = 64;

/// From each chunk to the next.
const GAP: Duration = Duration::from_millis(2);

/// The marker in front of the sixteen digits that say when a chunk was sent.
pub(crate) const SENT_AT: &[u8] = b"sent-at-";

/// When this process began; load and mock share it, so a chunk's age needs no second clock.
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

const PLAIN: &str = r#"{"id":"chatcmpl-0123456789abcdef","object":"chat.completion","created":1700000000,"model":"bench","choices":[{"index":0,"message":{"role":"assistant","content":"A gateway stands in front of models.","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":221,"completion_tokens":9,"total_tokens":230,"prompt_tokens_details":{"cached_tokens":0}},"system_fingerprint":"fp_bench"}"#;

/// nginx must not gather what it passes on; others ignore the field.
const STREAM_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\
                             x-accel-buffering: no\r\n\r\n";

const USAGE: &str = "data: {\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion.chunk\",\
                     \"created\":1700000000,\"model\":\"bench\",\"choices\":[],\"usage\":{\"prompt_tokens\":221,\
                     \"completion_tokens\":64,\"total_tokens\":285}}\n\n";

/// Serves on a port of its own until the runtime ends.
pub(crate) async fn start() -> io::Result<SocketAddr> {
    LazyLock::force(&BEGAN);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let addr = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            // A connection ends when its gateway ends it, which is no news here.
            tokio::spawn(async move { drop(serve(socket).await) });
        }
    });
    Ok(addr)
}

/// Microseconds since this process began.
pub(crate) fn now() -> u64 {
    u64::try_from(BEGAN.elapsed().as_micros()).unwrap_or(u64::MAX)
}

async fn serve(mut socket: TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let plain = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{PLAIN}",
        PLAIN.len()
    );
    let mut buffer = Vec::with_capacity(8192);
    loop {
        let Some(request) = read_request(&mut socket, &mut buffer).await? else {
            return Ok(());
        };
        if find(&request, b"\"stream\":true").is_some() {
            let usage = find(&request, b"\"include_usage\":true").is_some();
            stream(&mut socket, usage).await?;
        } else {
            socket.write_all(plain.as_bytes()).await?;
        }
    }
}

/// One request, head and body; none when the connection ended.
async fn read_request(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    loop {
        if let Some(size) = request_size(buffer) {
            let rest = buffer.split_off(size);
            return Ok(Some(std::mem::replace(buffer, rest)));
        }
        if socket.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// The bytes of the first request in the buffer, once they are all there.
fn request_size(buffer: &[u8]) -> Option<usize> {
    let head = find(buffer, b"\r\n\r\n")? + 4;
    if let Some(length) = content_length(&buffer[..head]) {
        return (buffer.len() >= head + length).then_some(head + length);
    }
    Some(head + find(&buffer[head..], b"0\r\n\r\n")? + 5)
}

async fn stream(socket: &mut TcpStream, usage: bool) -> io::Result<()> {
    socket.write_all(STREAM_HEAD).await?;
    let began = tokio::time::Instant::now();
    for index in 0..CHUNKS {
        tokio::time::sleep_until(began + GAP * index).await;
        let event = format!(
            "data: {{\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\
             \"model\":\"bench\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\" sent-at-{:016}\"}},\
             \"logprobs\":null,\"finish_reason\":null}}]}}\n\n",
            now()
        );
        write_chunk(socket, &event).await?;
    }
    if usage {
        write_chunk(socket, USAGE).await?;
    }
    socket.write_all(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n").await
}

async fn write_chunk(socket: &mut TcpStream, data: &str) -> io::Result<()> {
    socket
        .write_all(format!("{:x}\r\n{data}\r\n", data.len()).as_bytes())
        .await
}

/// The Content-Length of a head.
pub(crate) fn content_length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let at = head
        .windows(NAME.len())
        .position(|window| window.eq_ignore_ascii_case(NAME))?
        + NAME.len();
    let line = head[at..].split(|byte| *byte == b'\r').next()?;
    std::str::from_utf8(line).ok()?.trim().parse().ok()
}

pub(crate) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
