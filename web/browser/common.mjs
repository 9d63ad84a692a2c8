// What the browser tests share: Chromium, and pages that report every error and every request to elsewhere.
import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';

export const launch = (...flags) =>
  chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-quic', ...flags],
  });

/** A page of its own context. `wrong` collects errors, failed requests and requests to other places. */
export async function open(browser, address, options = {}, prepare = () => undefined) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  await page.addInitScript(() => addEventListener('drawn', (event) => (globalThis.lastDrawn = [...event.detail.pixels])));
  await page.addInitScript(`globalThis.pictureNow = ${picture}`);
  await page.addInitScript(prepare);
  const wrong = [];
  const note = (words) => wrong.push(words);
  page.on('console', (message) => message.type() === 'error' && note(message.text()));
  page.on('pageerror', (error) => note(String(error)));
  context.on('request', (request) => {
    const url = new URL(request.url());
    if (url.protocol.startsWith('http') && url.origin !== new URL(address).origin) note(`outside request: ${url}`);
  });
  context.on('response', (response) => response.status() >= 400 && note(`${response.status()}: ${response.url()}`));
  await page.goto(address, { waitUntil: 'load' });
  return { context, page, wrong };
}

/** Scroll through the whole page, so that everything on it wakes up; `look` is called at each screen. */
export async function readAll(page, look = async () => undefined, step = 600) {
  const height = () => page.evaluate(() => document.body.scrollHeight); // which changes while chapters wake up
  for (let y = 0, n = 0; y < (await height()); y += step, n++) {
    await page.evaluate((to) => scrollTo({ top: to, behavior: 'instant' }), y);
    await page.waitForTimeout(80);
    await look(n);
  }
  await page.waitForLoadState('networkidle');
}

/** Until it holds; an assertion that names what did not. */
export async function until(page, what, test, argument, timeout = 10_000) {
  const found = await page.waitForFunction(test, argument, { timeout }).catch(() => null);
  assert(found, what);
  return found.jsonValue();
}

/** Everything drawn in the large picture, as a short hash; 0 while it is empty. */
export const picture = () => {
  const canvas = document.querySelector('[data-hero] canvas, .playground canvas');
  if (!canvas?.width) return 0;
  const small = new OffscreenCanvas(24, 24);
  const pen = small.getContext('2d', { willReadFrequently: true });
  pen.drawImage(canvas, 0, 0, 24, 24);
  const { data } = pen.getImageData(0, 0, 24, 24);
  return data.some((v, i) => v !== data[i % 4]) ? data.reduce((sum, v) => (sum * 31 + v) | 0, 7) : 0;
};
