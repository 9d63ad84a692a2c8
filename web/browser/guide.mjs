// The built guide in real Chromium: every chapter, both colour schemes, two widths; the first second; links, map and field; without a
// network, by keyboard, with less motion, on a server without headers; a glyph drawn in the page against Python's.
// Usage: node browser/guide.mjs SITE_URL GOLDEN.json SHOTS/ [SITE_FOLDER], and ONLY=part,part for some of it
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { createReadStream, existsSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join } from 'node:path';
import { launch, open, picture, readAll, until } from './common.mjs';

const [address, golden, shots, folder] = process.argv.slice(2);
const axe = readFileSync(new URL('../node_modules/axe-core/axe.min.js', import.meta.url), 'utf-8');
mkdirSync(shots, { recursive: true });
const browser = await launch();
const desktop = { viewport: { width: 1440, height: 900 } };
const phone = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true };
const hash = (bytes) => createHash('sha256').update(bytes).digest('hex').slice(0, 16);
const parts = {};

/** What a reader with either scheme sees at either width: pictures, captions, sizes, WCAG and best practice, no overflow. */
parts.looks = async () => {
  for (const colorScheme of ['light', 'dark']) for (const width of [390, 1440]) await look('', colorScheme, width);
  await look('zh.html', 'light', 390);
  await look('zh.html', 'dark', 1440);
};

async function look(file, colorScheme, width) {
  const { context, page, wrong } = await open(browser, address + file, { colorScheme, viewport: { width, height: 900 } });
  const name = `${file.replace('.html', '') || 'page'}-${colorScheme}-${width}`;
  await readAll(page, (n) => page.screenshot({ path: `${shots}/${name}-${`${n}`.padStart(2, '0')}.png` }), 850);
  for (const image of await page.locator('main img:not(dialog img)').all()) {
    await image.scrollIntoViewIfNeeded();
    const ok = await image.evaluate((i) => i.decode().then(() => i.naturalWidth > 0 && i.alt.length > 0, () => false));
    assert(ok, `a picture is missing or unnamed: ${await image.getAttribute('src')}`);
  }
  const bare = await page.evaluate(() => [...document.querySelectorAll('.chapter > figure')].filter((f) => !f.querySelector('figcaption')?.textContent).length);
  assert.equal(bare, 0, 'figures without a caption');
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert(wide <= 0, `the page is ${wide} px too wide at ${width}`);
  assert.deepEqual(await page.evaluate(overflowing), [], `too wide at ${width}`);
  assert.deepEqual(await page.evaluate(smallText), [], `text under 11 px at ${width}`);
  if (width === 390) assert.deepEqual(await page.evaluate(smallFigures), [], 'text in figures under 11 px');
  await page.evaluate(axe); // the page's Content-Security-Policy has no room for a script element
  const unfit = await page.evaluate(async () => {
    const { violations } = await axe.run(document);
    return violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.target.join(' ')).join(', ')}`);
  });
  assert.deepEqual(unfit, [], `what hinders readers (axe, all rules) ${colorScheme} ${width}`);
  for (const id of ['try', 'what', 'how', 'text', 'useful', 'summary']) assert.equal(await page.locator(`#${id}`).count(), 1);
  assert.deepEqual(wrong, [], `${colorScheme} ${width}`);
  await context.close();
  console.log(`${name}: good`);
}

/** Elements that reach out of the window, but for those in a box that scrolls. */
function overflowing() {
  const found = [];
  for (const element of document.querySelectorAll('body *')) {
    const { right, left, width } = element.getBoundingClientRect();
    if (width < 2 || (right <= innerWidth + 1 && left >= -1)) continue;
    let box = element;
    while (box && !['auto', 'scroll', 'hidden', 'clip'].includes(getComputedStyle(box).overflowX)) box = box.parentElement;
    if (!box && !element.closest('.skip, [id^=lasso]')) found.push(`${Math.round(left)} to ${Math.round(right)}: ${element.outerHTML.slice(0, 120)}`);
  }
  return found;
}

/** Text under 11 px, but for what only screen readers see. */
function smallText() {
  const found = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.replace(/[\s\u200b]/g, '') || element.closest('.katex-mathml, svg, [hidden], script, style, noscript')) continue;
    if (!element.checkVisibility({ visibilityProperty: true })) continue;
    const size = Number.parseFloat(getComputedStyle(element).fontSize);
    if (size < 10.99) found.add(`${size.toFixed(1)} px: ${node.data.trim().slice(0, 30)}`);
  }
  return [...found];
}

/** Figures whose smallest letters are under 11 px as they are shown; letters are paths of 100 units. */
async function smallFigures() {
  const found = [];
  for (const image of document.querySelectorAll('.sideways img[src$=".svg"]')) {
    const svg = await (await fetch(image.src)).text();
    let around = Infinity;
    let least = Infinity;
    for (const [, group, within] of svg.matchAll(/<g [^>]*transform="[^"]*scale\(([\d.]+) -[\d.]+\)|<use [^>]*scale\(([\d.]+)\)/g)) {
      if (group) around = 100 * Number(group);
      if (around < Infinity) least = Math.min(least, around * Number(within ?? 1));
    }
    const size = (least * image.clientWidth) / Number(/viewBox="0 0 ([\d.]+)/.exec(svg)[1]);
    if (size < 10.95) found.push(`${image.getAttribute('src')}: ${size.toFixed(1)} px`);
  }
  return found;
}

