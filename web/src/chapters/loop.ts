/** The training loop, one step at a time: a real batch of the last training run's kind, with its numbers. */

import { tr } from '../strings';

interface Row {
  text: string;
  time: number;
  x0: string;
  eps: string;
  x_t: string;
  output: string;
  error: string;
  loss: number;
}

/** What each stage says, and the picture that it adds; their names are those of the buttons. */
const STAGES: { picture?: keyof Row; says: (row: Row) => string }[] = [
  { picture: 'x0', says: ({ text }) => tr('A real glyph and its caption: “{1}”.', text) },
  { says: ({ time }) => tr('A random time: t = {1} of 1,000.', time.toFixed(0)) },
  { picture: 'eps', says: () => tr('Fresh noise, one number per pixel.') },
  { picture: 'x_t', says: ({ time }) => tr('The glyph with {1}% of noise. This is all that the network gets, with t and the caption.', (time / 10).toFixed(0)) },
  { picture: 'output', says: () => tr('What the network takes for the clean glyph.') },
  { picture: 'error', says: ({ loss }) => tr('Light: where it is wrong. Squared, averaged and weighted, the loss is {1}.', loss.toFixed(3)) },
  { says: () => tr('Every parameter moves a tiny bit, so that the loss would be smaller. Then comes the next glyph.') },
];

export async function loop(root: HTMLElement): Promise<void> {
  const { batch }: { batch: Row[] } = await (await fetch('data/loop.json')).json();
  const buttons = [...root.querySelectorAll<HTMLButtonElement>('[data-stage]')];
  const pictures = [...root.querySelectorAll<HTMLImageElement>('img[data-of]')];
  const output = root.querySelector('output') as HTMLOutputElement;
  let [row, stage] = [0, 0];

  function show() {
    const now = batch[row];
    buttons.forEach((button, i) => button.setAttribute('aria-current', i === stage ? 'step' : 'false'));
    for (const picture of pictures) {
      const name = picture.dataset.of as keyof Row;
      const from = STAGES.findIndex((one) => one.picture === name);
      picture.src = `${now[name]}`;
      (picture.closest('figure') as HTMLElement).classList.toggle('later', from > stage);
    }
    output.value = tr('{1} of {2}. {3}', stage + 1, STAGES.length, STAGES[stage].says(now));
  }

  buttons.forEach((button, i) =>
    button.addEventListener('click', () => {
      stage = i;
      show();
    }),
  );
  (root.querySelector('[data-do="next"]') as HTMLButtonElement).addEventListener('click', () => {
    stage = (stage + 1) % STAGES.length;
    if (!stage) row = (row + 1) % batch.length;
    show();
  });
  show();
}
