/** What the page says of its figures comes from the figures themselves, while the page is built. */

import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Plugin } from 'vite';
import { type Catalogue, filled, spoken, withoutNumbers } from './language.ts';

const LEGIBLE = 11; // px, the smallest text on a phone
const BROAD = 768; // px; up to that width of the window, such a figure scrolls
const PIXELS = (9 / 72) * 150; // of the smallest text in a picture of pixels: 9 points at 150 dots an inch

export interface Figure {
  file: string;
  width: number;
  height: number;
  caption?: string;
  poster?: string; // of a film
  least: number; // the width in px at which its smallest text is LEGIBLE
}

/** The figures that ship with the package. */
export function figures(root: string): (name: string) => Figure {
  const site = resolve(root, 'src/zaozi/guide/site/figures');
  const index = resolve(site, 'index.json');
  const known: Record<string, Omit<Figure, 'least'>> = JSON.parse(readFileSync(index, 'utf-8'));
  return (name) => {
    const figure = known[name];
    if (!figure) throw new Error(`${index} has no figure '${name}'; run: make figures`);
    if (!figure.file.endsWith('.svg')) return { ...figure, least: Math.ceil((LEGIBLE / PIXELS) * figure.width) };
    const svg = readFileSync(resolve(site, figure.file), 'utf-8');
    return { ...figure, least: Math.ceil((LEGIBLE / smallestText(svg)) * Number(/viewBox="0 0 ([\d.]+)/.exec(svg)?.[1])) };
  };
}

/** The smallest letters in an SVG of matplotlib's, whose letters are paths of 100 units, in units of its viewBox. */
export function smallestText(svg: string): number {
  let size = Infinity;
  let around = Infinity;
  for (const [, group, within] of svg.matchAll(/<g [^>]*transform="[^"]*scale\(([\d.]+) -[\d.]+\)|<use [^>]*scale\(([\d.]+)\)/g)) {
    if (group) around = 100 * Number(group);
    if (Number.isFinite(around)) size = Math.min(size, around * Number(within ?? 1));
  }
  return size;
}

/**
 * Pictures say how large they are, so that the text does not jump, and how wide they must be to be legible; each is in a box that
 * scrolls where the window is narrower. Captions are those that the figures' own code gives, unless marked data-own.
 */
export function illustrated(root: string): Plugin {
  return {
    name: 'illustrated',
    transformIndexHtml: {
      order: 'pre',
      handler(html) {
        const find = figures(root);
        const said = spoken(html);
        const filmed = html.replace(/<video ([^>]*)src="figures\/([^"]+)\.mp4"/g, (whole, rest: string, name: string) => {
          const { width, height, poster } = find(name);
          return poster ? `<video ${rest}width="${width}" height="${height}" data-poster="figures/${poster}" src="figures/${name}.mp4"` : whole;
        });
        return filmed.replace(
          /<figure><img loading="lazy" src="figures\/([^"]+)\.png" alt="([^"]*)" \/><figcaption( data-own)?>([\s\S]*?)<\/figcaption>/g,
          (_, name: string, alt: string, own: string | undefined, words: string) => {
            const { file, width, height, least, caption } = find(name);
            const kind = file.endsWith('.svg') ? 'drawing' : 'photo';
            const picture = `<img loading="lazy" decoding="async" class="${kind}" src="figures/${file}" width="${Math.round(width)}" height="${Math.round(height)}" alt="${alt}" />`;
            return `<figure style="--least: ${least}px"><div class="sideways${least > BROAD ? ' broad' : ''}">${picture}</div><figcaption>${own || !caption ? words : escaped(captioned(caption, said))}</figcaption>`;
          },
        );
      },
    },
  };
}

/** A caption in the language of the page; its numbers stay. Raises an error for one that the catalogue lacks. */
export function captioned(caption: string, said: Catalogue | null): string {
  if (!said) return caption;
  const [text, numbers] = withoutNumbers(caption);
  if (!(text in said.figures)) throw new Error(`the catalogue lacks: ${text}`);
  return filled(said.figures[text], numbers);
}

const escaped = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
