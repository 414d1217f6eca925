// An application that asks marketd before it serves: Express, on Node's own fetch.
//
//     npm install express
//     MARKETD_URL=http://127.0.0.1:8480 node express_app.js

const { randomUUID } = require("node:crypto");
const { setTimeout: sleep } = require("node:timers/promises");
const express = require("express");

const MARKETD = process.env.MARKETD_URL ?? "http://127.0.0.1:8480";
const TOKEN = process.env.MARKETD_TOKEN;
const TIMEOUT_MS = Number(process.env.MARKETD_TIMEOUT_MS ?? 300); // an answer takes a few
const unreported = []; // usage that marketd was not told yet; a real application keeps it in its database
let reporter;

// marketd did not answer: whether it counted anything is not known.
class Silent extends Error {}

// Returns marketd's answer. A refusal (4xx) is a mistake of ours, and is thrown.
async function ask(method, path, body) {
  const headers = { "content-type": "application/json" };
  if (TOKEN) headers.authorization = `Bearer ${TOKEN}`;
  let answer, text;
  try {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    answer = await fetch(MARKETD + path, { method, headers, body: JSON.stringify(body), signal });
    text = await answer.text();
  } catch (cause) {
    throw new Silent("no answer", { cause });
  }
  if (answer.status >= 500) throw new Silent(text);
  if (!answer.ok) throw new Error(`${answer.status}: ${text}`);
  return JSON.parse(text);
}

// Returns who is signed in. Take it from your session, never from what a client may choose.
function customerOf(request) {
  return request.headers["x-customer"];
}

function entitlement(request, feature) {
  return `/v1/customers/${encodeURIComponent(customerOf(request))}/entitlements/${feature}`;
}

// Says no as HTTP does: too much for now, or not bought at all.
function deny(response, access) {
  response.status(access.reason === "limit_exceeded" ? 429 : 403).json({ detail: access.reason });
}

// Makes a gate for a feature that is had or not.
function checks(feature, { failOpen }) {
  return guarded(async (request, response, next) => {
    let access;
    try {
      access = await ask("GET", entitlement(request, feature));
    } catch (error) {
      if (!(error instanceof Silent)) throw error;
      return failOpen ? next() : response.status(503).json({ detail: "try again" });
    }
    return access.has_access ? next() : deny(response, access);
  });
}

// Makes a gate that counts each request that it lets through.
function consumes(feature, quantity, { failOpen }) {
  return guarded(async (request, response, next) => {
    const path = entitlement(request, feature) + "/consume";
    const event = { id: randomUUID(), quantity };
    for (let tries = 0; tries < 2; tries++) { // the same id: it counts once, whichever answer is lost
      try {
        const access = await ask("POST", path, event);
        return access.accepted ? next() : deny(response, access);
      } catch (error) {
        if (!(error instanceof Silent)) throw error;
      }
    }
    if (!failOpen) return response.status(503).json({ detail: "try again" });
    report({ ...event, customer_id: customerOf(request), feature_id: feature });
    return next();
  });
}

// Reports usage at once, or as soon as marketd answers.
function report(event) {
  unreported.push({ ...event, timestamp: new Date().toISOString() });
  reporter ??= reportAll().finally(() => (reporter = undefined));
}

// Reports what is left. What was counted under its id before is a duplicate, and not counted again.
async function reportAll() {
  while (unreported.length > 0) {
    const events = unreported.slice(0, 1000);
    try {
      const { rejected } = await ask("POST", "/v1/usage", { events });
      unreported.splice(0, events.length);
      for (const event of rejected) console.error("usage was rejected:", event);
    } catch (error) {
      console.error("usage waits:", error.message);
      await sleep(1000);
    }
  }
}

// Hands what an asynchronous handler throws to Express, whose older versions do not.
function guarded(handler) {
  return (request, response, next) => handler(request, response, next).catch(next);
}

const app = express();

app.get("/dashboard", checks("dashboard", { failOpen: true }), (request, response) => {
  response.json({ shown: true });
});

app.post("/jobs", consumes("jobs", 1, { failOpen: false }), (request, response) => {
  response.json({ done: true });
});

app.post("/searches", consumes("searches", 1, { failOpen: true }), (request, response) => {
  response.json({ found: [] });
});

app.post(
  "/translations",
  checks("words", { failOpen: true }),
  express.text({ type: () => true }),
  (request, response) => {
    const words = request.body.split(/\s+/).filter(Boolean).length; // known only now
    const usage = { customer_id: customerOf(request), feature_id: "words", quantity: words };
    report({ id: randomUUID(), ...usage });
    response.json({ words });
  },
);

app.listen(process.env.PORT ?? 8000, "127.0.0.1");
