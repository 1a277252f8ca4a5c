// The cases for the Node SDK. Its one argument is JSON (see run.py); it prints a JSON line for each case:
// {name, failed?, usage?: [{id, prompt, completion}]}, and {"end": true} when all are through.
import OpenAI from "openai";
import assert from "node:assert/strict";

const given = JSON.parse(process.argv[2]);
const messages = [{ role: "user", content: "Say hello." }];

const client = (base = "/v1", apiKey = given.key, more = {}) =>
  new OpenAI({ baseURL: given.root + base, apiKey, maxRetries: 0, timeout: 120_000, logLevel: "off", ...more });
const script = (text) => ({ headers: { "x-tollgate-script": text } });

async function run(name, body) {
  const said = { name: `node: ${name}` };
  if (!said.name.includes(given.only)) return;
  try {
    const usage = await body();
    if (usage) said.usage = [usage];
  } catch (error) {
    said.failed = `${error.constructor.name}: ${error.message}`;
  }
  console.log(JSON.stringify(said));
}

const reported = (id, usage) => ({
  id,
  prompt: usage.prompt_tokens ?? usage.input_tokens,
  completion: usage.completion_tokens ?? usage.output_tokens ?? 0,
});

// Reads a stream to its end: its events, and the request's id.
async function read(promise) {
  const { data, response } = await promise.withResponse();
  const events = [];
  for await (const event of data) events.push(event);
  return { events, id: response.headers.get("x-request-id") };
}

async function rejects(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  assert.fail("nothing was thrown");
}

// === what works ===

const endpoints = {
  async chat(base, model) {
    const answer = await client(base).chat.completions.create({ model, messages, max_tokens: 8 });
    assert.ok(answer.choices[0].message.content);
    return reported(answer._request_id, answer.usage);
  },
  async chat_stream(base, model) {
    const { events } = await read(client(base).chat.completions.create({ model, messages, max_tokens: 8, stream: true }));
    assert.ok(events.every((chunk) => chunk.choices.length === 1 && !chunk.usage));
    assert.ok(["stop", "length"].includes(events.at(-1).choices[0].finish_reason));
  },
  async chat_stream_usage(base, model) {
    const asked = { stream: true, stream_options: { include_usage: true } };
    const { events, id } = await read(client(base).chat.completions.create({ model, messages, max_tokens: 8, ...asked }));
    return reported(id, events.at(-1).usage);
  },
  async completions(base, model) {
    const answer = await client(base).completions.create({ model, prompt: "Once upon a time", max_tokens: 8 });
    assert.ok(answer.choices[0].text);
    return reported(answer._request_id, answer.usage);
  },
  async completions_stream(base, model) {
    const asked = { model, prompt: "Once upon a time", max_tokens: 8, stream: true };
    const { events } = await read(client(base).completions.create(asked));
    assert.ok(events.some((chunk) => chunk.choices[0]?.text));
  },
  async responses(base, model) {
    const answer = await client(base).responses.create({ model, input: "Say hello.", max_output_tokens: 8 });
    assert.ok(answer.output_text);
    return reported(answer._request_id, answer.usage);
  },
  async responses_stream(base, model) {
    const asked = { model, input: "Say hello.", max_output_tokens: 8, stream: true };
    const { events, id } = await read(client(base).responses.create(asked));
    assert.ok(events.some((event) => event.type === "response.output_text.delta"));
    return reported(id, events.at(-1).response.usage);
  },
};

async function embeddings(base, model) {
  const answer = await client(base).embeddings.create({ model, input: ["one", "two words"] });
  assert.equal(answer.data.length, 2);
  assert.ok(answer.data[0].embedding.some((number) => number !== 0));
  return reported(answer._request_id, answer.usage);
}

async function modelList(base) {
  const ids = [];
  for await (const model of client(base).models.list()) ids.push(model.id);
  assert.ok(ids.includes("scripted") && ids.includes("hasty"), `listed ${ids}`);
  assert.equal((await client(base).models.retrieve("scripted")).id, "scripted");
}

async function shortStreams(model) {
  const caller = client();
  for (let number = 0; number < given.shortStreams; number++) {
    const { events } = await read(caller.chat.completions.create({ model, messages, max_tokens: 1, stream: true }));
    assert.ok(events.at(-1).choices[0].finish_reason, `stream ${number} did not finish`);
  }
}

// === what fails ===

async function brokenStream(fault, model, kind) {
  const options = script(`tokens=8; fault=${fault}`);
  const ask = {
    chat: (caller) => caller.chat.completions.create({ model, messages, stream: true }, options),
    responses: (caller) => caller.responses.create({ model, input: "Say hello.", stream: true }, options),
  }[kind];
  const events = [];
  await rejects(
    (async () => {
      for await (const event of await ask(client())) events.push(event);
    })(),
  );
  assert.ok(events.length, "nothing of the stream was seen before it broke");
}

async function refused(kind, status, reason, call) {
  const error = await rejects(call());
  assert.equal(error.constructor, kind, `${error.constructor.name}, not ${kind.name}: ${error.message}`);
  assert.equal(error.status, status);
  assert.equal(error.error?.reason, reason, JSON.stringify(error.error));
  assert.ok(error.error.message && error.error.type && error.error.code === status, JSON.stringify(error.error));
}

const ask = ({ key, model = "scripted", fault, ...more } = {}) => () =>
  client("/v1", key).chat.completions.create({ model, messages, ...more }, fault ? script(`fault=${fault}`) : {});

const refusals = {
  "unknown key": [OpenAI.AuthenticationError, 401, "key_invalid", ask({ key: "sk-" + "0".repeat(48) })],
  "unknown model": [OpenAI.NotFoundError, 404, "model_not_found", ask({ model: "gpt-0" })],
  "unknown path": [OpenAI.NotFoundError, 404, "path_not_found", () => client().get("/nowhere")],
  "model not allowed": [OpenAI.PermissionDeniedError, 403, "model_not_allowed", ask({ key: given.narrow, model: "hasty" })],
  "denied parameter": [OpenAI.BadRequestError, 400, "unsupported_parameter", ask({ store: true })],
  "backend 429": [OpenAI.RateLimitError, 429, "upstream_rate_limited", ask({ fault: "status:429" })],
  "backend 500": [OpenAI.InternalServerError, 502, "upstream_failed", ask({ fault: "status:500" })],
  "total timeout": [OpenAI.InternalServerError, 504, "total_timeout", ask({ model: "hasty", fault: "stall" })],
};

// === all of them ===

const chatModels = given.llm ? ["scripted", "llama"] : ["scripted"];
const embeddingModels = given.llm ? ["scripted", "llama-embed"] : ["scripted"];
for (const [words, base] of [["with /v1", "/v1"], ["without /v1", ""]]) {
  for (const [name, body] of Object.entries(endpoints)) {
    for (const model of chatModels) await run(`${name}, ${model}, ${words}`, () => body(base, model));
  }
  for (const model of embeddingModels) await run(`embeddings, ${model}, ${words}`, () => embeddings(base, model));
  await run(`model list, ${words}`, () => modelList(base));
}
for (const model of chatModels) await run(`${given.shortStreams} short streams, ${model}`, () => shortStreams(model));
for (const [fault, model] of Object.entries(given.brokenStreams)) {
  for (const kind of ["cut:3", "stall:2"].includes(fault) ? ["chat", "responses"] : ["chat"]) {
    await run(`broken stream, ${fault}, ${kind}`, () => brokenStream(fault, model, kind));
  }
}
for (const [name, row] of Object.entries(refusals)) await run(`refusal, ${name}`, () => refused(...row));
console.log(JSON.stringify({ end: true }));
