/** Which network draws what: a student of distillation draws in few steps, has its guidance built in, and takes one prompt. */

import type { Card, Distilled, Request } from './messages';
import { tr } from '../strings';

type Asked = Pick<Request, 'guidance' | 'to' | 'share'>;

/** A request as the page's model takes it: a distilled one without guidance and second prompt. */
export function fitting<R extends Asked>(request: R, card: Card | null): R {
  if (!card?.distilled) return request;
  const { to: _to, share: _share, ...rest } = request;
  return { ...rest, guidance: 1 } as R;
}

/** How a student draws unless asked otherwise: as `usual` in core/recipe.py. */
export const usual = ({ steps, sampler = 'ddim' }: Distilled): Pick<Request, 'steps' | 'sampler' | 'guidance'> => ({ steps, sampler, guidance: 1 });

/**
 * How a request is sketched while a prompt is typed: in one step of the `quick` model, if it is there, or of the model itself if it is
 * distilled; else in a few steps. What a student cannot do, the whole model sketches: two prompts, or no text at all.
 */
export function sketch(request: Asked & Pick<Request, 'steps'>, card: Card | null, most: number, quick = false): Partial<Request> {
  const whole = { steps: Math.min(request.steps, most), quiet: true };
  const quiet = !card?.bounds; // where pictures are diffused, the one prediction is shown before it is decoded
  if (card?.distilled) return { ...usual(card.distilled), steps: 1, quiet };
  if (!quick || !card?.quick || request.to?.trim() || request.guidance === 0) return whole;
  return { ...usual(card.quick.distilled), steps: 1, quick: true, quiet };
}

/** One clear line on what a distilled model does not do. */
export function told({ name, distilled }: Card): string {
  if (!distilled) return '';
  const { steps, guidance, model } = distilled;
  const other = model ? tr('the model {1}, from which it was distilled', model) : tr('a model that is not distilled');
  return steps === 1
    ? tr('{1} draws in 1 step, with guidance {2} built in; for another guidance or a second meaning, use {3}.', name, guidance, other)
    : tr('{1} draws in {4} steps, with guidance {2} built in; for another guidance or a second meaning, use {3}.', name, guidance, other, steps);
}