/** The first screen moves at once; nothing else is fetched for that. */
parts.hero = async () => {
  for (const options of [desktop, phone]) {
    const { context, page, wrong } = await open(browser, address, options, () => {
      let first = null;
      const look = () => {
        const now = globalThis.pictureNow();
        if (now && first === null) first = now;
        else if (now && now !== first) return void (globalThis.movedAt = performance.now());
        requestAnimationFrame(look);
      };
      requestAnimationFrame(look);
    });
    await page.waitForFunction(() => globalThis.movedAt, null, { timeout: 20_000 }).catch(() => undefined);
    const { moved, loaded, bytes } = await page.evaluate(() => ({
      moved: globalThis.movedAt,
      loaded: performance.getEntriesByType('navigation')[0].loadEventEnd,
      bytes: performance.getEntriesByType('resource').filter((r) => !r.name.endsWith('parts.woff')).reduce((sum, r) => sum + r.encodedBodySize, 0), // a font that most machines have
    }));
    assert(moved, 'the first screen does not move');
    const late = moved - loaded;
    console.log(`the first screen moves ${late.toFixed(0)} ms after load (${loaded.toFixed(0)} ms); ${(bytes / 1000).toFixed(0)} kB before the model`);
    assert(late < (process.env.SLOW ? 5000 : 1000), `it moves ${late} ms after load`);
    assert(bytes < 400_000, `${bytes} bytes before the model`);
    const seen = await page.evaluate(() => document.querySelector('[data-hero] canvas, .playground canvas').getBoundingClientRect());
    assert(seen.top >= 0 && seen.top < options.viewport.height * 0.75, 'the picture is not on the first screen');
    await page.waitForFunction(() => [...document.querySelectorAll('.playground [name=time]')].some((time) => time.value === time.max));
    await page.waitForTimeout(200);
    await page.screenshot({ path: `${shots}/hero-${options.viewport.width}.png` });
    assert.deepEqual(wrong, []);
    await context.close();
  }
};

/** A link to a chapter lands on it, whatever loads later. */
parts.links = async () => {
  for (const options of [desktop, phone]) {
    const { width } = options.viewport;
    for (const id of ['what', 'how', 'text', 'useful', 'summary']) {
      const { context, page } = await open(browser, `${address}#${id}`, options);
      await page.waitForTimeout(1500);
      await page.waitForLoadState('networkidle');
      const apart = await page.evaluate(landed, id);
      assert(Math.abs(apart) <= 8, `#${id} lands ${apart} px off at ${width}`);
      await context.close();
    }
    const { context, page } = await open(browser, address, { ...options, reducedMotion: 'reduce' });
    for (const id of ['summary', 'what', 'useful', 'how', 'text']) {
      await page.locator(`nav a[href="#${id}"]`).first().evaluate((link) => link.click());
      await page.waitForTimeout(1200);
      const apart = await page.evaluate(landed, id);
      assert(Math.abs(apart) <= 8, `the link to #${id} lands ${apart} px off at ${width}`);
    }
    await context.close();
  }
  console.log('links land on their chapters');
};

/** How far a heading is from where a link to it should put it. */
function landed(id) {
  const heading = document.getElementById(id);
  const end = document.documentElement.scrollHeight - innerHeight;
  const wanted = Math.min(heading.getBoundingClientRect().top + scrollY - Number.parseFloat(getComputedStyle(heading).scrollMarginTop), end);
  return scrollY - wanted;
}

