#!/usr/bin/env python3
"""Runs the SDK tests: Python's cases, then Node's, against the same set-up. Started by run.sh, which installs the SDKs."""

import argparse
import functools
import json
import subprocess
import sys
import time
import traceback

import cases
from harness import Setup

BASES = {"with /v1": "/v1", "without /v1": ""}
ENDPOINTS = (
    cases.chat,
    cases.chat_stream,
    cases.chat_stream_usage,
    cases.completions,
    cases.completions_stream,
    cases.responses,
    cases.responses_stream,
)
NODE_SECONDS = 600


def python_cases(setup: Setup, llm: bool) -> dict:
    named = {}
    chat_models = ["scripted", *(["llama"] if llm else [])]
    embedding_models = ["scripted", *(["llama-embed"] if llm else [])]
    for words, base in BASES.items():
        for case in ENDPOINTS:
            for model in chat_models:
                named[f"{case.__name__}, {model}, {words}"] = functools.partial(case, model=model, base=base)
        for model in embedding_models:
            named[f"embeddings, {model}, {words}"] = functools.partial(cases.embeddings, model=model, base=base)
        named[f"model list, {words}"] = functools.partial(cases.model_list, base=base)
    for model in embedding_models:
        named[f"embeddings in base64, {model}"] = functools.partial(cases.embeddings_base64, model=model, base="/v1")
    for model in chat_models:
        named[f"{cases.SHORT_STREAMS} short streams, {model}"] = functools.partial(cases.short_streams, model=model)
        named[f"plain after stream, {model}"] = functools.partial(cases.plain_after_stream, model=model)
        named[f"many at once, {model}"] = functools.partial(cases.many_at_once, model=model)
        named |= byte_cases(f"{model}-tap")
    named["tool calls"] = cases.tool_calls
    named["a backend that closes"] = cases.closing_backend
    named["reuse of connections"] = cases.reuse
    for fault in cases.BROKEN_STREAMS:
        kinds = ("chat", "completions", "responses") if fault in ("cut:3", "stall:2") else ("chat",)
        for kind in kinds:
            named[f"broken stream, {fault}, {kind}"] = functools.partial(cases.broken_stream, fault=fault, kind=kind)
    for fault in ("cut", "cut:1", "wrong_length"):
        named[f"broken answer, {fault}"] = functools.partial(cases.broken_plain, fault=fault)
    for name, case in cases.refusals(setup).items():
        named[f"refusal, {name}"] = case
    named["a client that leaves"] = cases.leaving
    return {f"python: {name}": case for name, case in named.items()}


def byte_cases(tap: str) -> dict:
    messages = {"messages": cases.MESSAGES, "max_tokens": 8}
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    chat, none = "/v1/chat/completions", {}
    same = functools.partial(cases.same_bytes, tap=tap)
    less = functools.partial(cases.same_bytes_less_usage, tap=tap)
    named = {
        "plain": functools.partial(same, path=chat, body=messages, headers=none),
        "stream, usage asked": functools.partial(same, path=chat, body=messages | asked, headers=none),
        "stream, usage not asked": functools.partial(less, body=messages, headers=none),
        "stream, usage declined": functools.partial(
            less, body=messages | {"stream_options": {"include_usage": False}}, headers=none
        ),
        "responses": functools.partial(
            same, path="/v1/responses", body={"input": "Say hello.", "stream": True, "max_output_tokens": 8}, headers=none
        ),
    }
    if tap.startswith("scripted"):
        bytewise = cases.script("chunk_bytes=1")
        named["stream, a byte at a time"] = functools.partial(less, body=messages, headers=bytewise)
    return {f"same bytes, {name}, {tap}": case for name, case in named.items()}


class Tally:
    def __init__(self, only: str) -> None:
        self.only, self.passed, self.failed = only, 0, []

    def wants(self, name: str) -> bool:
        return self.only in name

    def run(self, name: str, case) -> None:
        if not self.wants(name):
            return
        begun = time.monotonic()
        try:
            case()
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{where.filename.rsplit('/', 1)[-1]}:{where.lineno}"
            self.failed.append(name)
            print(f"FAIL {name}\n     {type(error).__name__} at {place}: {str(error)[:2000]}", flush=True)
        else:
            self.passed += 1
            print(f"ok   {name} ({time.monotonic() - begun:.2f} s)", flush=True)


def node_cases(setup: Setup, script: str, llm: bool, tally: Tally) -> None:
    """Node prints a JSON line for each case: its name, what failed, and what usage was reported for which request."""
    given = {
        "root": f"http://127.0.0.1:{setup.port}",
        "key": setup.main.key,
        "narrow": setup.narrow.key,
        "llm": llm,
        "shortStreams": cases.SHORT_STREAMS,
        "brokenStreams": cases.BROKEN_STREAMS,
        "only": tally.only,
    }
    command = ["node", script, json.dumps(given)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as node:
        ended = False
        for line in node.stdout:
            said = json.loads(line)
            ended = ended or "end" in said
            if "name" in said:
                tally.run(said["name"], functools.partial(node_case, setup, said))
        try:
            code = node.wait(NODE_SECONDS)
        except subprocess.TimeoutExpired:
            node.kill()
            code = "late"
    if code != 0 or not ended:
        tally.failed.append("node")
        print(f"FAIL node ended early (exit code {code})")


def node_case(setup: Setup, said: dict) -> None:
    assert not said.get("failed"), said["failed"]
    for usage in said.get("usage", []):
        cases.same_usage(setup, usage["id"], usage["prompt"], usage["completion"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gateway", required=True, help="the gateway's binary")
    parser.add_argument("--node-script", required=True, help="cases.mjs, beside its node_modules")
    parser.add_argument("--llm-python", help="the Python of the environment with the model's server; none: no model")
    parser.add_argument("--only", default="", help="run the cases whose name has this in it")
    options = parser.parse_args()

    llm = options.llm_python is not None
    tally = Tally(options.only)
    setup = Setup(options.gateway, options.llm_python)
    try:
        for name, case in python_cases(setup, llm).items():
            tally.run(name, functools.partial(case, setup))
        node_cases(setup, options.node_script, llm, tally)
        tally.run("counters and access lines agree", functools.partial(cases.counted, setup))
        if tally.failed:
            print("\nthe gateway's last lines:\n" + "\n".join(setup.log.read_text().splitlines()[-20:]))
    finally:
        setup.close()
    for name in tally.failed:
        print(f"failed: {name}")
    print(f"{tally.passed} passed, {len(tally.failed)} failed")
    sys.exit(1 if tally.failed or not tally.passed else 0)


if __name__ == "__main__":
    main()
