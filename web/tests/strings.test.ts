import { readFileSync, readdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { catalogue, translated, units, withoutNumbers } from '../plugins/language';
import { CODE, glossary } from '../plugins/words';

const root = resolve(import.meta.dirname, '..');
const page = readFileSync(resolve(root, 'index.html'), 'utf-8');
const zh = catalogue('zh.json');
const scripts = readdirSync(resolve(root, 'src'), { recursive: true, encoding: 'utf-8' })
  .filter((name) => name.endsWith('.ts'))
  .map((name) => ({ name, code: readFileSync(resolve(root, 'src', name), 'utf-8') }));
const index: Record<string, { caption: string }> = JSON.parse(
  readFileSync(resolve(root, '../src/zaozi/guide/site/figures/index.json'), 'utf-8'),
);

/** Markup, formulas and counts of a text, sorted. */
const marks = (text: string) => (text.match(/<[^>]+>|\$[^$]*\$|\{\{\w+\}\}/g) ?? []).sort();
const places = (text: string) => [...new Set(text.match(/\{\d+\}/g))].sort();

describe('the Chinese catalogue', () => {
  test('has every text of the page, and no other', () => {
    expect(Object.keys(zh.page).sort()).toEqual([...new Set([CODE, ...units(page).map(({ text }) => text)])].sort());
  });

  test('has everything that the scripts say, and no other', () => {
    const said = scripts.flatMap(({ code }) => [...code.matchAll(/\btr\(\s*'((?:[^'\\]|\\.)*)'/g)].map(([, text]) => text));
    expect(Object.keys(zh.script).sort()).toEqual([...new Set(said)].sort());
  });

  test('has every caption and every term, and no other', () => {
    const captions = Object.values(index).map(({ caption }) => withoutNumbers(caption)[0]);
    expect(Object.keys(zh.figures).sort()).toEqual([...new Set(captions)].sort());
    expect(Object.keys(zh.glossary).sort()).toEqual(glossary().flatMap(({ term, meaning }) => [term, meaning]).sort());
  });

  test('keeps markup, formulas, counts and values', () => {
    for (const [english, chinese] of Object.entries(zh.page)) expect(marks(chinese), english).toEqual(marks(english));
    for (const [english, chinese] of Object.entries({ ...zh.script, ...zh.figures })) expect(places(chinese), english).toEqual(places(english));
  });

  test('leaves the structure of the page as it is', () => {
    const tags = (html: string) => html.match(/<[a-z][^\s>]*/g);
    expect(tags(translated(page, zh.page))).toEqual(tags(page));
  });

  test('is asked for whatever a script shows', () => {
    const shown = /(?:textContent = |output\.value = |\bsay\(|\btell\(|\boffer\(|\bcaption\(|'aria-label', |'aria-valuetext', )['`][^'`]*[a-z]{2} [a-z]{2}.*/g;
    for (const { name, code } of scripts) expect(code.match(shown) ?? [], name).toEqual([]);
  });
});
