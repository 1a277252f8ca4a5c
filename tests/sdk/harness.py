"""What the SDK tests stand on: the processes, the gateway's configuration, a recording relay, and the access log."""

import hashlib
import json
import os
import pathlib
import re
import secrets
import shutil
import socket
import string
import subprocess
import tempfile
import threading
import time
import urllib.request
from contextlib import suppress

START_SECONDS = 150
LLM_KEY = "sk-backend"
LLM_SERVE = pathlib.Path(__file__).resolve().parent.parent / "demo" / "llm_serve.py"


class Key:
    """A client key and its entry in the configuration."""

    def __init__(self, name: str, **limits) -> None:
        letters = string.ascii_letters + string.digits
        self.name = name
        self.key = "sk-" + "".join(secrets.choice(letters) for _ in range(48))
        self.limits = limits

    def toml(self) -> str:
        sha256 = hashlib.sha256(self.key.encode()).hexdigest()
        entry = {"name": self.name, "sha256": sha256, "group": "default", **self.limits}
        return "[[key]]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in entry.items())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(url: str, timeout: float = 10) -> bytes:
    with urllib.request.urlopen(url, timeout=timeout) as answer:
        return answer.read()


# === the relay ===


class Tap:
    """A relay in front of a backend that keeps every byte which the backend sent, a list entry for each connection."""

    def __init__(self, backend: tuple[str, int]) -> None:
        self.backend = backend
        self.sent: list[bytearray] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def mark(self) -> list[int]:
        return [len(sent) for sent in self.sent]

    def since(self, mark: list[int]) -> bytes:
        """What came on one connection since the mark; the caller saw to it that only one was in use."""
        starts = mark + [0] * (len(self.sent) - len(mark))
        news = [bytes(sent[start:]) for sent, start in zip(self.sent, starts) if len(sent) > start]
        assert len(news) == 1, f"the backend answered on {len(news)} connections, not on one"
        return news[0]

    def _accept(self) -> None:
        while True:
            client, _ = self.listener.accept()
            backend = socket.create_connection(self.backend)
            for end in (client, backend):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            record = bytearray()
            self.sent.append(record)
            threading.Thread(target=_pump, args=(client, backend, None), daemon=True).start()
            threading.Thread(target=_pump, args=(backend, client, record), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket, record: bytearray | None) -> None:
    with suppress(OSError):
        while part := source.recv(65536):
            if record is not None:
                record += part
            sink.sendall(part)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
    if record is not None:  # a backend that is gone takes its client's connection with it
        with suppress(OSError):
            source.shutdown(socket.SHUT_RDWR)


# === HTTP by hand ===


class Raw:
    """One answer, as it stood on the wire."""

    def __init__(self, data: bytes) -> None:
        head, _, rest = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split()[1])
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            self.body, self.clean = _unchunk(rest)
        else:
            length = int(self.headers.get("content-length", len(rest)))
            self.body, self.clean = rest[:length], len(rest) >= length


def _unchunk(data: bytes) -> tuple[bytes, bool]:
    """The body without its framing, and whether it ended with the last chunk."""
    body = b""
    while True:
        size, found, data = data.partition(b"\r\n")
        if not found or not size:
            return body, False
        length = int(size.split(b";")[0], 16)
        if length == 0:
            return body, data.startswith(b"\r\n")
        body += data[:length]
        if data[length : length + 2] != b"\r\n":
            return body, False
        data = data[length + 2 :]


def raw_post(port: int, path: str, key: str, body: dict, headers: dict[str, str]) -> Raw:
    """Posts on a connection of its own, and reads to its end."""
    payload = json.dumps(body).encode()
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        f"Authorization: Bearer {key}",
        "Content-Type: application/json",
        f"Content-Length: {len(payload)}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + payload)
        data = b""
        while part := connection.recv(65536):
            data += part
    return Raw(data)


def without_usage_event(body: bytes) -> bytes:
    """A stream less the event that only reports usage: no choices, and a usage object."""
    kept = b""
    for event in re.split(rb"(?<=\n\n)", body):
        text = event.strip().removeprefix(b"data:").strip()
        with suppress(ValueError):
            chunk = json.loads(text)
            if chunk.get("choices") == [] and isinstance(chunk.get("usage"), dict):
                continue
        kept += event
    return kept


# === the set-up ===


