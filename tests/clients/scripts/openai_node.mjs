// The `openai` package of npm. Address and key come from OPENAI_BASE_URL and OPENAI_API_KEY.

import OpenAI from "openai";

const client = new OpenAI({ maxRetries: 0 });
const model = "tiny";
const messages = [{ role: "system", content: "Be brief." }, { role: "user", content: "Hello there" }];
const schema = {
  type: "object",
  properties: { known: { type: "boolean" } },
  required: ["known"],
  additionalProperties: false,
};
const tools = [{ type: "function", function: { name: "note", strict: true, parameters: schema } }];

const chat = (options = {}) =>
  client.chat.completions.create({ model, messages, temperature: 0, max_tokens: 12, ...options });
const completion = (options = {}) =>
  client.completions.create({ model, prompt: "Once upon", temperature: 0, max_tokens: 12, ...options });
const response = (options = {}) =>
  client.responses.create({ model, input: "Hello there", temperature: 0, max_output_tokens: 12, ...options });

async function all(stream) {
  const parts = [];
  for await (const part of await stream) parts.push(part);
  return parts;
}

async function refused(call) {
  try {
    await call();
  } catch (error) {
    if (!(error instanceof OpenAI.APIError)) throw error;
    return { class: error.constructor.name, status: error.status, body: error.error };
  }
  throw new Error("no error was raised");
}

async function abandoned() {
  const stream = await chat({ max_tokens: 500, stream: true });
  for await (const chunk of stream) return [chunk, await chat({ max_tokens: 3 })];
}

const wrongKey = new OpenAI({ apiKey: "wrong", maxRetries: 0 });
const cases = {
  chat: () => chat(),
  chat_logprobs: () => chat({ logprobs: true, top_logprobs: 2 }),
  chat_tool: () => chat({ tools, tool_choice: "required", max_tokens: 120 }),
  chat_extra: () => chat({ top_k: 1, min_tokens: 12, return_token_ids: true }),
  chat_stream: () => all(chat({ stream: true })),
  chat_stream_usage: () => all(chat({ stream: true, stream_options: { include_usage: true } })),
  chat_stream_tool: () => all(chat({ stream: true, tools, tool_choice: "required", max_tokens: 120 })),
  chat_stream_helper: () =>
    client.chat.completions
      .stream({ model, messages, temperature: 0, max_tokens: 12 })
      .finalChatCompletion(),
  chat_stream_abandoned: () => abandoned(),
  completions: () => completion(),
  completions_stream: () => all(completion({ stream: true })),
  responses: () => response(),
  responses_stream: () => all(response({ stream: true })),
  responses_tool: () =>
    response({
      tools: [{ type: "function", name: "note", strict: true, parameters: schema }],
      tool_choice: "required",
      max_output_tokens: 120,
    }),
  models: async () => (await all(client.models.list())).map((each) => each.id),
  error_bad_field: () => refused(() => chat({ temperature: -5 })),
  error_bad_field_stream: () => refused(() => chat({ temperature: -5, stream: true })),
  error_unknown_model: () => refused(() => client.completions.create({ model: "nobody", prompt: "x" })),
  error_wrong_key: () => refused(() => wrongKey.completions.create({ model, prompt: "x" })),
};

const results = {};
for (const [name, run] of Object.entries(cases)) results[name] = await run();
console.log(JSON.stringify(results));
