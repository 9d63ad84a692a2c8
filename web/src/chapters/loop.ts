/** The training loop, one step at a time: a real batch of the last training run's kind, with its numbers. */

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
  { picture: 'x0', says: ({ text }) => `A real glyph and its caption: “${text}”.` },
  { says: ({ time }) => `A random time: t = ${time.toFixed(0)} of 1,000.` },
  { picture: 'eps', says: () => 'Fresh noise, one number per pixel.' },
  { picture: 'x_t', says: ({ time }) => `The glyph with ${(time / 10).toFixed(0)}% of noise. This is all that the network gets, with t and the caption.` },
  { picture: 'output', says: () => 'What the network takes for the clean glyph.' },
  { picture: 'error', says: ({ loss }) => `Light: where it is wrong. Squared, averaged and weighted, the loss is ${loss.toFixed(3)}.` },
  { says: () => 'Every parameter moves a tiny bit, so that the loss would be smaller. Then comes the next glyph.' },
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
    output.value = `${stage + 1} of ${STAGES.length}. ${STAGES[stage].says(now)}`;
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
