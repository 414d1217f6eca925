// Opens every page of the console in Chromium: light and dark, wide and narrow. Each must have no violation that axe finds,
// no error in the browser's console, no report of the content security policy, and no request to another host.
//
//   node pages.mjs <settings as JSON>
//
// Settings: url, token (none where nobody signs in), paths, acts (forms that are filled in and sent first), mistakes (forms that are
// refused, to look at how they come back), scripts (false turns JavaScript off), shots (a folder).

import { readFileSync, mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const require = createRequire(import.meta.url);
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const settings = JSON.parse(process.argv[2]);
const faults = [];

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
if (settings.shots) mkdirSync(settings.shots, { recursive: true });

const views = [
  ["light", 1280], ["dark", 1280], ["light", 360], ["dark", 360],
];
for (const [colorScheme, width] of settings.views ?? views) {
  const context = await browser.newContext({
    colorScheme, viewport: { width, height: 900 }, javaScriptEnabled: settings.scripts ?? true,
  });
  const page = await context.newPage();
  const where = () => `${colorScheme} ${width} ${page.url()}`;
  let refusing = false;
  page.on("console", (message) => {
    // The browser itself says so of every answer that refuses.
    if (refusing && message.text().startsWith("Failed to load resource")) return;
    if (["error", "warning"].includes(message.type())) faults.push(`${where()}: ${message.text()}`);
  });
  page.on("pageerror", (error) => faults.push(`${where()}: ${error}`));
  page.on("request", (request) => {
    if (new URL(request.url()).origin !== new URL(settings.url).origin) {
      faults.push(`${where()}: a request to ${request.url()}`);
    }
  });
  if (settings.token) {
    await page.goto(`${settings.url}/sign-in`);
    await look(page, `${colorScheme}-${width}-sign-in`, where);
    await page.getByLabel("Token").fill(settings.token);
    await page.getByRole("button", { name: "Sign in" }).click();
  }
  for (const { path, fill, button, expect } of settings.acts ?? []) {
    await page.goto(settings.url + path);
    for (const [label, value] of Object.entries(fill)) await page.getByLabel(label).fill(value);
    await page.getByRole("button", { name: button }).click();
    const text = await page.locator("main").innerText();
    if (!text.includes(expect)) faults.push(`${where()}: no "${expect}" after ${button}: ${text}`);
  }
  for (const path of settings.paths) {
    const answer = await page.goto(settings.url + path);
    if (!answer.ok()) faults.push(`${where()}: ${answer.status()}`);
    const name = path.replace(/[^a-z0-9]+/gi, "-").replace(/^-|-$/g, "") || "overview";
    await look(page, `${colorScheme}-${width}-${name}`, where);
  }
  for (const { path, fill, button } of settings.mistakes ?? []) {
    await page.goto(settings.url + path);
    refusing = true;
    for (const [label, value] of Object.entries(fill)) await page.getByLabel(label, { exact: true }).fill(value);
    await page.getByRole("button", { name: button }).click();
    if (!await page.getByRole("alert").count()) faults.push(`${where()}: nothing is announced`);
    const name = path.replace(/[^a-z0-9]+/gi, "-").replace(/^-|-$/g, "");
    await look(page, `${colorScheme}-${width}-${name}-refused`, where);
    refusing = false;
  }
  await context.close();
}
await browser.close();
for (const fault of new Set(faults)) console.log(fault);
process.exit(faults.length ? 1 : 0);

// Has axe look at a page, and keeps a picture of it.
async function look(page, name, where) {
  if (settings.shots) await page.screenshot({ path: `${settings.shots}/${name}.png`, fullPage: true });
  const headings = await page.locator("h1").count();
  if (headings !== 1) faults.push(`${where()}: ${headings} headings of the first rank`);
  if (settings.scripts === false) return;
  await page.evaluate(axe);
  const found = await page.evaluate(() => window.axe.run({
    runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
  }));
  for (const violation of found.violations) {
    const places = violation.nodes.map((node) => node.target.join(" ")).slice(0, 3).join("; ");
    faults.push(`${where()}: ${violation.id}: ${violation.help} (${places})`);
  }
  const wide = await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
  if (wide) faults.push(`${where()}: the page is wider than the window`);
}
