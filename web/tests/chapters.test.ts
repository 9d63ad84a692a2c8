import { describe, expect, test } from 'vitest';
import { smallestText } from '../plugins/figures';
import { densityOnGrid } from '../src/chapters/density';
import { meaning, search, senses } from '../src/chapters/search';
import { logDensity } from '../src/diffusion/mixture';
import { schedule } from '../src/diffusion/schedules';

describe('the map finds', () => {
  const rows = [
    ['䏸', 'fish, eyes of the fishes', '肉'],
    ['䰻', '(same as 漁) to catch fish, to fish, to seize', '魚'],
    ['鯈', 'fish', '魚'],
    ['罱', 'fishing net', '网'],
    ['魚', 'fish; surname; KangXi radical 195', '魚'],
    ['鱗', 'fish scales', '魚'],
    ['䱃', 'a fish', '魚'],
    ['釣', 'fish; fishhook; tempt, lure', '金'],
    ['鮓', 'minced and salted fish', '魚'],
    ['金', 'gold; metals in general; money', '金'],
  ];
  const [characters, texts, radicals] = [0, 1, 2].map((k) => rows.map((row) => row[k]));
  const found = (words: string) => search(words, { characters, texts, radicals }).map((i) => characters[i]);

  test('a radical first when it is asked for by name', () => {
    expect(found('fish')).toEqual(['魚', '鯈', '䱃', '䏸', '釣', '鱗', '䰻', '鮓']);
    expect(found(' Fish ')[0]).toBe('魚');
    expect(found('gold')).toEqual(['金']);
  });
  test('a character by itself, and what mentions it', () => expect(found('漁')).toEqual(['䰻']));
  test('the exact character before all others', () => expect(found('釣')).toEqual(['釣']));
  test('words that begin so where no whole word does', () => {
    expect(found('fishi')).toEqual(['罱']);
    expect(found('metal')).toEqual(['金']);
  });
  test('nothing for nothing, and no pattern in what is typed', () => {
    expect(found('  ')).toEqual([]);
    expect(found('.*')).toEqual([]);
    expect(found('(same')).toEqual(['䰻']);
  });
  test('senses without brackets', () => {
    expect(senses('(same as 漁) to catch fish, to seize; (Cant.) net')).toEqual(['to catch fish', 'to seize', 'net']);
    expect(meaning('金', { characters, texts, radicals })).toBe('gold');
    expect(meaning('水', { characters, texts, radicals })).toBe('');
  });
});

test('the fast density is the mixture’s', () => {
  const mixture = [
    { mean: [1, 0.5], std: 0.2, weight: 0.25 },
    { mean: [-0.5, -1], std: 0.2, weight: 0.75 },
  ];
  for (const t of [20, 300, 900]) {
    const level = schedule('cosine').level(t);
    const fast = densityOnGrid(mixture, level, 9, 3);
    const centre = (i: number) => ((2 * (i + 0.5)) / 9 - 1) * 3;
    const slow = Array.from(fast, (_, i) => Math.exp(logDensity(mixture, [centre(i % 9), -centre(Math.floor(i / 9))], level)));
    const top = Math.max(...slow);
    slow.forEach((v, i) => expect(fast[i]).toBeCloseTo(v / top, 10));
  }
});

test('the smallest letters of a figure, subscripts too', () => {
  const svg = `<path transform="scale(0.015625)"/><g style="fill: #222222" transform="translate(1 2) scale(0.09 -0.09)"><use xlink:href="#x"/>
    <use xlink:href="#t" transform="translate(59 -16) scale(0.7)"/></g><g transform="rotate(-90) scale(0.08 -0.08)"/>`;
  expect(smallestText(svg)).toBeCloseTo(6.3, 10);
  expect(smallestText('<svg/>')).toBe(Infinity);
});
