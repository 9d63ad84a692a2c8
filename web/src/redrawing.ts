/** Progress of the figures that the server redraws with another model, and a button to show them. */

import { Notice } from './notice';
import { tr } from './strings';

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
      notice?.say(tr('The figures of this model are ready.'));
      notice?.offer(tr('Reload to show them'), () => location.reload());
      return;
    }
    const rest = left === null ? '' : left < 90 ? tr(', about {1} s left', left) : tr(', about {1} min left', Math.round(left / 60));
    notice ??= new Notice('');
    notice.say(tr('The figures are being drawn with this model: {1}{2}.', total ? tr('{1} of {2}', done, total) : tr('starting'), rest));
    await new Promise((resolve) => setTimeout(resolve, 2000));
  }
}
