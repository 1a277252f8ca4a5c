"""The cases for the Python SDK, and those on raw bytes. A case is a function of the set-up; it fails by raising."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor

import openai

from harness import Setup, raw_post, without_usage_event

MESSAGES = [{"role": "user", "content": "Say hello."}]
SHORT_STREAMS = 100

# What goes wrong in a stream, by the scripted backend's names, and the model to ask: the hasty one has short timeouts.
BROKEN_STREAMS = {
    "cut:3": "scripted",
    "reset:3": "scripted",
    "error_event:2": "scripted",
    "broken_json:2": "scripted",
    "no_done": "scripted",
    "stall:2": "hasty",
}


def client(setup: Setup, base: str = "/v1", key: str | None = None, **options) -> openai.OpenAI:
    options.setdefault("max_retries", 0)
    url = f"http://127.0.0.1:{setup.port}{base}"
    return openai.OpenAI(base_url=url, api_key=key or setup.main.key, timeout=120, **options)


def script(text: str) -> dict[str, str]:
    return {"x-tollgate-script": text}


def same_usage(setup: Setup, request_id: str, prompt: int, completion: int) -> None:
    """What the client was told is what the gateway metered, and it is something."""
    line = setup.metered(request_id)
    metered = (line.get("prompt_tokens"), line.get("completion_tokens") or 0)
    assert metered == (prompt, completion), f"metered {metered}, reported {(prompt, completion)}"
    assert prompt > 0, "no prompt tokens"


def raises(kind: type[Exception], call) -> Exception:
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__} was raised")


# === what works ===


def chat(setup: Setup, model: str, base: str) -> None:
    answer = client(setup, base).chat.completions.create(model=model, messages=MESSAGES, max_tokens=8)
    assert answer.object == "chat.completion" and answer.choices[0].message.content
    same_usage(setup, answer._request_id, answer.usage.prompt_tokens, answer.usage.completion_tokens)


def chat_stream(setup: Setup, model: str, base: str) -> None:
    """Usage that was not asked for is metered and not shown."""
    stream = client(setup, base).chat.completions.create(model=model, messages=MESSAGES, max_tokens=8, stream=True)
    chunks = list(stream)
    assert all(chunk.choices for chunk in chunks), "a chunk without choices: the usage event was not taken out"
    assert not any(chunk.usage for chunk in chunks), "usage was shown though it was not asked for"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")
    line = setup.metered(stream.response.headers["x-request-id"])
    assert line["prompt_tokens"] > 0 and line["completion_tokens"] > 0, line


def chat_stream_usage(setup: Setup, model: str, base: str) -> None:
    stream = client(setup, base).chat.completions.create(
        model=model, messages=MESSAGES, max_tokens=8, stream=True, stream_options={"include_usage": True}
    )
    usage = [chunk.usage for chunk in stream if chunk.usage]
    assert len(usage) == 1, f"{len(usage)} chunks with usage"
    same_usage(setup, stream.response.headers["x-request-id"], usage[0].prompt_tokens, usage[0].completion_tokens)


def completions(setup: Setup, model: str, base: str) -> None:
    answer = client(setup, base).completions.create(model=model, prompt="Once upon a time", max_tokens=8)
    assert answer.choices[0].text
    same_usage(setup, answer._request_id, answer.usage.prompt_tokens, answer.usage.completion_tokens)


def completions_stream(setup: Setup, model: str, base: str) -> None:
    stream = client(setup, base).completions.create(model=model, prompt="Once upon a time", max_tokens=8, stream=True)
    assert "".join(choice.text for chunk in stream for choice in chunk.choices)
    line = setup.metered(stream.response.headers["x-request-id"])
    assert line["prompt_tokens"] > 0 and line["completion_tokens"] > 0, line


def responses(setup: Setup, model: str, base: str) -> None:
    answer = client(setup, base).responses.create(model=model, input="Say hello.", max_output_tokens=8)
    assert answer.output_text
    same_usage(setup, answer._request_id, answer.usage.input_tokens, answer.usage.output_tokens)


def responses_stream(setup: Setup, model: str, base: str) -> None:
    stream = client(setup, base).responses.create(model=model, input="Say hello.", max_output_tokens=8, stream=True)
    events = list(stream)
    assert any(event.type == "response.output_text.delta" for event in events)
    usage = events[-1].response.usage
    same_usage(setup, stream.response.headers["x-request-id"], usage.input_tokens, usage.output_tokens)


def embeddings(setup: Setup, model: str, base: str) -> None:
    answer = client(setup, base).embeddings.create(model=model, input=["one", "two words"])
    assert len(answer.data) == 2 and len(answer.data[0].embedding) > 1
    assert any(answer.data[0].embedding) and answer.data[0].embedding != answer.data[1].embedding
    same_usage(setup, answer._request_id, answer.usage.prompt_tokens, 0)


def embeddings_base64(setup: Setup, model: str, base: str) -> None:
    answer = client(setup, base).embeddings.create(model=model, input="one", encoding_format="base64")
    assert len(base64.b64decode(answer.data[0].embedding)) % 4 == 0


def model_list(setup: Setup, base: str) -> None:
    listed = sorted(model.id for model in client(setup, base).models.list())
    assert listed == setup.models, f"listed {listed}, configured {setup.models}"
    assert client(setup, base).models.retrieve("scripted").id == "scripted"
    narrow = [model.id for model in client(setup, base, setup.narrow.key).models.list()]
    assert narrow == ["scripted"], f"a key that may call one model is shown {narrow}"


def tool_calls(setup: Setup) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    arguments = {"model": "scripted", "messages": MESSAGES, "tools": [tool], "extra_headers": script("tool_calls=1")}
    answer = client(setup).chat.completions.create(**arguments)
    call = answer.choices[0].message.tool_calls[0].function
    parts = [
        part.function.arguments or ""
        for chunk in client(setup).chat.completions.create(**arguments, stream=True)
        for part in chunk.choices[0].delta.tool_calls or []
    ]
    assert call.name == "weather" and json.loads("".join(parts)) == json.loads(call.arguments)


def short_streams(setup: Setup, model: str) -> None:
    """One client, streams one after another: a connection that the backend dropped is never the client's trouble."""
    caller = client(setup)
    for number in range(SHORT_STREAMS):
        chunks = list(caller.chat.completions.create(model=model, messages=MESSAGES, max_tokens=1, stream=True))
        assert chunks[-1].choices[0].finish_reason, f"stream {number} did not finish"


