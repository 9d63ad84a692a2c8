// A page whose model is a student: it draws in its own steps, hides what it cannot do, and names the model that can.
// Usage: node browser/student.mjs SITE_URL
import assert from 'node:assert/strict';
import { launch, open, until } from './common.mjs';

const [address] = process.argv.slice(2);
const browser = await launch();
const { page, wrong } = await open(browser, `${address}#prompt=gold&to=water&share=0.4&guidance=7`, { viewport: { width: 1440, height: 900 } });
const { distilled } = await page.evaluate(async () => (await fetch('model/model.json')).json());
await page.waitForFunction(() => globalThis.lastDrawn, null, { timeout: 180_000 });
await page.evaluate(() => document.querySelectorAll('details').forEach((d) => (d.open = true)));
assert.equal(await page.locator('[name=steps]').inputValue(), `${distilled.steps}`);
assert.equal(await page.locator('[name=sampler]').inputValue(), distilled.sampler ?? 'ddim');
for (const name of ['guidance', 'to', 'share']) assert(!(await page.locator(`[name=${name}]`).isVisible()), `${name} is offered`);
const told = await page.locator('[data-distilled]').textContent();
assert(told.includes(`the model ${distilled.model}`) && (await page.locator('[data-distilled]').isVisible()), told);
await page.evaluate(() => {
  globalThis.sketches = [];
  addEventListener('sketched', (event) => globalThis.sketches.push(event.detail));
});
await page.locator('[name=prompt]').fill('old horse');
await until(page, 'it is sketched', () => globalThis.sketches.includes('old horse'), null, 60_000);
const figures = /^404: .*\/(figures|data)\/|404 \(Not Found\)/; // the site is built without them
assert.deepEqual(wrong.filter((words) => !figures.test(words)), []);
console.log(`a student's page: ${told}`);
await browser.close();
