/** The style sheet goes into the page, which then shows after one answer of the server instead of two. */

import type { Plugin } from 'vite';

export function inlined(): Plugin {
  const sheets: Record<string, string> = {}; // of the pages before this one
  return {
    name: 'inlined',
    apply: 'build',
    enforce: 'post',
    transformIndexHtml: {
      order: 'post',
      handler(html, { bundle = {} }) {
        return html.replace(/<link rel="stylesheet"[^>]*href="\.\/(assets\/[^"]+\.css)"[^>]*>/g, (link, name: string) => {
          const sheet = bundle[name];
          if (sheet?.type === 'asset') sheets[name] = `${sheet.source}`;
          if (!(name in sheets)) return link;
          delete bundle[name];
          const css = sheets[name]
            .replace(/url\((\.\.?\/)/g, (_, at: string) => `url(${at === './' ? 'assets/' : ''}`)
            .replace(/,url\([^)]*\.(woff|ttf)\) ?format\("(woff|truetype)"\)/g, ''); // KaTeX's older twins, which are not there
          return `<style>${css}</style>`;
        });
      },
    },
  };
}