parts.map = async () => {
  const { context, page, wrong } = await open(browser, address, desktop);
  const map = page.locator('[data-live=atlas]');
  const canvas = map.locator('.map > canvas');
  await map.scrollIntoViewIfNeeded();
  await map.locator('[data-note]').filter({ hasText: /Point at one|no WebGL/ }).waitFor({ timeout: 30_000 });
  await canvas.evaluate((c) => scrollTo({ top: c.getBoundingClientRect().top + scrollY - 150, behavior: 'instant' }));
  const look = async () => {
    await page.mouse.move(5, 5);
    await page.waitForTimeout(900);
    const box = await canvas.boundingBox();
    return hash(await page.screenshot({ clip: { x: box.x + 250, y: box.y + 60, width: 500, height: 260 } }));
  };
  const over = async () => {
    const box = await canvas.boundingBox();
    await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  };
  const before = await look();

  // a plain wheel scrolls the page and leaves the map; Ctrl and the wheel zoom, and leave the page
  const top = await page.evaluate(() => scrollY);
  await over();
  await page.mouse.wheel(0, 120);
  await until(page, 'a hint says how to zoom', () => document.querySelector('.hint.shown'));
  await page.screenshot({ path: `${shots}/map-hint.png` });
  await until(page, 'the wheel scrolls the page', (was) => scrollY > was, top);
  await page.evaluate((to) => scrollTo({ top: to, behavior: 'instant' }), top);
  await page.waitForTimeout(1800);
  assert.equal(await look(), before, 'a plain wheel leaves the map as it was');
  await over();
  await page.keyboard.down('Control');
  await page.mouse.wheel(0, -300);
  await page.keyboard.up('Control');
  assert.notEqual(await look(), before, 'Ctrl and the wheel zoom');
  assert.equal(await page.evaluate(() => scrollY), top);
  await map.getByRole('button', { name: 'Reset' }).click();
  await page.waitForTimeout(1000);
  assert.equal(await look(), before, 'reset brings all back');
  await map.getByRole('button', { name: 'Zoom in' }).click();
  const nearer = await look();
  assert.notEqual(nearer, before, 'the button zooms in');
  await map.getByRole('button', { name: 'Zoom out' }).click();
  assert.notEqual(await look(), nearer, 'the button zooms out');

  // search
  const find = async (words) => {
    await map.locator('[name=search]').fill(words);
    await map.getByRole('button', { name: 'Find', exact: true }).click();
    await page.waitForTimeout(1500);
  };
  await find('fish');
  const first = map.locator('[data-results] button').first();
  assert.deepEqual([await first.getAttribute('data-found'), (await first.textContent()).includes('fish')], ['魚', true]);
  assert.match(await map.locator('[data-popup]').textContent(), /fish; surname.*radical 魚/);
  assert((await map.locator('[data-results] button').count()) > 20);
  await map.screenshot({ path: `${shots}/map-fish.png` });
  await find('lithium');
  await map.locator('[data-popup]').filter({ hasText: 'lithium' }).waitFor();
  await map.screenshot({ path: `${shots}/map-lithium.png` });
  const sheet = await map.locator('[data-popup] .glyph').evaluate((g) => /url\("(.*)"\)/.exec(g.style.backgroundImage)[1]);
  assert.equal(await page.evaluate(async (url) => (await fetch(url)).status, sheet), 200);
  await find('no such meaning at all');
  assert.match(await map.locator('[data-results]').textContent(), /no glyph/);

  // the legend needs no font of the reader's
  await map.locator('[name=colour]').selectOption('radical');
  await until(page, 'the radicals’ font is there', () => document.fonts.check('16px "zaozi parts"', '艸水金'));
  const legend = await map.locator('[data-legend]').textContent();
  assert.match(legend, /艸 grass/);
  assert.match(await map.locator('[data-legend]').evaluate((l) => getComputedStyle(l).fontFamily), /zaozi parts/);
  await map.getByRole('button', { name: 'Reset' }).click();
  await page.waitForTimeout(1200);
  await map.screenshot({ path: `${shots}/map-radicals.png` });
  assert.deepEqual(wrong, []);
  await context.close();

  // two fingers zoom, one finger scrolls the page
  const touch = await open(browser, address, phone);
  const small = touch.page.locator('[data-live=atlas] .map');
  await small.scrollIntoViewIfNeeded();
  await touch.page.locator('[data-live=atlas] [data-note]').filter({ hasText: /Point at one|no WebGL/ }).waitFor({ timeout: 30_000 });
  await small.evaluate((c) => scrollTo({ top: c.getBoundingClientRect().top + scrollY - 100, behavior: 'instant' }));
  await touch.page.waitForTimeout(800);
  const box = await small.boundingBox();
  const shot = async () => hash(await touch.page.screenshot({ clip: { x: box.x + 10, y: box.y + 100, width: 280, height: 300 } }));
  const wide = await shot();
  const client = await touch.context.newCDPSession(touch.page);
  const fingers = (type, apart) => {
    const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
    const touchPoints = apart ? [{ x: x - apart, y, id: 1 }, { x: x + apart, y, id: 2 }] : [];
    return client.send('Input.dispatchTouchEvent', { type, touchPoints });
  };
  await fingers('touchStart', 30);
  for (let apart = 35; apart <= 100; apart += 5) await fingers('touchMove', apart);
  await fingers('touchEnd', 0);
  await touch.page.waitForTimeout(600);
  assert.notEqual(await shot(), wide, 'two fingers zoom');
  assert.equal(await touch.page.evaluate(() => visualViewport.scale), 1);
  await touch.page.screenshot({ path: `${shots}/map-phone.png` });
  assert.deepEqual(touch.wrong, []);
  await touch.context.close();
  console.log('the map zooms on purpose, finds 魚 first and needs no fonts');
};

