/** The sheets of small glyphs that come with the map: a picture of each real character, for machines whose fonts lack it. */

export interface Sheets {
  side: number;
  columns: number;
  rows: number;
}

/** Make an element show the glyph in row `i` of the map's data, `size` of its own size. */
export function showGlyph({ style }: HTMLElement, { side, columns, rows }: Sheets, i: number, size = 1): void {
  const [sheet, cell] = [Math.floor(i / (columns * rows)), i % (columns * rows)];
  style.backgroundImage = `url(data/atlas-${sheet}.webp)`;
  style.backgroundPosition = `-${(cell % columns) * side * size}px -${Math.floor(cell / columns) * side * size}px`;
  style.backgroundSize = `${columns * side * size}px auto`;
  style.width = style.height = `${side * size}px`;
}
