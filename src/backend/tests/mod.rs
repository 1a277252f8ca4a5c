//! The backend from the outside, on raw sockets: what matters here are the bytes.

#![expect(clippy::unwrap_used, reason = "tests")]

mod faults;
mod shapes;

use std::io;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::{Backend, Running, Script};

/// A keep-alive HTTP/1.1 client that hides nothing.
struct Raw(BufReader<TcpStream>);

#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Raw {
    async fn connect(backend: &Running) -> Self {
        Self(BufReader::new(TcpStream::connect(backend.local_addr()).await.unwrap()))
    }

    async fn send(&mut self, path: &str, script: &str, body: &Value) {
        let body = body.to_string();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nx-tollgate-script: {script}\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        self.0.get_mut().write_all((head + &body).as_bytes()).await.unwrap();
    }

    async fn head(&mut self) -> io::Result<String> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.0.read_line(&mut head).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(head.to_ascii_lowercase())
    }

    /// One chunk of a chunked body; none at its clean end.
    async fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut size = String::new();
        if self.0.read_line(&mut size).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        self.0.read_exact(&mut chunk).await?;
        chunk.truncate(size);
        Ok((size > 0).then_some(chunk))
    }

    async fn reply(&mut self) -> io::Result<Reply> {
        let head = self.head().await?;
        let mut body = Vec::new();
        if let Some(length) = field(&head, "content-length") {
            body.resize(length.parse().unwrap(), 0);
            self.0.read_exact(&mut body).await?;
        } else {
            while let Some(chunk) = self.chunk().await? {
                body.extend(chunk);
            }
        }
        Ok(Reply {
            status: head[9..12].parse().unwrap(),
            head,
            body,
        })
    }

    async fn call(&mut self, path: &str, script: &str, body: &Value) -> Reply {
        self.send(path, script, body).await;
        self.reply().await.unwrap()
    }
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The data of each event, `[DONE]` as a string.
    fn events(&self) -> Vec<Value> {
        let data = self.text().lines().filter_map(|line| line.strip_prefix("data: "));
        data.map(|data| serde_json::from_str(data).unwrap_or_else(|_| data.into()))
            .collect()
    }
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn chat(more: &Value) -> Value {
    let mut body = json!({"model": "scripted", "messages": [{"role": "user", "content": "How are you?"}]});
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().cloned().unwrap_or_default());
    body
}

async fn start() -> (Running, Raw) {
    let backend = Backend::start(Script::default()).await.unwrap();
    let client = Raw::connect(&backend).await;
    (backend, client)
}

const CHAT: &str = "/v1/chat/completions";