parts.field = async () => {
  const { context, page, wrong } = await open(browser, address, desktop, () => {
    const plain = globalThis.requestAnimationFrame.bind(globalThis);
    globalThis.costs = [];
    globalThis.requestAnimationFrame = (work) =>
      plain((now) => {
        const start = performance.now();
        work(now);
        globalThis.costs.push(performance.now() - start);
      });
    addEventListener('landed', (event) => (globalThis.ends = event.detail));
  });
  const part = page.locator('[data-live=field]');
  await part.scrollIntoViewIfNeeded();
  await page.waitForTimeout(800);
  await part.scrollIntoViewIfNeeded(); // what stands above it has taken its place
  await until(page, 'the field is drawn', () => document.querySelector('[data-live=field] output').value);
  const level = () => part.locator('[name=t]').evaluate((t) => Number(t.value));
  assert((await level()) <= 200, 'it starts where clusters are seen');
  await part.screenshot({ path: `${shots}/field-start.png` });
  await page.getByRole('button', { name: 'Drop eight points' }).click();
  await page.waitForTimeout(700);
  const early = await level();
  assert(early > 300, 'the noise comes back');
  await part.screenshot({ path: `${shots}/field-falling.png` });
  await until(page, 'the points arrive', () => globalThis.ends?.length === 8, null, 30_000);
  assert((await level()) <= 20, 'the level has run down');
  for (const [x, y] of await page.evaluate(() => globalThis.ends)) {
    const off = Math.min(...Array.from({ length: 7 }, (_, i) => Math.hypot(x - 1.6 * Math.cos((2 * Math.PI * i) / 7), y - 1.6 * Math.sin((2 * Math.PI * i) / 7))));
    assert(off < 0.32, `a point ends ${off} from its cluster`); // two standard deviations
  }
  await part.screenshot({ path: `${shots}/field-landed.png` });

  for (const [live, name, values] of [
    ['field', 't', [20, 990]],
    ['forward', 't', [0, 1000]],
    ['schedules', 'at', [1, 999]],
  ]) {
    await page.locator(`[data-live=${live}]`).scrollIntoViewIfNeeded();
    await page.waitForTimeout(600);
    const costs = await page.evaluate(
      async ({ live, name, values }) => {
        const slider = document.querySelector(`[data-live=${live}] [name=${name}]`);
        const spent = [];
        for (let i = 0; i < 40; i++) {
          slider.value = values[0] + ((values[1] - values[0]) * i) / 39;
          globalThis.costs.length = 0;
          const start = performance.now();
          slider.dispatchEvent(new Event('input', { bubbles: true }));
          const now = performance.now() - start;
          await new Promise((done) => setTimeout(done, 40));
          spent.push(now + globalThis.costs.reduce((a, b) => a + b, 0));
        }
        return spent.sort((a, b) => a - b);
      },
      { live, name, values },
    );
    console.log(`${live}: an input costs ${costs[20].toFixed(1)} ms in the middle, ${costs[39].toFixed(1)} ms at most`);
    assert(costs[20] < 16, `an input of ${live} costs ${costs[20]} ms`);
  }
  await page.locator('[data-live=forward]').screenshot({ path: `${shots}/forward.png` });
  await page.locator('[data-live=schedules]').screenshot({ path: `${shots}/schedules.png` });
  assert.deepEqual(wrong, []);
  await context.close();
};

