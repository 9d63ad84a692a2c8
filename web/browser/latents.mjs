// A colour model in latents, drawn by the page: the picture, the steps as pictures, and half of it kept, against Python's.
// Usage: node browser/latents.mjs SITE_URL GOLDEN.json
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { launch, open } from './common.mjs';

const [address, golden] = process.argv.slice(2);
const wanted = JSON.parse(readFileSync(golden, 'utf-8'));
const browser = await launch();
const { page, wrong } = await open(browser, address, { viewport: { width: 1440, height: 900 } });
await page.evaluate(() => document.querySelectorAll('details').forEach((d) => (d.open = true)));
await page.locator('[name=prompt]').fill(wanted.prompt);
await page.locator('[name=steps]').fill(`${wanted.num_steps}`);
await page.locator('[name=guidance]').fill(`${wanted.guidance_scale}`);
await page.locator('[name=sampler]').selectOption(wanted.sampler);
await page.locator('[name=seed]').fill(`${wanted.seed}`);

/** Click, and wait for what is drawn: its largest distance from Python's. */
async function off(button, pixels) {
  await page.evaluate(() => (globalThis.lastDrawn = null));
  await page.locator(button).first().click();
  await page.waitForFunction(() => globalThis.lastDrawn || document.querySelector('.playground [role=status].wrong'), null, { timeout: 120_000 });
  const drawn = await page.evaluate(() => globalThis.lastDrawn);
  assert(drawn, await page.locator('.playground [role=status]').first().textContent());
  assert.equal(drawn.length, pixels.length);
  return Math.max(...drawn.map((v, i) => Math.abs(v - pixels[i])));
}

const first = await off('.playground form [type=submit]', wanted.pixels);
assert(first < 2e-2, `the page's picture lies ${first} from Python's`);
const sides = await page.evaluate(() => [...document.querySelectorAll('.playground canvas')].map((canvas) => canvas.width));
const kept = await off('[data-do=keep-left]', wanted.kept);
assert.equal(await page.locator('[name=seed]').inputValue(), `${wanted.kept_seed}`);
assert(kept < 2e-2, `with its left half kept, the picture lies ${kept} from Python's`);
await page.evaluate(() => addEventListener('enlarged', (event) => (globalThis.enlarged = [...event.detail.pixels])));
await page.locator('[data-do=share]').click();
await page.locator('[data-do=large]').click();
await page.waitForFunction(() => globalThis.enlarged || /could not/.test(document.querySelector('[data-told]').textContent), null, { timeout: 60_000 });
const large = await page.evaluate(() => globalThis.enlarged);
assert(large, await page.locator('[data-told]').textContent());
assert.equal(large.length, wanted.large.length);
const larger = Math.max(...large.map((v, i) => Math.abs(v - wanted.large[i])));
assert(larger < 2e-2, `the large picture lies ${larger} from Python's`);
const figures = /^404: .*\/(figures|data)\/|404 \(Not Found\)/; // the site is built without them
assert.deepEqual(wrong.filter((words) => !figures.test(words)), []);
console.log(`latents: ${first.toExponential(1)} from Python's, with half kept ${kept.toExponential(1)}, twice as large ${larger.toExponential(1)}; canvases of ${[...new Set(sides)]} pixels`);
await browser.close();
