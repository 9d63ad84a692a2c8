import { copyFileSync, mkdirSync, readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { resolve } from 'node:path';
import katex from 'katex';
import { type Plugin, defineConfig } from 'vite';
import { illustrated } from './plugins/figures.ts';
import { inlined } from './plugins/inlined.ts';
import { language } from './plugins/language.ts';
import { offline } from './plugins/offline.ts';
import { words } from './plugins/words.ts';

/** Formulas between dollar signs become HTML while the page is built, so that readers load no typesetter. */
function formulas(): Plugin {
  const typeset = (tex: string, displayMode: boolean) =>
    katex.renderToString(tex.replaceAll('&lt;', '<').replaceAll('&amp;', '&'), { displayMode, throwOnError: true });
  return {
    name: 'formulas',
    transformIndexHtml: {
      order: 'pre',
      handler: (html) =>
        html
          .replace(/\$\$([^$]+)\$\$/g, (_, tex: string) => `<div class="formula">${typeset(tex, true)}</div>`)
          .replace(/\$([^$\n]+)\$/g, (_, tex: string) => typeset(tex, false)),
    },
  };
}

/** Numbers between double braces are counted in the glyphs themselves: counts.json, which `make web` writes. */
function counts(): Plugin {
  const known: Record<string, number> = JSON.parse(readFileSync(resolve(import.meta.dirname, 'counts.json'), 'utf-8'));
  return {
    name: 'counts',
    transformIndexHtml: {
      order: 'pre',
      handler: (html) =>
        html.replace(/\{\{(\w+)\}\}/g, (_, name: string) => {
          if (!(name in known)) throw new Error(`counts.json has no '${name}'`);
          return known[name].toLocaleString('en');
        }),
    },
  };
}

/** Every browser that runs this page reads WOFF2; its older twins stay out. */
function oneFontFormat(): Plugin {
  return {
    name: 'one-font-format',
    generateBundle(_, bundle) {
      for (const name of Object.keys(bundle)) if (/\.(woff|ttf)$/.test(name)) delete bundle[name];
    },
  };
}

/** The runtime's own files are loaded by address, not bundled: dist/ort/. */
function runtime(): Plugin {
  return {
    name: 'runtime',
    closeBundle() {
      const to = resolve(import.meta.dirname, 'dist/ort');
      mkdirSync(to, { recursive: true });
      for (const kind of ['', '.asyncify']) {
        for (const end of ['mjs', 'wasm']) {
          const name = `ort-wasm-simd-threaded${kind}.${end}`;
          copyFileSync(resolve(import.meta.dirname, 'node_modules/onnxruntime-web/dist', name), resolve(to, name));
        }
      }
    },
  };
}

const conditions = ['onnxruntime-web-use-extern-wasm', 'module', 'browser', 'development|production'];

/** How large the runtime's files are as they travel, for the progress bar. */
function runtimeSizes(): Record<string, number> {
  const names = ['ort-wasm-simd-threaded.wasm', 'ort-wasm-simd-threaded.asyncify.wasm'];
  const at = (name: string) => resolve(import.meta.dirname, 'node_modules/onnxruntime-web/dist', name);
  return Object.fromEntries(names.map((name) => [`${name}.gz`, gzipSync(readFileSync(at(name)), { level: 6 }).length]));
}

export default defineConfig(({ command }) => ({
  define: { __RUNTIME__: JSON.stringify(command === 'build' ? runtimeSizes() : {}) },
  base: './',
  plugins: [language(), counts(), formulas(), words(), illustrated(resolve(import.meta.dirname, '..')), oneFontFormat(), runtime(), inlined(), offline()],
  resolve: { conditions },
  worker: { format: 'es' },
  build: {
    target: 'es2022',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: { input: ['index.html', 'zh.html'].map((name) => resolve(import.meta.dirname, name)) },
  },
}));
