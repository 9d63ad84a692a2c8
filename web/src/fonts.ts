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
