/** What the scripts say, in the language of the page: English, or what the page's catalogue has for it. */

const table: Record<string, string> = JSON.parse(globalThis.document?.getElementById('strings')?.textContent ?? '{}');

/** The words of the page's language for some English ones; {1} stands for the first value, {2} for the second, and so on. */
export function tr(english: string, ...values: (string | number)[]): string {
  return (table[english] ?? english).replace(/\{(\d)\}/g, (_, i: string) => `${values[Number(i) - 1]}`);
}
