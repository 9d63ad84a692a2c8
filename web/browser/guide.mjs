// The built guide in real Chromium: every chapter, both colour schemes, two widths; a glyph drawn in the page against
// Python's; the map's pop-ups; links that restore their state. Usage: node browser/guide.mjs SITE_URL GOLDEN.json SHOTS/
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { chromium } from 'playwright-core';

const [address, golden, shots] = process.argv.slice(2);
const axe = readFileSync(new URL('../node_modules/axe-core/axe.min.js', import.meta.url), 'utf-8');
mkdirSync(shots, { recursive: true });
const wanted = JSON.parse(readFileSync(golden, 'utf-8'));
const launch = (...flags) =>
  chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-quic', ...flags],
  });
const browser = await launch();

async function open(options, hash = '', inside = browser) {
  const context = await inside.newContext(options);
  const page = await context.newPage();
  await page.addInitScript(() => addEventListener('drawn', (event) => (globalThis.lastDrawn = [...event.detail.pixels])));
  const wrong = [];
  page.on('console', (message) => message.type() === 'error' && wrong.push(message.text()));
  page.on('pageerror', (error) => wrong.push(String(error)));
  page.on('request', (request) => {
    const url = new URL(request.url());
    if (url.protocol.startsWith('http') && url.origin !== new URL(address).origin) wrong.push(`outside request: ${url}`);
  });
  page.on('response', (response) => response.status() >= 400 && wrong.push(`${response.status()}: ${response.url()}`));
  await page.goto(address + hash, { waitUntil: 'load' });
  return { context, page, wrong };
}

async function readAll(page) {
  const height = await page.evaluate(() => document.body.scrollHeight);
  for (let y = 0; y < height; y += 500) {
    await page.evaluate((to) => scrollTo({ top: to, behavior: 'instant' }), y);
    await page.waitForTimeout(60);
  }
  await page.waitForLoadState('networkidle');
}

for (const colorScheme of ['light', 'dark']) {
  for (const width of [390, 1440]) {
    const { context, page, wrong } = await open({ colorScheme, viewport: { width, height: 900 } });
    await readAll(page);
    for (const image of await page.locator('img').all()) {
      await image.scrollIntoViewIfNeeded();
      const ok = await image.evaluate((i) => i.decode().then(() => i.naturalWidth > 0 && i.alt.length > 0, () => false));
      assert(ok, `a picture is missing or unnamed: ${await image.getAttribute('src')}`);
    }
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert(wide <= 0, `the page is ${wide} px too wide at ${width}`);
    await page.evaluate(axe); // the page's Content-Security-Policy has no room for a script element
    const unfit = await page.evaluate(async () => {
      const { violations } = await axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa'] });
      return violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.target.join(' ')).join(', ')}`);
    });
    assert.deepEqual(unfit, [], 'what hinders readers (WCAG 2.1 AA)');
    await page.evaluate(() => scrollTo(0, 0));
    await page.screenshot({ path: `${shots}/page-${colorScheme}-${width}.png`, fullPage: true });
    for (const id of ['try', 'what', 'how', 'text', 'useful', 'summary']) assert.equal(await page.locator(`#${id}`).count(), 1);
    assert.deepEqual(wrong, [], `${colorScheme} ${width}`);
    await context.close();
    console.log(`page ${colorScheme} ${width} px: good`);
  }
}

