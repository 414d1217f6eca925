// The seller's path by clicks alone: from an empty database over the connection, an import, a published plan and a buyer to
// billed usage, a parked record, a closed month, and the connection removed. The buyer and AWS act by the sandbox's control
// API, the seller's application by the daemon's API; whatever the seller does is a click or a field.
//
//   node path.mjs <settings as JSON>
//
// Settings: url, sandbox, scripts (false turns JavaScript off), shots (a folder).

import { mkdirSync } from "node:fs";
import { chromium } from "playwright-core";

const settings = JSON.parse(process.argv[2]);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
if (settings.shots) mkdirSync(settings.shots, { recursive: true });
const context = await browser.newContext({
  viewport: { width: 1280, height: 900 }, javaScriptEnabled: settings.scripts ?? true,
});
const page = await context.newPage();
page.setDefaultTimeout(15_000);
page.on("console", (message) => {
  if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) fail(`the browser's console: ${message.text()}`);
});
page.on("pageerror", (error) => fail(String(error)));
let taken = 0;

function fail(text) {
  console.log(`at ${page.url()}: ${text}`);
  process.exit(1);
}

async function post(url, body, method = "POST") {
  const answer = await fetch(url, {
    method, headers: { "content-type": "application/json" }, body: JSON.stringify(body),
  });
  if (!answer.ok) fail(`${url}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}
const aws = (path, body) => post(`${settings.sandbox}/_sandbox/${path}`, body);
const application = (path, body) => post(`${settings.url}${path}`, body);

async function shows(text, what = page.locator("main")) {
  try {
    await what.getByText(text).first().waitFor();
  } catch {
    fail(`no ${text}: ${await page.locator("main").innerText()}`);
  }
  if (settings.shots) {
    taken += 1;
    const name = `path-${String(taken).padStart(2, "0")}.png`;
    await page.screenshot({ path: `${settings.shots}/${name}`, fullPage: true });
  }
}
const open = (name) => page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name, exact: true }).click();
const follow = (name) => page.locator("main").getByRole("link", { name }).first().click();
const press = (name) => page.locator("main").getByRole("button", { name }).first().click();
const fill = (label, value) => page.locator("main").getByLabel(label, { exact: true }).fill(value);

async function expectValue(label, value) {
  const held = await page.locator("main").getByLabel(label, { exact: true }).inputValue();
  if (held !== value) fail(`${label} holds ${held}, not ${value}`);
}

// Loads the page anew until it shows a text: the daemon works meanwhile.
async function becomes(text) {
  for (let round = 0; round < 60; round += 1) {
    if (await page.locator("main").getByText(text).count()) return shows(text);
    await page.waitForTimeout(250);
    await page.reload();
  }
  return fail(`never ${text}: ${await page.locator("main").innerText()}`);
}

const role = "arn:aws:iam::111122223333:role/marketplace";
const usage = (id, customer, quantity) => application("/v1/usage", {
  events: [{ id, customer_id: customer, feature_id: "calls", quantity }],
});

await aws("demo", {});

// Connect: a wrong role first.
await page.goto(settings.url);
await shows("Nothing needs a person.");
await open("Products");
await shows("No listing is imported yet.");
await follow("Connect to AWS");
await shows("Connect, step by step");
await page.getByText("Trust policy: who may assume the role").click();
await shows("sts:AssumeRole");
await fill("The role's ARN", "arn:aws:iam::111122223333:role/nobody");
await press("Connect");
await shows("arn:aws:iam::111122223333:role/nobody");
await aws("roles", { role_arn: role });
await fill("The role's ARN", role);
await press("Connect");
await shows("Connected. Next,");
await shows("aws-marketplace:BatchMeterUsage");

// Import and map.
await follow("import a listing");
await shows("Acme Insight");
await follow("Import of Acme Insight");
const listing = decodeURIComponent(page.url().split("/").at(-2));
await fill("Your id of the product", "insight");
await fill("Plan of basic", "starter");
await fill("Plan of pro", "team");
await fill("Feature billed by api_calls", "calls");
await press("Import");
await shows("Imported. New plans are drafts");

// A feature and a published plan.
await open("Features");
await fill("Id, by which your application asks", "sso");
await fill("Name", "Single sign-on");
await press("Define it");
await shows("Plans that grant it");
await open("Plans");
await page.locator("main").getByRole("row", { name: "starter" }).getByRole("link").first().click();
await page.getByLabel("Feature", { exact: true }).selectOption("calls");
await press("Grant or change it…");
await fill("Limit", "12,5");
await page.getByLabel("Starts again at zero").selectOption("month");
await press("Grant it in the draft");
await shows("“Limit” is a number");
// What was typed is still there.
await expectValue("Limit", "12,5");
await expectValue("Starts again at zero", "month");
await fill("Limit", "1000");
await press("Grant it in the draft");
await shows("1,000 a month");
await follow("See whom it reaches, and publish…");
await shows("Nobody is on the plan yet.");
await press("Publish");
await shows("Published.");

// A buyer comes, and is claimed.
await aws("buyers/123456789012/purchase", { product: listing, dimensions: { basic: 1 } });
await open("Customers");
await becomes("123456789012");
await page.locator("main").getByRole("row", { name: "123456789012" }).getByRole("link").first().click();
await shows("not claimed");
await fill("Your id of them", "acme");
await fill("Name", "Acme & <Sons>");
await press("Claim");
await shows("Saved.");
await becomes("Basic");

// Usage is billed.
await usage("req-1", "acme", 40);
await aws("clock", { advance: "PT2H" });
await open("Metering");
await becomes("accepted");
await page.locator("main").getByRole("row", { name: /Acme .*api_calls/ }).getByRole("link").first().click();
await becomes("AWS's record");

// Usage of somebody without a subscription is parked: why, and what becomes of it.
await open("Customers");
await fill("Id, as your application has it", "nobody");
await press("Provision");
await shows("They have none.");
await application("/v1/usage", {
  events: [{ id: "req-2", customer_id: "nobody", product_id: "insight", dimension: "api_calls", quantity: 7 }],
});
await aws("clock", { advance: "PT26H" });
await open("Overview");
await becomes(/7 units/);
await follow(/7 units/);
await shows("no subscription");
await follow("Decide about all of these…");
await page.getByLabel("Write them off: their units are never billed").check();
await press("See what it comes to");
await shows("1 of 1 record, 7 units.");
await fill("Why, for whoever reads the books later", "a test account");
await press("Write off 1 record");
await shows("Written off: 1 of 1 record, 7 units.");

// The month is looked at, and what was done.
await open("Metering");
await follow(/^Month /);
await shows("By product and dimension");
await shows("What keeps it open");
await open("Activity");
await shows("console");

// The plan of a dimension that is gone is archived.
const listings = await (await fetch(`${settings.sandbox}/_sandbox/products`)).json();
const { dimensions } = listings.items.find((it) => it.entity_id === listing);
await post(`${settings.sandbox}/_sandbox/products/${listing}`,
  { dimensions: dimensions.filter((it) => it.key !== "pro") }, "PATCH");
await open("Products");
await follow("Acme Insight");
await press("Compare with AWS now");
await shows("gone from the listing: ");
await follow("archive Pro…");
await shows("nobody can buy it there");
await press("Archive it");
await shows("Archived.");

// Found by AWS's id, from anywhere.
await page.getByRole("searchbox", { name: "Search by any id or name" }).fill("123456789012");
await page.getByRole("search").getByRole("button", { name: "Search" }).click();
await shows("What they may use, and why");

// And back out.
await open("Integration");
await follow("Remove the connection…");
await shows("no usage is billed");
await press("Remove the connection");
await shows("Removed: nothing is called");
await open("Overview");
await shows("money");
await browser.close();
