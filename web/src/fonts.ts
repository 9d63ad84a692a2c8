/** Chinese characters for machines without a font of them. */

/** Whether this machine can write Chinese characters: where it cannot, all look the same. */
export function hasCharacters(): boolean {
  const drawn = ['鋰', '鵬', '\uffff'].map((character) => {
    const pen = new OffscreenCanvas(20, 20).getContext('2d', { willReadFrequently: true }) as OffscreenCanvasRenderingContext2D;
    pen.font = '16px sans-serif';
    pen.fillText(character, 2, 16);
    return pen.getImageData(0, 0, 20, 20).data.join();
  });
  return new Set(drawn).size === 3;
}

/** The few of the text, and all parts of characters, each fetched when first shown; of the parts only the rare ones where the machine has a font. */
export function addFonts(): void {
  const rare = 'U+2E80-2FDF,U+31C0-31EF,U+3400-4DBF,U+20000-2FFFF';
  const parts = hasCharacters() ? rare : 'U+2E80-9FFF,U+20000-2FFFF';
  document.fonts.add(new FontFace('zaozi text', 'url(data/text.woff)', { unicodeRange: 'U+2E80-9FFF', display: 'swap' }));
  document.fonts.add(new FontFace('zaozi parts', 'url(data/parts.woff)', { unicodeRange: parts, display: 'swap' }));
}
