/** Finding characters by meaning. */

export interface Glyphs {
  characters: readonly string[];
  texts: readonly string[];
  radicals: readonly string[];
}

/** The senses of a definition, without what stands in brackets: "(same as 漁) to catch fish, to seize" -> ["to catch fish", "to seize"]. */
export function senses(text: string): string[] {
  return text
    .toLowerCase()
    .replace(/\([^)]*\)/g, ' ')
    .split(/[;,]/)
    .map((sense) => sense.trim().replace(/\s+/g, ' '))
    .filter((sense) => sense);
}

const bare = (sense: string) => sense.replace(/^(an?|the|to) /, '');

/**
 * The rows that `words` means, best first: the character itself; a radical's own character whose first sense it is; those whose
 * whole definition or first sense it is; those whose definition begins with it; a radical's own character that says it anywhere;
 * then all that say it as a whole word. Shorter definitions come first. Where nothing says the whole word, what begins with it.
 */
export function search(words: string, { characters, texts, radicals }: Glyphs): number[] {
  const wanted = words.trim().toLowerCase().replace(/\s+/g, ' ');
  if (!wanted) return [];
  const escaped = wanted.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  const begins = new RegExp(`(?<![\\p{L}\\p{N}])${escaped}`, 'u');
  const whole = new RegExp(`${begins.source}(?![\\p{L}\\p{N}])`, 'u');

  function rank(i: number): number {
    const text = texts[i].toLowerCase();
    if (characters[i] === wanted) return 0;
    if (!whole.test(text)) return begins.test(text) ? 8 : 9;
    const said = senses(text).map(bare);
    const own = characters[i] === radicals[i];
    if (own && said[0] === wanted) return 1;
    if (bare(text) === wanted) return 2;
    if (said[0] === wanted) return 3;
    if (text.search(whole) === 0) return 4;
    if (own) return 5;
    return said.includes(wanted) ? 6 : 7;
  }

  const ranked = characters.map((_, row) => ({ row, rank: rank(row) }));
  const last = ranked.some((r) => r.rank < 8) ? 7 : 8;
  return ranked
    .filter((r) => r.rank <= last)
    .sort((a, b) => a.rank - b.rank || texts[a.row].length - texts[b.row].length || a.row - b.row)
    .map((r) => r.row);
}

/** What a radical means, as its own character's definition begins; empty where it is not among the glyphs. */
export function meaning(radical: string, { characters, texts }: Glyphs): string {
  const row = characters.indexOf(radical);
  return row < 0 ? '' : (senses(texts[row])[0] ?? '');
}
