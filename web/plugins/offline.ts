/** The service worker of a build: it knows the build's scripts and style sheets, and a new build is a new version. */

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Plugin } from 'vite';

export function offline(): Plugin {
  return {
    name: 'offline',
    apply: 'build',
    generateBundle: {
      order: 'post',
      handler(_, bundle) {
        const source = readFileSync(resolve(import.meta.dirname, '../src/sw.js'), 'utf-8');
        const hash = createHash('sha256').update(source);
        const names = Object.keys(bundle).sort();
        for (const name of names) {
          const part = bundle[name];
          hash.update(name).update(part.type === 'chunk' ? part.code : part.source);
        }
        const files = ['./', ...names.filter((name) => /^assets\/.*\.(js|css)$/.test(name))];
        const made = source.replace('__VERSION__', hash.digest('hex').slice(0, 16)).replace('__FILES__', JSON.stringify(files));
        this.emitFile({ type: 'asset', fileName: 'sw.js', source: made });
      },
    },
  };
}