class Setup:
    """Backends and gateway, running; everything ends with `close`."""

    def __init__(self, gateway: str, llm_python: str | None) -> None:
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="tollgate-sdk."))
        self.processes: list[subprocess.Popen] = []
        self.main = Key("main")
        self.narrow = Key("narrow", models=["scripted"])
        self.slow = Key("slow", rpm=1)
        try:
            self._start(gateway, llm_python)
        except BaseException:
            self.close()
            raise

    def _start(self, gateway: str, llm_python: str | None) -> None:
        self.scripted = self._spawn("backend", [gateway, "backend", "--listen", "127.0.0.1:0"], r"(http://[\d.:]+)")
        backends = {"scripted": (self.scripted, None), "hasty": (self.scripted, None)}
        self.taps = {"scripted-tap": self._tap(self.scripted)}
        backends["scripted-tap"] = (f"http://127.0.0.1:{self.taps['scripted-tap'].port}", None)
        if llm_python:
            serve = [llm_python, str(LLM_SERVE), "--key", LLM_KEY]
            chat = self._spawn("llama", [*serve, "--model", "llama"], r"ready (http://[\d.:]+)")
            embeddings = [*serve, "--model", "llama-embed", "--embeddings"]
            embed = self._spawn("llama-embed", embeddings, r"ready (http://[\d.:]+)")
            self.taps["llama-tap"] = self._tap(chat)
            backends["llama"] = (chat, LLM_KEY)
            backends["llama-tap"] = (f"http://127.0.0.1:{self.taps['llama-tap'].port}", LLM_KEY)
            backends["llama-embed"] = (embed, LLM_KEY)
        self.models = sorted(backends)
        self.port, admin_port = free_port(), free_port()
        self.admin = f"http://127.0.0.1:{admin_port}"
        config = self.work / "tollgate.toml"
        config.write_text(self._config(admin_port, backends))
        self.log = self.work / "gateway.log"
        environment = {**os.environ, "LLM_KEY": LLM_KEY}
        process = self._popen("gateway", [gateway, "serve", "--config", str(config)], environment)
        self._wait(process, "gateway", lambda: get(f"{self.admin}/readyz", 2) is not None)

    def _config(self, admin_port: int, backends: dict[str, tuple[str, str | None]]) -> str:
        text = f"""
[server]
listen = ["127.0.0.1:{self.port}"]
run_dir = "{self.work}/run"
max_body = "1MiB"
[admin]
listen = "127.0.0.1:{admin_port}"
[group.default]
models = ["*"]
"""
        for name, (url, key) in backends.items():
            text += f'[[backend]]\nname = "{name}"\nbase_url = "{url}/v1"\npass_headers = ["x-tollgate-script"]\n'
            if key:
                text += 'api_key = { env = "LLM_KEY" }\n'
            if name == "hasty":
                text += 'timeout = { connect = "1s", first_byte = "1s", idle = "1s", total = "1s" }\n'
            served = name.removesuffix("-tap")
            text += f'[[model]]\nname = "{name}"\nroute = [{{ backend = "{name}", model = "{served}" }}]\n'
        return text + "".join(key.toml() for key in (self.main, self.narrow, self.slow))

    def close(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(self.work, ignore_errors=True)

    # --- processes ---

    def _popen(self, name: str, command: list[str], environment: dict[str, str] | None = None) -> subprocess.Popen:
        with open(self.work / f"{name}.log", "wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        self.processes.append(process)
        return process

    def _spawn(self, name: str, command: list[str], pattern: str) -> str:
        """Starts a process and returns what the pattern finds in its output, which is how it says that it is ready."""
        process, log = self._popen(name, command), self.work / f"{name}.log"
        self._wait(process, name, lambda: re.search(pattern, log.read_text()))
        return re.search(pattern, log.read_text()).group(1)

    def _wait(self, process: subprocess.Popen, name: str, ready) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            with suppress(OSError):
                if ready():
                    return
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{name} did not start:\n{(self.work / f'{name}.log').read_text()}")
            time.sleep(0.05)

    def _tap(self, url: str) -> Tap:
        host, _, port = url.removeprefix("http://").rpartition(":")
        return Tap((host, int(port)))

    # --- what was counted ---

    def stats(self) -> dict:
        return json.loads(get(f"{self.scripted}/_stats"))

    def tapped(self, tap: str, mark: list[int]) -> Raw:
        """What the backend answered since the mark, once it is all there."""
        self.wait_for(lambda: self.taps[tap].mark() != mark, "nothing came from the backend")
        return Raw(self.taps[tap].since(mark))

    def token_counter(self, words: tuple[str, ...]) -> int:
        """The sum of the token counters whose name or label has one of the words."""
        total = 0
        for line in get(f"{self.admin}/metrics").decode().splitlines():
            sample = re.fullmatch(r"(\w*tokens\w*)(?:\{(.*)\})? ([\d.e+]+)", line)
            if sample and sample.group(1).endswith("_total"):
                labels = dict(re.findall(r'(\w+)="([^"]*)"', sample.group(2) or ""))
                if any(word in (*labels.values(), *sample.group(1).split("_")) for word in words):
                    total += int(float(sample.group(3)))
        return total

    def wait_for(self, reached, otherwise: str) -> None:
        deadline = time.monotonic() + 5
        while not reached():
            assert time.monotonic() < deadline, otherwise
            time.sleep(0.02)

    def access_lines(self) -> list[dict]:
        """Every access line so far, flat."""
        lines = []
        for line in self.log.read_text().splitlines():
            with suppress(ValueError):
                flat = _flatten(json.loads(line))
                if "request_id" in flat and "status" in flat:
                    lines.append(flat)
        return lines

    def metered(self, request_id: str) -> dict:
        """The access line of a request; it is written when the answer's body has ended."""
        lines = []

        def found() -> bool:
            lines[:] = [line for line in self.access_lines() if line["request_id"] == request_id]
            return bool(lines)

        self.wait_for(found, f"no access line for request {request_id}")
        assert len(lines) == 1, f"{len(lines)} access lines for request {request_id}"
        return lines[0]


def _flatten(value) -> dict:
    """The members of an object and of the objects in it, by their own names."""
    flat = {}
    if isinstance(value, dict):
        for name, member in value.items():
            flat.update(_flatten(member) if isinstance(member, dict) else {name: member})
    return flat
