/** Progress of the figures that the server redraws with another model, and a button to show them. */

import { Notice } from './notice';

interface Progress {
  done: number;
  total: number;
  seconds_left: number | null;
  error: string | null;
}

export async function redrawing(address: string): Promise<void> {
  let notice: Notice | null = null;
  for (;;) {
    const answer = await fetch(address).catch(() => null);
    if (!answer?.ok) return;
    const { done, total, seconds_left: left, error }: Progress = await answer.json();
    if (error) return void (notice ??= new Notice('')).say(error);
    if (total && done >= total) {
      notice?.say('The figures of this model are ready.');
      notice?.offer('Reload to show them', () => location.reload());
      return;
    }
    const rest = left === null ? '' : `, about ${left < 90 ? `${left} s` : `${Math.round(left / 60)} min`} left`;
    notice ??= new Notice('');
    notice.say(`The figures are being drawn with this model: ${total ? `${done} of ${total}` : 'starting'}${rest}.`);
    await new Promise((resolve) => setTimeout(resolve, 2000));
  }
}
