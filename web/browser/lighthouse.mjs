// Lighthouse against the served guide, on a phone and on a desktop: the median of three runs of each must reach 95 in every category.
// Usage: node browser/lighthouse.mjs SITE_URL REPORTS/ [RUNS]
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { launch } from 'chrome-launcher';
import lighthouse, { desktopConfig } from 'lighthouse';

const [address, reports, runs = '3'] = process.argv.slice(2);
const CATEGORIES = ['performance', 'accessibility', 'best-practices', 'seo'];
const LEAST = 95;
mkdirSync(reports, { recursive: true });

/** One run; now and then Chromium's trace is cut off, and it is done again. */
async function run(config, tries = 3) {
  const chrome = await launch({
    chromePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    chromeFlags: ['--headless', '--no-sandbox', '--disable-background-networking'],
  });
  try {
    const made = await lighthouse(address, { port: chrome.port, output: ['html', 'json'], onlyCategories: CATEGORIES, logLevel: 'error' }, config);
    if (!made.lhr.runtimeError || tries === 1) return made;
  } finally {
    chrome.kill();
  }
  return run(config, tries - 1);
}

const low = [];
for (const [device, config] of [
  ['mobile', undefined],
  ['desktop', desktopConfig],
]) {
  const made = [];
  for (let n = 0; n < Number(runs); n++) made.push(await run(config));
  made.sort((a, b) => a.lhr.categories.performance.score - b.lhr.categories.performance.score);
  const { lhr, report } = made[Math.floor(made.length / 2)];
  writeFileSync(`${reports}/lighthouse-${device}.html`, report[0]);
  writeFileSync(`${reports}/lighthouse-${device}.json`, report[1]);
  const scores = CATEGORIES.map((name) => [name, Math.round(100 * lhr.categories[name].score)]);
  console.log(`${device}: ${scores.map(([name, score]) => `${name} ${score}`).join(', ')}`);
  for (const [name, score] of scores) {
    if (score >= LEAST) continue;
    low.push(`${device} ${name} ${score}`);
    for (const { id, weight } of lhr.categories[name].auditRefs) {
      const { score: part, displayValue = '' } = lhr.audits[id];
      if (part !== null && part < 0.9) console.log(`  ${id} (weight ${weight}): ${part} ${displayValue}`);
    }
  }
}
assert.deepEqual(low, [], `under ${LEAST}`);
