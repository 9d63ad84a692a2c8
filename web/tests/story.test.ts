import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { illustrated } from '../plugins/figures';
import { glossary } from '../plugins/words';

const page = readFileSync(resolve(import.meta.dirname, '../index.html'), 'utf-8');
const root = resolve(import.meta.dirname, '../..');
/** The page as it is read: with the figures' own captions. */
const { handler } = illustrated(root).transformIndexHtml as { handler: (html: string) => string };
const read = handler(page);
/** The text of the chapters. The playground before them has its own words, which it shows where they are used. */
const chapters = read.slice(read.indexOf('<h2 id="what"'), read.indexOf('<h3 id="glossary"'));
const blank = (text: string) => ' '.repeat(text.length);
/** Without markup and headings, which announce what follows; they keep their place as blanks. */
const plain = chapters.replace(/<(script|template|h2|h3)[\s\S]*?<\/\1>|<[^>]*>/g, blank);

/** Symbols, and where the text says what they are. */
const SYMBOLS: [string, RegExp, RegExp][] = [
  ['x_0', /\bx_0\b/, /first picture, \$x_0\$, is clean/],
  ['x_t', /\bx_t\b/, /\$x_t\$ is the picture after \$t\$\s+steps/],
  ['T', /\$T\$|x_T/, /the last step, number \$T\$/],
  ['epsilon', /\\varepsilon/, /\$\\varepsilon\$ \(epsilon\) is a sample/],
  ['N', /\\mathcal N/, /The Gaussian itself is written\s+\$\\mathcal N\(m, \\sigma\^2\)\$/],
  ['beta', /\\beta/, /\$\\beta_t\$ \(beta\) is a small\s+number/],
  ['alpha', /\\alpha/, /\$\\alpha_t\$ \(alpha\) says how much of the picture is left/],
  ['sigma_t', /\\sigma_t/, /\$\\sigma_t\$ how loud the noise is/],
  ['theta', /\\theta/, /\$\\theta\$ \(theta\) stands for all of them/],
  ['bar', /\\mid/, /Read the bar as “given”/],
  ['E', /\\mathbb E/, /\$\\mathbb E\$ the mean over/],
  ['c', /\$c\$/, /\$c\$ the\s+caption/],
  ['s', /\$s\$/, /\$s\$ the scale/],
  ['hat', /\\hat/, /The hat marks a guess/],
  ['nabla', /\\nabla/, /is \$\\nabla \\log q_t\(x\)\$, the slope of the logarithm/],
];

describe('the story', () => {
  test('is long enough to explain, and short enough to be read in half an hour', () => {
    const count = plain.split(/\s+/).filter(Boolean).length;
    expect(count).toBeGreaterThan(4000);
    expect(count).toBeLessThan(6000);
  });

  test.each(glossary())('defines $term before it uses it', ({ id, term, forms = [term] }) => {
    const defined = chapters.indexOf(`<dfn id="${id}">`);
    expect(defined, `no <dfn id="${id}">`).toBeGreaterThan(0);
    expect(chapters.indexOf(`<dfn id="${id}">`, defined + 1), 'defined twice').toBe(-1);
    for (const form of forms) {
      const first = plain.search(new RegExp(`(?<![\\w-])${form.replace(/\s+/g, '\\s+')}(?![\\w-])`, 'i'));
      if (first >= 0) expect(first, `“${plain.slice(first - 60, first + 40).replace(/\s+/g, ' ')}”`).toBeGreaterThanOrEqual(defined);
    }
  });

  test('has every definition in the glossary', () => {
    const defined = [...page.matchAll(/<dfn id="([^"]+)">/g)].map(([, id]) => id);
    expect(defined.sort()).toEqual(glossary().map(({ id }) => id).sort());
  });

  test.each(SYMBOLS)('says what %s is where it first uses it', (_, used, said) => {
    const paragraph = (at: number) => Math.max(chapters.lastIndexOf('<p', at), chapters.lastIndexOf('$$', at - 2));
    const [first, explained] = [chapters.search(used), chapters.search(said)];
    expect(first).toBeGreaterThan(0);
    expect(explained, 'nowhere').toBeGreaterThan(0);
    const next = chapters.indexOf('</p>', chapters.indexOf('<p', paragraph(first) + 1));
    expect(explained, `used in “${chapters.slice(first - 60, first + 60)}”`).toBeLessThan(next);
  });

  test('ends each chapter with something to do, and what to remember', () => {
    for (const chapter of chapters.split('<section class="chapter"').slice(0, 4)) {
      expect(chapter).toContain('class="takeaway"');
      expect(chapter).toContain('class="check"');
    }
  });
});