def plain_after_stream(setup: Setup, model: str) -> None:
    """The connection that a stream left behind, dead or alive, carries the next plain request or is replaced."""
    caller = client(setup)
    for _ in range(5):
        list(caller.chat.completions.create(model=model, messages=MESSAGES, max_tokens=1, stream=True))
        assert caller.chat.completions.create(model=model, messages=MESSAGES, max_tokens=1).choices


def closing_backend(setup: Setup) -> None:
    """A backend that announces keep-alive and closes all the same, as llama.cpp does."""
    caller = client(setup, default_headers=script("fault=close"))
    for _ in range(20):
        chunks = list(caller.chat.completions.create(model="scripted", messages=MESSAGES, max_tokens=1, stream=True))
        assert chunks[-1].choices[0].finish_reason


def reuse(setup: Setup) -> None:
    before = setup.stats()
    caller = client(setup)
    for _ in range(SHORT_STREAMS):
        caller.chat.completions.create(model="scripted", messages=MESSAGES, max_tokens=1)
        list(caller.chat.completions.create(model="scripted", messages=MESSAGES, max_tokens=1, stream=True))
    after = setup.stats()
    requests, connections = (after[name] - before[name] for name in ("requests", "connections"))
    assert requests == 2 * SHORT_STREAMS, f"{requests} requests reached the backend"
    assert connections <= requests / 20, f"{connections} new connections for {requests} requests"