/** What was read once can be read again without a network. */
parts.offline = async () => {
  const { context, page } = await open(browser, address, desktop);
  await until(page, 'a service worker takes over', () => navigator.serviceWorker.controller);
  await readAll(page);
  await page.locator('[data-live=atlas] [data-note]').filter({ hasText: /Point at one|no WebGL/ }).waitFor({ timeout: 30_000 });
  await page.waitForTimeout(1500);
  await context.setOffline(true);
  const wrong = [];
  page.on('pageerror', (error) => wrong.push(String(error)));
  page.on('requestfailed', (request) => !request.url().endsWith('.mp4') && wrong.push(request.url()));
  await page.reload({ waitUntil: 'load' });
  assert.match(await page.locator('h1').textContent(), /\w/);
  await readAll(page);
  await page.locator('[data-live=atlas] [data-note]').filter({ hasText: /Point at one|no WebGL/ }).waitFor({ timeout: 30_000 });
  for (const image of await page.locator('.sideways img').all()) {
    await image.scrollIntoViewIfNeeded();
    assert(await image.evaluate((i) => i.decode().then(() => i.naturalWidth > 0, () => false)), `${await image.getAttribute('src')} is not kept`);
  }
  assert.equal(await page.evaluate(() => globalThis.crossOriginIsolated), true);
  assert.deepEqual(wrong, []);
  const kept = await page.evaluate(async () => {
    const found = [];
    for (const name of await caches.keys()) if (name !== 'zaozi') found.push(...(await (await caches.open(name)).keys()).map(({ url }) => url));
    return found;
  });
  assert(!kept.some((url) => /\/model\/(?!model\.json)|\/api\//.test(url)), 'the model is not kept twice');
  await page.screenshot({ path: `${shots}/offline.png` });
  await context.close();
  console.log(`the page is read again without a network (${kept.length} files kept)`);
};

/** Any server of files will do: the second visit has threads there, and the first says that it has one. */
parts.plain = async () => {
  if (!folder) return console.log('no folder is given; a plain server is not tried');
  const types = { '.html': 'text/html', '.js': 'text/javascript', '.mjs': 'text/javascript', '.css': 'text/css', '.json': 'application/json', '.svg': 'image/svg+xml', '.wasm': 'application/wasm', '.webp': 'image/webp' };
  const server = createServer((request, response) => {
    const path = join(folder, decodeURIComponent(new URL(request.url, 'http://a').pathname).replace(/\/$/, '/index.html'));
    if (!existsSync(path) || !statSync(path).isFile()) return void response.writeHead(404).end();
    response.writeHead(200, { 'Content-Type': types[extname(path)] ?? 'application/octet-stream' });
    createReadStream(path).pipe(response);
  });
  await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
  const { context, page, wrong } = await open(browser, `http://127.0.0.1:${server.address().port}/`, desktop);
  await page.locator('.notice').filter({ hasText: 'one CPU thread' }).waitFor();
  await page.screenshot({ path: `${shots}/one-thread.png` });
  assert.equal(await page.evaluate(() => globalThis.crossOriginIsolated), false);
  await page.getByRole('button', { name: 'Reload to use all' }).click();
  await until(page, 'the second visit has threads', () => globalThis.crossOriginIsolated);
  await page.waitForTimeout(800);
  assert.equal(await page.locator('.notice').count(), 0);
  assert.deepEqual(wrong, []);
  await context.close();

  // where no service worker may run, it is said once
  const without = await open(browser, `http://127.0.0.1:${server.address().port}/`, desktop, () => {
    delete Navigator.prototype.serviceWorker;
  });
  await without.page.locator('.notice').filter({ hasText: 'one CPU thread here' }).waitFor();
  await without.page.reload();
  await without.page.waitForTimeout(3000);
  assert.equal(await without.page.locator('.notice').count(), 0, 'the notice comes again');
  await without.context.close();
  server.close();
  console.log('a server without headers has threads from the second visit on');
};

/** Everything can be reached and used without a mouse, and seen when it is reached. */
parts.keyboard = async () => {
  for (const options of [desktop, { viewport: { width: 390, height: 844 } }]) {
    const { context, page, wrong } = await open(browser, address, { ...options, reducedMotion: 'reduce' }); // which scrolls at once
    await readAll(page);
    await page.evaluate(() => scrollTo({ top: 0, behavior: 'instant' }));
    await page.keyboard.press('Tab');
    assert.equal(await page.evaluate(() => document.activeElement.className), 'skip');
    await page.screenshot({ path: `${shots}/keyboard-${options.viewport.width}.png` });
    const seen = [];
    for (let n = 0; n < 400; n++) {
      const at = await page.evaluate(() => {
        const element = document.activeElement;
        if (element === document.body) return null;
        const { top, bottom, width, height } = element.getBoundingClientRect();
        const { outlineStyle, outlineWidth } = getComputedStyle(element);
        globalThis.been ??= new Set();
        const again = globalThis.been.has(element);
        globalThis.been.add(element);
        return {
          name: `${element.tagName} ${element.getAttribute('aria-label') ?? element.textContent.trim().slice(0, 30)} ${element.name ?? ''}`,
          shown: bottom > 0 && top < innerHeight && width * height > 0,
          ring: outlineStyle !== 'none' && Number.parseFloat(outlineWidth) >= 2,
          again,
        };
      });
      if (!at || (at.again && !at.name.startsWith('VIDEO'))) break; // a film's own buttons are all the film
      assert(at.shown, `focus goes out of sight: ${at.name}`);
      assert(at.ring || /VIDEO|SELECT/.test(at.name), `focus is not seen on: ${at.name}`);
      seen.push(at.name);
      await page.keyboard.press('Tab');
      await page.waitForTimeout(15);
    }
    const text = seen.join('\n');
    for (const wanted of [/INPUT.*prompt/, /Draw/, /INPUT.*search/, /Zoom in/, /Drop eight points/, /VIDEO|BUTTON/]) assert.match(text, wanted);
    if (options.viewport.width === 390) assert.match(text, /Figure, scrolls sideways/);
    await page.locator('[data-live=atlas] [name=search]').focus();
    await page.keyboard.type('gold');
    await page.keyboard.press('Enter');
    await page.locator('[data-popup]').filter({ hasText: 'gold; metals' }).waitFor();
    if (options.viewport.width === 390) {
      await page.locator('.sideways').nth(3).focus();
      await page.keyboard.press('ArrowRight');
      await until(page, 'arrows scroll a figure', () => document.activeElement.scrollLeft > 0);
    }
    assert.deepEqual(wrong, []);
    await context.close();
    console.log(`${seen.length} stops by keyboard at ${options.viewport.width} px`);
  }
};

/** Where less motion is wanted nothing plays by itself, and films show their posters. */
parts.still = async () => {
  const { context, page, wrong } = await open(browser, address, { ...desktop, reducedMotion: 'reduce' });
  await page.waitForTimeout(1000);
  const before = await page.evaluate(picture);
  await page.waitForTimeout(1500);
  assert.equal(await page.evaluate(picture), before, 'the first screen moves');
  await readAll(page);
  const films = page.locator('video');
  await films.first().scrollIntoViewIfNeeded();
  await page.waitForTimeout(1000);
  const told = await films.evaluateAll((all) => all.map((film) => ({ paused: film.paused, poster: film.poster })));
  assert(told.length && told.every(({ paused }) => paused), 'a film plays');
  for (const { poster } of told) assert.equal(await page.evaluate(async (url) => url && (await fetch(url)).status, poster), 200, 'a film has no poster');
  await page.locator('figure', { has: films.first() }).screenshot({ path: `${shots}/posters.png` });
  await page.locator('[data-live=field]').scrollIntoViewIfNeeded();
  await page.getByRole('button', { name: 'Drop eight points' }).click();
  await page.waitForTimeout(800);
  assert((await page.locator('[data-live=field] [name=t]').inputValue()) <= 20, 'the field goes to its end at once');
  assert.deepEqual(wrong, []);
  await context.close();
  console.log('nothing moves where less motion is wanted');
};

/** A glyph as Python draws it, what can be done with it, and a link that arrives at it. */
parts.draw = async () => {
  const wanted = JSON.parse(readFileSync(golden, 'utf-8'));
  const { context, page, wrong } = await open(browser, address, desktop);
  const unfold = () => page.evaluate(() => document.querySelectorAll('details').forEach((d) => (d.open = true)));
  await unfold();
  await page.locator('[name=prompt]').fill(wanted.prompt);
  await page.locator('[name=steps]').fill(`${wanted.num_steps}`);
  await page.locator('[name=guidance]').fill(`${wanted.guidance_scale}`);
  await page.locator('[name=sampler]').selectOption(wanted.sampler);
  await page.locator('[name=seed]').fill(`${wanted.seed}`);
  const drawn = () => page.waitForFunction(() => globalThis.lastDrawn || document.querySelector('.playground [role=status].wrong'), null, { timeout: 180_000 });
  const draw = async () => {
    const start = Date.now();
    await page.evaluate(() => (globalThis.lastDrawn = null));
    await page.locator('.playground form [type=submit]').first().click();
    await drawn();
    assert(await page.evaluate(() => globalThis.lastDrawn), await page.locator('.playground [role=status]').first().textContent());
    return (Date.now() - start) / 1000;
  };
  const cold = await draw();
  const pixels = await page.evaluate(() => globalThis.lastDrawn);
  const off = Math.max(...pixels.map((v, i) => Math.abs(v - wanted.pixels[i])));
  const warm = await draw();
  console.log(`drawn by ${await page.locator('[data-engine]').textContent()}: ${off.toExponential(1)} from Python's; cold ${cold.toFixed(1)} s, warm ${warm.toFixed(1)} s`);
  assert(off < 2e-2, `the page's glyph lies ${off} from Python's`);
  if (!process.env.SLOW) {
    assert(cold < 8, `the first picture took ${cold} s`);
    assert(warm < 4, `a picture took ${warm} s`);
  }

  // what it shows, as Python says it
  const said = wanted.explanation;
  const meanings = (part) => page.locator(`[data-part=${part}] .meaning`).allTextContents();
  await page.waitForFunction((text) => document.querySelector('[data-part=radical]')?.textContent?.includes(text), said.radical.meaning);
  assert.deepEqual(await meanings('nearest'), said.nearest.slice(0, 3).map((one) => one.definition));
  assert.deepEqual(await meanings('parts'), said.parts.slice(0, 3).map((one) => one.meaning));

  // a prompt that is no example goes through the text encoder
  await page.locator('[name=prompt]').fill(wanted.typed.prompt);
  await draw();
  const typed = await page.evaluate(() => globalThis.lastDrawn);
  assert(Math.max(...typed.map((v, i) => Math.abs(v - wanted.typed.pixels[i]))) < 2e-2, 'a typed prompt is drawn otherwise than by Python');
  await page.locator('[name=prompt]').fill(wanted.prompt);
  await draw();

  // look back, pin, share
  await page.locator('.playground [name=time]').fill('2');
  assert.match((await page.locator('.playground output[for=time]').textContent()) ?? '', /step 3/);
  await page.getByRole('button', { name: 'Pin', exact: true }).click();
  assert.equal(await page.locator('[data-pins] li').count(), 1);
  await page.locator('.playground').screenshot({ path: `${shots}/playground.png` });
  await page.locator('[data-do=share]').click();
  for (const kind of ['png', 'svg', 'gif']) {
    const [download] = await Promise.all([page.waitForEvent('download'), page.locator(`[data-do=${kind}]`).click()]);
    assert(download.suggestedFilename().endsWith(kind));
  }
  const link = await page.evaluate(() => location.hash);
  assert.deepEqual(wrong, []);
  await context.close();

  // the link alone brings it all back, finished and in view
  for (const options of [desktop, phone]) {
    const again = await open(browser, address + link, options);
    assert.equal(await again.page.locator('[name=prompt]').inputValue(), wanted.prompt);
    assert.equal(await again.page.locator('[name=sampler]').inputValue(), wanted.sampler);
    await again.page.waitForFunction(() => globalThis.lastDrawn, null, { timeout: 180_000 });
    await again.page.waitForTimeout(300);
    const seen = await again.page.evaluate(() => {
      const { top, bottom } = document.querySelector('[data-hero] canvas, .playground canvas').getBoundingClientRect();
      const time = document.querySelector('.playground [name=time]');
      return { inView: top >= 0 && bottom <= innerHeight, finished: time.value === time.max };
    });
    assert.deepEqual(seen, { inView: true, finished: true });
    await again.page.screenshot({ path: `${shots}/link-${options.viewport.width}.png` });
    assert.deepEqual(again.wrong, []);
    await again.context.close();
  }
  console.log('a link arrives at the finished drawing');

  // the same glyph in two steps, by WASM and by WebGPU (a software adapter will do)
  const graphics = await launch('--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--enable-features=Vulkan');
  const made = [];
  for (const inside of [browser, graphics]) {
    const { page, wrong, context } = await open(inside, address + link.replace(/steps=\d+/, 'steps=2'));
    await page.waitForFunction(() => globalThis.lastDrawn || document.querySelector('.playground [role=status].wrong'), null, { timeout: 180_000 });
    assert.deepEqual(wrong, []);
    made.push({ pixels: await page.evaluate(() => globalThis.lastDrawn), by: await page.locator('[data-engine]').textContent() });
    assert(made.at(-1).pixels, await page.locator('.playground [role=status]').first().textContent());
    await context.close();
  }
  await graphics.close();
  const apart = Math.max(...made[0].pixels.map((v, i) => Math.abs(v - made[1].pixels[i])));
  assert.match(made[1].by, /on its GPU/);
  assert(apart < 2e-2, `WebGPU's glyph lies ${apart} from WASM's`);
  console.log(`drawn by ${made[1].by} too, ${apart.toExponential(1)} from there`);
};

/** The training loop step by step; a tiny model, trained in the page, draws what it was trained on; strokes become a character. */
parts.lab = async () => {
  const { context, page, wrong } = await open(browser, address, desktop, () => {
    addEventListener('trained', ({ detail: { drawn } }) => (globalThis.trained = [...drawn]));
    addEventListener('completed', ({ detail }) => (globalThis.completed = [...detail]));
  });
  await readAll(page);
  const network = page.locator('[data-live=parts]');
  await network.scrollIntoViewIfNeeded();
  await network.getByRole('button', { name: 'Take a short cut' }).click();
  assert.match(await network.locator('output').evaluate((output) => output.value), /^Take a short cut\. At each size/);
  await network.screenshot({ path: `${shots}/parts.png` });
  const loop = page.locator('[data-live=loop]');
  await loop.scrollIntoViewIfNeeded();
  const said = () => loop.locator('output').evaluate((output) => output.value);
  assert.match(await said(), /^1 of 7.*caption/);
  for (let i = 0; i < 5; i++) await loop.getByRole('button', { name: 'Next' }).click();
  assert.match(await said(), /the loss is \d\.\d{3}/);
  assert.equal(await loop.locator('.later').count(), 0, 'all pictures of a step are shown');
  await loop.screenshot({ path: `${shots}/loop.png` });
  const first = await loop.locator('[data-of=x0]').getAttribute('src');
  for (let i = 0; i < 2; i++) await loop.getByRole('button', { name: 'Next' }).click();
  assert.match(await said(), /^1 of 7/);
  assert.notEqual(await loop.locator('[data-of=x0]').getAttribute('src'), first, 'then comes the next glyph');
  const guided = page.locator('[data-live=guided]');
  await guided.scrollIntoViewIfNeeded();
  const shown = () => guided.locator('canvas').evaluate((canvas) => canvas.toDataURL());
  assert.match(await guided.locator('output').evaluate((output) => output.value), /^Scale 5: /);
  const usual = await shown();
  await guided.locator('[name=scale]').fill('0');
  assert.match(await guided.locator('output').evaluate((output) => output.value), /^Scale 0: the text is ignored/);
  assert.notEqual(await shown(), usual);
  await guided.screenshot({ path: `${shots}/guided.png` });
  const towers = page.locator('[data-live=contrast]');
  await towers.scrollIntoViewIfNeeded();
  await towers.locator('select').selectOption({ index: 3 });
  const scores = await towers.locator('li span').allTextContents();
  assert.deepEqual(scores, [...scores].sort((a, b) => b - a), 'the best fitting first');
  await towers.getByRole('button').first().click();
  assert.match(await towers.locator('output').evaluate((output) => output.value), /^This character fits “/);
  await towers.screenshot({ path: `${shots}/contrast.png` });
  const lab = page.locator('[data-live=training]');
  await lab.scrollIntoViewIfNeeded();
  await lab.locator('[name=shape]').selectOption('ring');
  await lab.getByRole('button', { name: 'Train' }).click();
  await page.waitForFunction(() => globalThis.trained, null, { timeout: 120_000 });
  await lab.screenshot({ path: `${shots}/training.png` });
  const off = await page.evaluate(() => {
    const far = [];
    for (let i = 0; i < globalThis.trained.length; i += 2) far.push(Math.abs(Math.hypot(globalThis.trained[i], globalThis.trained[i + 1]) - 1.2));
    return far.reduce((a, b) => a + b) / far.length;
  });
  assert(off < 0.12, `the drawn points lie ${off} from the ring`);
  const square = await lab.locator('canvas').boundingBox();
  await page.mouse.move(square.x + 100, square.y + 100);
  await page.mouse.down();
  await page.mouse.move(square.x + 200, square.y + 200, { steps: 5 });
  await page.mouse.up();
  await lab.getByRole('button', { name: 'Train' }).click();
  await until(page, 'points of the reader are learned', () => /step \d{3}/.test(document.querySelector('[data-live=training] output').value), null, 60_000);
  await lab.getByRole('button', { name: 'Stop' }).click();

  const sheet = page.locator('[data-live=strokes]');
  await sheet.scrollIntoViewIfNeeded();
  const paper = () => page.evaluate(() => {
    const { data } = document.querySelector('[data-view=paper]').getContext('2d').getImageData(0, 0, 128, 128);
    return Array.from({ length: 128 * 128 }, (_, i) => data[4 * i] / 127.5 - 1);
  });
  await sheet.locator('[data-view=paper]').scrollIntoViewIfNeeded();
  const box = await sheet.locator('[data-view=paper]').boundingBox();
  const before = await paper();
  await page.mouse.move(box.x + 0.6 * box.width, box.y + 0.4 * box.height);
  await page.mouse.down();
  await page.mouse.move(box.x + 0.6 * box.width, box.y + 0.9 * box.height, { steps: 4 });
  await page.mouse.up();
  const drawn = await paper();
  assert(drawn.some((v, i) => v < before[i]), 'the pointer draws');
  await sheet.getByRole('button', { name: 'Complete' }).click();
  await page.waitForFunction(() => globalThis.completed, null, { timeout: 180_000 });
  await sheet.screenshot({ path: `${shots}/strokes.png` });
  const made = await page.evaluate(() => globalThis.completed);
  const ink = (values) => values.map((v) => (1 - v) / 2);
  const sum = (values) => values.reduce((a, b) => a + b, 0);
  const [a, b] = [ink(drawn), ink(made)];
  assert(sum(b) > 1.2 * sum(a), 'nothing was added');
  assert(sum(a.map((v, i) => v * b[i])) > 0.4 * sum(a), 'the strokes are lost');
  assert.deepEqual(wrong, []);
  await context.close();
  console.log(`a tiny model, trained in the page: ${off.toFixed(3)} from the ring; strokes completed`);
};

/** The Chinese page, by its link, with the same live model; and back. */
parts.chinese = async () => {
  const { context, page, wrong } = await open(browser, address, desktop);
  await page.getByRole('link', { name: '中文' }).click();
  await until(page, 'the page is Chinese', () => document.documentElement.lang === 'zh-Hans');
  await page.locator('[name=prompt]').fill('water');
  await page.locator('.playground form [type=submit]').first().click();
  await until(page, 'it draws, and says so', () => /^用时/.test(document.querySelector('.playground [role=status]').textContent), null, 180_000);
  await page.screenshot({ path: `${shots}/chinese.png` });
  await page.getByRole('link', { name: 'English' }).click();
  await until(page, 'the page is English again', () => document.documentElement.lang === 'en');
  assert.deepEqual(wrong, []);
  await context.close();
};

/** While a prompt is typed, sketches follow it, and the page stays at hand; with a quick model they come sooner. */
parts.typing = async () => {
  const { context, page, wrong } = await open(browser, address, desktop, () => {
    globalThis.seen = [];
    globalThis.long = [];
    const after = (kind) => (event) => {
      const at = performance.now();
      if (kind === 'key') globalThis.seen.push({ kind, at, prompt: event.target.value });
      else requestAnimationFrame(() => globalThis.seen.push({ kind, at: performance.now(), prompt: event.detail }));
    };
    addEventListener('input', after('key'), true);
    addEventListener('sketched', after('sketch'));
    new PerformanceObserver((list) => globalThis.long.push(...list.getEntries().map(({ duration }) => duration))).observe({ type: 'longtask' });
  });
  const { quick } = await page.evaluate(async () => (await fetch('model/model.json')).json());
  const prompt = page.locator('[name=prompt]');
  const rested = () => until(page, 'all seeds are drawn', () => !document.querySelector('.playground.busy'), null, 180_000);
  await prompt.fill('a river of stars');
  await page.locator('.playground form [type=submit]').first().click();
  await page.waitForFunction(() => globalThis.lastDrawn, null, { timeout: 180_000 });
  await rested();
  if (quick) await page.waitForTimeout(3000); // it follows after the first drawing
  const middle = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];
  const [first, last, whole, long] = [[], [], [], []];
  for (const words of ['snow', 'a loud bell', 'old horse', 'paper boat', 'green jade']) {
    await prompt.fill('');
    await page.waitForTimeout(1500);
    await page.evaluate(() => {
      globalThis.seen = [];
      globalThis.long = [];
      globalThis.lastDrawn = null;
    });
    await prompt.pressSequentially(words, { delay: 120 });
    await until(page, 'the whole prompt is sketched', (typed) => globalThis.seen.some(({ kind, prompt }) => kind === 'sketch' && prompt === typed), words, 60_000);
    await page.waitForFunction(() => globalThis.lastDrawn, null, { timeout: 180_000 });
    const made = await page.evaluate(() => ({ seen: globalThis.seen, long: globalThis.long }));
    const keys = made.seen.filter(({ kind }) => kind === 'key');
    const sketches = made.seen.filter(({ kind }) => kind === 'sketch');
    first.push(sketches[0].at - keys[0].at);
    last.push(sketches.find((one) => one.prompt === words).at - keys.at(-1).at);
    whole.push(1000 * Number(/in ([0-9.]+) s/.exec(await page.locator('.playground [role=status]').first().textContent())[1]));
    long.push(Math.max(0, ...made.long));
    await rested();
  }
  console.log(
    `typing${quick ? `, sketched by ${quick.name}` : ''}: a sketch ${middle(first).toFixed(0)} ms after the first key and ${middle(last).toFixed(0)} ms after the last, ` +
      `${(middle(first) / middle(whole)).toFixed(2)} of the time of the whole drawing (${middle(whole).toFixed(0)} ms); longest task ${Math.max(...long).toFixed(0)} ms`,
  );
  if (!process.env.SLOW) {
    assert(middle(first) <= (quick ? 150 : 400), `the first sketch comes ${middle(first)} ms after the first key`);
    assert(Math.max(...long) <= 50, `a task takes ${Math.max(...long)} ms while typing`);
  }
  assert.deepEqual(wrong, []);
  await context.close();
};

const only = process.env.ONLY?.split(',') ?? Object.keys(parts);
for (const name of only) await parts[name]();
await browser.close();
