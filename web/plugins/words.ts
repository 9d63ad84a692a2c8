/** The page's folds of code, from the library itself, and its glossary, from one list of terms. */

import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Plugin } from 'vite';
import { spoken } from './language.ts';

export interface Term {
  id: string; // of its definition in the text
  term: string;
  meaning: string;
  /** How the term appears in the text, where that is more than its name; none for words that also have a common meaning. */
  forms?: string[];
}

const read = <T>(name: string): T => JSON.parse(readFileSync(resolve(import.meta.dirname, '..', name), 'utf-8'));
const escaped = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('$', '&#36;');

/** Above a fold of code. */
export const CODE = 'Show me the code';

export const glossary = (): Term[] => read('glossary.json');

/** code.json is written by `make web` (tools/page_code.py). */
export function words(): Plugin {
  return {
    name: 'words',
    transformIndexHtml: {
      order: 'pre',
      handler(html) {
        const known = read<Record<string, { file: string; code: string }>>('code.json');
        const said = spoken(html);
        const coded = html.replace(/<details class="code" data-code="([^"]+)"><\/details>/g, (_, name: string) => {
          const found = known[name];
          if (!found) throw new Error(`code.json has no '${name}'; run: make web`);
          return `<details class="code"><summary>${said?.page[CODE] ?? CODE}</summary><p><code>${found.file}</code></p><pre tabindex="0">${escaped(found.code)}</pre></details>`;
        });
        const list = glossary()
          .sort((a, b) => a.term.localeCompare(b.term, 'en', { sensitivity: 'base' }))
          .map(({ id, term, meaning }) => ({ id, term: said?.glossary[term] ?? term, meaning: said?.glossary[meaning] ?? meaning }))
          .map(({ id, term, meaning }) => `<div><dt><a href="#${id}">${term}</a></dt><dd>${meaning}</dd></div>`);
        return coded.replace('<dl data-glossary></dl>', `<dl class="glossary">${list.join('')}</dl>`);
      },
    },
  };
}