def many_at_once(setup: Setup, model: str) -> None:
    """Answers are not mixed up: each stream's request is metered as its own."""
    caller = client(setup)

    def one(number: int) -> None:
        stream = caller.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": "word " * number}],
            max_tokens=number,
            stream=True,
            stream_options={"include_usage": True},
        )
        usage = [chunk.usage for chunk in stream if chunk.usage][0]
        same_usage(setup, stream.response.headers["x-request-id"], usage.prompt_tokens, usage.completion_tokens)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(1, 17)))


# === bytes ===


def same_bytes(setup: Setup, tap: str, path: str, body: dict, headers: dict[str, str]) -> None:
    """A body that asked for nothing to be added arrives as the backend sent it."""
    mark = setup.taps[tap].mark()
    seen = raw_post(setup.port, path, setup.main.key, {"model": tap, **body}, headers)
    sent = setup.tapped(tap, mark)
    assert seen.status == sent.status == 200 and seen.clean and sent.clean, (seen.status, sent.status)
    assert seen.headers["content-type"] == sent.headers["content-type"]
    assert seen.body == sent.body, f"sent {sent.body!r}\nseen {seen.body!r}"


def same_bytes_less_usage(setup: Setup, tap: str, body: dict, headers: dict[str, str]) -> None:
    """Usage that the client had not asked for is asked of the backend, and its event alone is taken out."""
    mark = setup.taps[tap].mark()
    path = "/v1/chat/completions"
    seen = raw_post(setup.port, path, setup.main.key, {"model": tap, "stream": True, **body}, headers)
    sent = setup.tapped(tap, mark)
    assert seen.status == 200 and seen.clean and seen.body.rstrip().endswith(b"data: [DONE]")
    wanted = without_usage_event(sent.body)
    assert wanted != sent.body, "the backend was not asked for its usage"
    assert seen.body == wanted, f"sent {sent.body!r}\nseen {seen.body!r}"


# === what fails ===


def broken_stream(setup: Setup, fault: str, kind: str) -> None:
    """A stream that broke must raise in the client, however it broke."""
    model, seen = BROKEN_STREAMS[fault], []

    def read() -> None:
        caller, headers = client(setup), script(f"tokens=8; fault={fault}")
        if kind == "chat":
            stream = caller.chat.completions.create(model=model, messages=MESSAGES, stream=True, extra_headers=headers)
        elif kind == "completions":
            stream = caller.completions.create(model=model, prompt="Say hello.", stream=True, extra_headers=headers)
        else:
            stream = caller.responses.create(model=model, input="Say hello.", stream=True, extra_headers=headers)
        for event in stream:
            seen.append(event)

    raises(Exception, read)
    assert seen, "nothing of the stream was seen before it broke"


def broken_plain(setup: Setup, fault: str) -> None:
    error = raises(
        openai.APIError,
        lambda: client(setup).chat.completions.create(
            model="scripted", messages=MESSAGES, extra_headers=script(f"fault={fault}")
        ),
    )
    assert isinstance(error, openai.APIConnectionError | openai.InternalServerError), repr(error)


def refused(setup: Setup, kind: type, status: int, wanted: str, call) -> Exception:
    """The SDK's own class for the status, with the whole JSON error in it."""
    error = raises(openai.APIStatusError, call)
    assert type(error) is kind, f"{type(error).__name__}, not {kind.__name__}: {error}"
    assert error.status_code == status, error.status_code
    assert isinstance(error.body, dict), f"no JSON error: {error.body!r}"
    assert error.body["reason"] == wanted, error.body
    assert error.body["code"] == status and error.body["type"] and error.body["message"], error.body
    assert "param" in error.body and error.request_id, error.body
    return error


def ask(setup: Setup, key: str | None = None, model: str = "scripted", faults: str = "", **more):
    headers = script(f"fault={faults}") if faults else None
    caller = client(setup, key=key)
    return lambda: caller.chat.completions.create(model=model, messages=MESSAGES, extra_headers=headers, **more)


