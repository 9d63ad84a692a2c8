/** The page in another language: what there is to translate in it, and the page with its translations. */

import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { type DefaultTreeAdapterTypes as Tree, parse } from 'parse5';
import type { Plugin } from 'vite';

/** The strings of one language, by their English form. */
export interface Catalogue {
  /** Text and attributes of index.html, with the markup and the formulas in it. */
  page: Record<string, string>;
  /** What the scripts say, `t('…')`; {1} stands for the first value. */
  script: Record<string, string>;
  /** What the model calls things: structures. */
  names: Record<string, string>;
  /** Captions of the figures; {1} stands for the first number. */
  figures: Record<string, string>;
  /** Terms and meanings of the glossary. */
  glossary: Record<string, string>;
}

export interface Unit {
  text: string;
  start: number;
  end: number;
}

const INLINE = new Set(['a', 'b', 'br', 'code', 'dfn', 'em', 'i', 'small', 'span', 'strong', 'sub', 'sup']);
const SKIPPED = new Set(['script', 'style', 'pre']);
const ATTRIBUTES = ['alt', 'aria-label', 'data-says', 'data-shows', 'placeholder', 'title'];
const META = new Set(['description', 'og:title', 'og:description', 'og:image:alt']);
const NUMBER = /\d+(?:[.,]\d+)*%?/g;

export const plain = (text: string) => text.replace(/\s+/g, ' ').trim();
const says = (text: string) => /[A-Za-z]{2}/.test(text.replace(/<[^>]*>|\$[^$]*\$/g, ''));

/** A caption with {1}, {2}, ... in place of its numbers, and the numbers. */
export function withoutNumbers(text: string): [string, string[]] {
  const numbers: string[] = [];
  return [text.replace(NUMBER, (number) => `{${numbers.push(number)}}`), numbers];
}

/** `{1}` becomes the first value. */
export const filled = (text: string, values: readonly unknown[]) => text.replace(/\{(\d+)\}/g, (_, i: string) => `${values[Number(i) - 1]}`);

/** Everything in a page that has words: paragraphs with the markup in them, other pieces of text, and attributes. */
export function units(html: string): Unit[] {
  const found: Unit[] = [];
  const add = (start: number, end: number) => {
    const text = html.slice(start, end);
    if (says(text)) found.push({ text: plain(text), start: start + text.search(/\S/), end: start + text.trimEnd().length });
  };
  const isInline = (node: Tree.ChildNode): boolean =>
    !('tagName' in node) || (INLINE.has(node.tagName) && !node.attrs.some(({ name }) => name.startsWith('data-')) && node.childNodes.every(isInline));
  const attributes = (element: Tree.Element) => {
    const named = element.attrs.find(({ name }) => name === 'name' || name === 'property')?.value;
    for (const { name } of element.attrs) {
      if (!ATTRIBUTES.includes(name) && !(element.tagName === 'meta' && name === 'content' && META.has(`${named}`))) continue;
      const at = element.sourceCodeLocation?.attrs?.[name];
      if (at) add(at.startOffset + name.length + 2, at.endOffset - 1);
    }
  };
  const visit = (node: Tree.Node) => {
    if ('tagName' in node) {
      if (SKIPPED.has(node.tagName)) return;
      attributes(node);
    }
    const children = 'content' in node ? node.content.childNodes : 'childNodes' in node ? node.childNodes : [];
    const hasText = children.some((child) => child.nodeName === '#text' && /\S/.test((child as Tree.TextNode).value));
    const at = 'tagName' in node ? node.sourceCodeLocation : null;
    if (hasText && at?.startTag && at.endTag && children.every(isInline)) {
      add(at.startTag.endOffset, at.endTag.startOffset);
      return;
    }
    for (const child of children) {
      const where = child.sourceCodeLocation;
      if (child.nodeName === '#text' && where) add(where.startOffset, where.endOffset);
      else visit(child);
    }
  };
  visit(parse(html, { sourceCodeLocationInfo: true }));
  return found;
}

/** The page with every unit replaced. Raises an error for a unit that the catalogue lacks. */
export function translated(html: string, page: Record<string, string>): string {
  let made = html;
  for (const { text, start, end } of units(html).sort((a, b) => b.start - a.start)) {
    if (!(text in page)) throw new Error(`the catalogue lacks: ${text}`);
    made = made.slice(0, start) + page[text] + made.slice(end);
  }
  return made;
}

const ENGLISH = '<a href="./" hreflang="en" lang="en" data-language>English</a>';
const LANGUAGES: Record<string, { lang: string; file: string }> = { 'zh.html': { lang: 'zh-Hans', file: 'zh.json' } };

export const catalogue = (file: string): Catalogue =>
  JSON.parse(readFileSync(resolve(import.meta.dirname, '../strings', file), 'utf-8'));

/** The catalogue of a page, by its language; none for English. */
export function spoken(html: string): Catalogue | null {
  const lang = /<html lang="([^"]+)"/.exec(html)?.[1];
  const known = Object.values(LANGUAGES).find((one) => one.lang === lang);
  return known ? catalogue(known.file) : null;
}

/** zh.html becomes index.html in Chinese, before anything else is done to it. */
export function language(): Plugin {
  return {
    name: 'language',
    transformIndexHtml: {
      order: 'pre',
      handler(html, { filename }) {
        const known = LANGUAGES[filename.split('/').pop() as string];
        if (!known) return html;
        const { page, script, names } = catalogue(known.file);
        const english = readFileSync(resolve(import.meta.dirname, '../index.html'), 'utf-8');
        const strings = `<script type="application/json" id="strings">${JSON.stringify({ ...script, ...names }).replaceAll('<', '\\u003c')}</script>`;
        return translated(english, page)
          .replace('<html lang="en"', `<html lang="${known.lang}"`)
          .replace(/<a [^>]*data-language>[^<]*<\/a>/, ENGLISH)
          .replace('</head>', `  ${strings}\n  </head>`);
      },
    },
  };
}
