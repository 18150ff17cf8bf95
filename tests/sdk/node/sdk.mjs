// What users of the OpenAI Node SDK write, against a running server: `sdk.mjs PACKAGE URL PNG STEP…`.
// The picture has 12 x 8 pixels. Ends with an AssertionError where something is not as documented.

import assert from "node:assert/strict";
import fs from "node:fs";

const [name, url, path, ...steps] = process.argv.slice(2);
const { default: OpenAI, toFile } = await import(name);
const client = new OpenAI({ baseURL: `${url}/openai/v1`, apiKey: "none", maxRetries: 0 });
const data = fs.readFileSync(path);

function edit(image, more = {}, options = {}, ours = client) {
  return ours.images.edit({ image, model: "real-esrgan", scale_factor: 4, ...more }, options);
}

// The error of exactly that class and code.
async function fails(kind, code, call) {
  try {
    await call();
  } catch (error) {
    assert.equal(error.constructor, kind, `${error}`);
    assert.equal(error.code, code);
    return error;
  }
  assert.fail(`no ${kind.name}`);
}

const all = {
  async all_forms() {
    const png = { type: "image/png" };
    const images = [
      fs.createReadStream(path), // chunked, without a length
      new File([data], "f.png", png),
      await toFile(data, "x.png"),
      await toFile(data, "x.png", png),
      await toFile(fs.createReadStream(path), null, png),
      await toFile(data),
      [await toFile(data, "x.png")],
      `data:image/png;base64,${data.toString("base64")}`,
    ];
    let reply;
    for (const image of images) {
      reply = await edit(image);
      assert.equal(reply.size, "48x32");
      assert.equal(reply.metadata.provider, "local");
      assert.match(reply._request_id, /^req_/);
    }
    const link = reply.data[0].url;
    const got = await fetch(link);
    assert.equal(got.headers.get("content-type"), "image/png");
    assert.equal((await edit(await fetch(link))).size, "192x128");
    for (const image of [link, [link], { url: link }]) {
      assert.equal((await edit(image, { scale_factor: 2 })).size, "96x64");
    }
    const posted = await client.post("/images/edits", {
      body: { model: "real-esrgan", image: link, scale_factor: 2 },
      query: { dryRun: true },
    });
    assert.equal(posted.estimated, true);
    const coded = await edit(link, { response_format: "b64_json", output_format: "webp", n: 2 });
    assert.equal(Buffer.from(coded.data[1].b64_json, "base64").toString("latin1", 8, 12), "WEBP");
    const dry = await edit(link, {}, { query: { dryRun: true } });
    assert.equal(dry.total_cost_micros, 0);
    const { response } = await edit(link, { prompt: "x" }, {}).withResponse();
    assert.equal(response.headers.get("x-lumenfall-provider"), "local");
  },

  async models() {
    const ids = (await client.models.list()).data.map((model) => model.id);
    assert.ok(ids.includes("real-esrgan"));
    assert.equal((await client.models.retrieve("fal/aura-sr")).object, "model");
    await fails(OpenAI.NotFoundError, "MODEL_NOT_FOUND", () => client.models.retrieve("nothing"));
  },

  async errors() {
    const image = await toFile(data, "x.png");
    const bad = OpenAI.BadRequestError;
    const wrong = await fails(bad, "INVALID_REQUEST", () => edit(image, { scale_factor: 99 }));
    assert.equal(wrong.param, "scale_factor");
    assert.match(wrong.requestID, /^req_/);
    await fails(OpenAI.NotFoundError, "MODEL_NOT_FOUND", () => edit(image, { model: "nothing" }));
    await fails(bad, "INVALID_REQUEST", () => edit(image, { stream: true }));
    // The SDK sends nothing, or a part a byte, for these; the answer names the cure.
    const silent = [data, new Uint8Array(data), data.buffer, [], undefined];
    for (const trap of silent) {
      const told = await fails(bad, "INVALID_REQUEST", () => edit(trap));
      assert.match(told.message, /toFile/);
    }
    // A Blob is sent from version 7 on.
    const sent = await edit(new Blob([data])).catch((error) => error);
    assert.match(sent.size ?? sent.message, name === "openai" ? /48x32/ : /toFile/);
  },

  async chain() {
    const first = await edit(fs.createReadStream(path));
    const second = await edit(first.data[0].url, { scale_factor: 2 });
    assert.equal(second.size, "96x64");
  },

  async at_once() {
    const sizes = await Promise.all(
      [1, 2, 3, 4].map(async (factor) => {
        const image = await toFile(data, "x.png");
        return (await edit(image, { scale_factor: factor })).size;
      }),
    );
    assert.deepEqual(sizes, ["12x8", "24x16", "36x24", "48x32"]);
  },

  async failing() {
    const patient = client.withOptions({ maxRetries: 2 });
    const image = await toFile(data, "x.png");
    const call = () => edit(image, {}, {}, patient);
    await fails(OpenAI.InternalServerError, "INTERNAL_ERROR", call);
  },

  async busy() {
    const patient = client.withOptions({ maxRetries: 1 });
    const image = await toFile(data, "x.png");
    await fails(OpenAI.RateLimitError, "RATE_LIMITED", () => edit(image, {}, {}, patient));
  },
};

for (const step of steps) await all[step]();
console.log("ok");