def refusals(setup: Setup) -> dict:
    """Each refusal that a client can provoke, as a case of its own."""
    unknown = "sk-" + "0" * 48

    def nowhere() -> None:
        client(setup).get("/nowhere", cast_to=object)

    def rpm(setup: Setup) -> None:
        ask(setup, setup.slow.key)()
        error = refused(setup, openai.RateLimitError, 429, "rpm", ask(setup, setup.slow.key))
        assert int(error.response.headers["retry-after"]) >= 1
        assert error.response.headers["x-ratelimit-limit-requests"] == "1"

    def upstream_text(setup: Setup) -> None:
        call = ask(setup, faults="status:401")
        error = refused(setup, openai.InternalServerError, 502, "upstream_failed", call)
        assert setup.scripted.removeprefix("http://") not in json.dumps(error.body), "the backend's host is shown"

    def backend_422(setup: Setup) -> None:
        error = raises(openai.APIStatusError, ask(setup, faults="status:422"))
        assert type(error) is openai.UnprocessableEntityError and isinstance(error.body, dict), repr(error)

    def total_timeout(setup: Setup) -> None:
        """An SDK with its own retries on asks once: the gateway says that a retry would cost again."""
        before = setup.stats()["requests"]
        caller = client(setup, max_retries=2)
        call = lambda: caller.chat.completions.create(  # noqa: E731
            model="hasty", messages=MESSAGES, extra_headers=script("fault=stall")
        )
        error = refused(setup, openai.InternalServerError, 504, "total_timeout", call)
        assert error.response.headers["x-should-retry"] == "false"
        assert setup.stats()["requests"] - before == 1, "the SDK tried again"

    def row(kind: type, status: int, reason: str, call):
        return lambda setup: refused(setup, kind, status, reason, call) and None

    first_byte = ask(setup, model="hasty", faults="stall", stream=True)
    long = ask(setup, user="x" * (2 << 20))
    return {
        "unknown key": row(openai.AuthenticationError, 401, "key_invalid", ask(setup, unknown)),
        "unknown model": row(openai.NotFoundError, 404, "model_not_found", ask(setup, model="gpt-0")),
        "unknown path": row(openai.NotFoundError, 404, "path_not_found", nowhere),
        "model not allowed": row(
            openai.PermissionDeniedError, 403, "model_not_allowed", ask(setup, setup.narrow.key, "hasty")
        ),
        "denied parameter": row(openai.BadRequestError, 400, "unsupported_parameter", ask(setup, store=True)),
        "body too large": row(openai.APIStatusError, 413, "body_too_large", long),
        "rpm": rpm,
        "backend 429": row(
            openai.RateLimitError, 429, "upstream_rate_limited", ask(setup, faults="status:429")
        ),
        "backend 500": row(openai.InternalServerError, 502, "upstream_failed", ask(setup, faults="status:500")),
        "backend 401": upstream_text,
        "backend 422": backend_422,
        "first byte timeout": row(openai.InternalServerError, 504, "first_byte_timeout", first_byte),
        "total timeout": total_timeout,
    }


def leaving(setup: Setup) -> None:
    """A client that leaves a stream takes the backend's work with it."""
    before = setup.stats()["cancelled"]
    stream = client(setup).chat.completions.create(
        model="scripted", messages=MESSAGES, stream=True, extra_headers=script("tokens=1000; tps=20")
    )
    next(iter(stream))
    stream.close()
    setup.wait_for(lambda: setup.stats()["cancelled"] == before + 1, "the backend did not see the client leave")
    line = setup.metered(stream.response.headers["x-request-id"])
    assert line["prompt_tokens"] > 0 and 0 < line["completion_tokens"] < 1000, line


def counted(setup: Setup) -> None:
    """The counters on the admin listener add up to the access lines."""
    lines = setup.access_lines()
    for name, words in {"prompt_tokens": ("prompt", "input"), "completion_tokens": ("completion", "output")}.items():
        logged = sum(line.get(name) or 0 for line in lines)
        shown = setup.token_counter(words)
        assert logged > 0 and shown == logged, f"{name}: counters {shown}, access lines {logged}"