{
  const { context, page, wrong } = await open({ viewport: { width: 1440, height: 900 } });
  const bytes = await page.evaluate(() => performance.getEntriesByType('resource').reduce((sum, r) => sum + (r.encodedBodySize || 0), 0));
  const loaded = await page.evaluate(() => performance.getEntriesByType('navigation')[0].loadEventEnd);
  if (bytes >= 600_000) console.log(await page.evaluate(() => performance.getEntriesByType('resource').map((r) => `${r.name} ${r.encodedBodySize}`)));
  assert(bytes < 600_000, `${bytes} bytes before the model`);
  assert(loaded < 2000, `${loaded} ms to load`);
  console.log(`${(bytes / 1000).toFixed(0)} kB before the model, loaded in ${loaded.toFixed(0)} ms`);

  // a typed prompt, as Python draws it
  await page.locator('.options summary').click();
  await page.locator('[name=prompt]').fill(wanted.prompt);
  await page.locator('[name=steps]').fill(`${wanted.num_steps}`);
  await page.locator('[name=guidance]').fill(`${wanted.guidance_scale}`);
  await page.locator('[name=sampler]').selectOption(wanted.sampler);
  await page.locator('[name=seed]').fill(`${wanted.seed}`);
  const draw = async () => {
    const start = Date.now();
    await page.evaluate(() => (globalThis.lastDrawn = null));
    await page.locator('#ask button').click();
    await page.waitForFunction(() => globalThis.lastDrawn || document.querySelector('[role=status].wrong'), null, { timeout: 120_000 });
    assert(await page.evaluate(() => globalThis.lastDrawn), await page.locator('.playground [role=status]').textContent());
    return (Date.now() - start) / 1000;
  };
  const cold = await draw();
  const drawn = await page.evaluate(() => globalThis.lastDrawn);
  const off = Math.max(...drawn.map((v, i) => Math.abs(v - wanted.pixels[i])));
  assert(off < 2e-2, `the page's glyph lies ${off} from Python's`);
  const warm = await draw();
  console.log(`drawn by ${await page.locator('[data-engine]').textContent()}: ${off.toExponential(1)} from Python's; cold ${cold.toFixed(1)} s, warm ${warm.toFixed(1)} s`);
  if (!process.env.SLOW) {
    assert(cold < 8, `the first picture took ${cold} s`);
    assert(warm < 4, `a picture took ${warm} s`);
  }

  // look back, pin, share
  await page.locator('[name=time]').fill('2');
  assert.match((await page.locator('output[for=time]').textContent()) ?? '', /step 3/);
  await page.getByRole('button', { name: 'Pin', exact: true }).click();
  assert.equal(await page.locator('[data-pins] li').count(), 1);
  await page.locator('.playground').screenshot({ path: `${shots}/playground.png` });
  await page.getByRole('button', { name: 'Share or save' }).click();
  for (const kind of ['PNG', 'SVG', 'GIF']) {
    const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: kind, exact: true }).click()]);
    assert(download.suggestedFilename().endsWith(kind.toLowerCase()));
  }
  await page.getByRole('button', { name: 'Close', exact: true }).click();
  const link = await page.evaluate(() => location.hash);

  // the map
  await page.locator('[data-live=atlas]').scrollIntoViewIfNeeded();
  await page.locator('[data-live=atlas] [data-note]').filter({ hasText: /Point at one|no WebGL/ }).waitFor({ timeout: 30_000 });
  await page.locator('[name=search]').fill('lithium');
  await page.getByRole('button', { name: 'Find', exact: true }).click();
  await page.locator('[data-popup]').filter({ hasText: 'lithium' }).waitFor();
  await page.locator('[data-live=atlas]').screenshot({ path: `${shots}/map.png` });

  // the field
  await page.locator('[data-live=field]').scrollIntoViewIfNeeded();
  await page.getByRole('button', { name: 'Drop eight points' }).click();
  await page.waitForTimeout(2500);
  await page.locator('[data-live=field]').screenshot({ path: `${shots}/field.png` });
  await page.locator('[data-live=forward]').scrollIntoViewIfNeeded();
  await page.locator('[data-live=forward]').screenshot({ path: `${shots}/forward.png` });
  assert.deepEqual(wrong, []);
  await context.close();

  // the link alone brings it all back
  const again = await open({ viewport: { width: 1440, height: 900 } }, link);
  assert.equal(await again.page.locator('[name=prompt]').inputValue(), wanted.prompt);
  assert.equal(await again.page.locator('[name=sampler]').inputValue(), wanted.sampler);
  await again.page.locator('.playground [role=status]').filter({ hasText: 'Drawn in' }).waitFor({ timeout: 120_000 });
  assert.deepEqual(again.wrong, []);
  await again.context.close();
  console.log('links restore their state');

  // the same glyph in two steps, by WASM and by WebGPU (a software adapter will do)
  const graphics = await launch('--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--enable-features=Vulkan');
  const made = [];
  for (const inside of [browser, graphics]) {
    const { page, wrong, context } = await open({}, link.replace(/steps=\d+/, 'steps=2'), inside);
    await page.waitForFunction(() => globalThis.lastDrawn || document.querySelector('[role=status].wrong'), null, { timeout: 120_000 });
    assert.deepEqual(wrong, []);
    made.push({ pixels: await page.evaluate(() => globalThis.lastDrawn), by: await page.locator('[data-engine]').textContent() });
    assert(made.at(-1).pixels, await page.locator('.playground [role=status]').textContent());
    await context.close();
  }
  await graphics.close();
  const apart = Math.max(...made[0].pixels.map((v, i) => Math.abs(v - made[1].pixels[i])));
  assert.match(made[1].by, /on its GPU/);
  assert(apart < 2e-2, `WebGPU's glyph lies ${apart} from WASM's`);
  console.log(`drawn by ${made[1].by} too, ${apart.toExponential(1)} from there`);
}
await browser.close();
