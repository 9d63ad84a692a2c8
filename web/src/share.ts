/** Links, pictures and films of a drawing, to take along. */

import type { Explanation } from './engine/messages';
import { radicalInWords } from './explain';
import { type Wanted, toLink } from './links';
import { animation, outline, paint, save, shareCard } from './paint';
import { tr } from './strings';

export interface Shown {
  wanted: Wanted;
  final: Float32Array;
  explanation: Explanation | null;
  /** The pictures of its steps, noisy first. */
  frames(): Promise<Float32Array[]>;
  /** Side of the pictures that the model's super-resolution stage makes; 0 without one. */
  largest: number;
  /** The same picture, drawn anew by that stage; null if it cannot be drawn now. */
  enlarge(): Promise<Float32Array | null>;
}

export class Share {
  private card: Blob | null = null;
  private readonly dialog: HTMLDialogElement;

  constructor(
    root: HTMLElement,
    private readonly shown: () => Shown | null,
    private readonly say: (text: string, wrong?: boolean) => void,
  ) {
    this.dialog = root.querySelector('dialog') as HTMLDialogElement;
    const on = (name: string, work: (shown: Shown) => void | Promise<void>) =>
      root.querySelector(`[data-do="${name}"]`)?.addEventListener('click', () => {
        const shown = this.shown();
        if (!shown) return this.say(tr('Draw something first.'), true);
        void work(shown);
      });
    on('share', (shown) => this.open(shown));
    on('link', (shown) => this.copy(shown));
    on('card', (shown) => {
      if (this.card) save(name(shown.wanted, 'card.png'), this.card);
    });
    on('send', (shown) => this.send(shown));
    on('png', (shown) => savePng(shown.final, name(shown.wanted, 'png')));
    on('large', (shown) => this.large(shown));
    on('svg', (shown) => save(name(shown.wanted, 'svg'), new Blob([outline(shown.final)], { type: 'image/svg+xml' })));
    on('gif', async (shown) => {
      const bytes = await animation([...(await shown.frames()), shown.final]);
      save(name(shown.wanted, 'gif'), new Blob([bytes as BlobPart], { type: 'image/gif' }));
    });
    root.querySelector('[data-do="close"]')?.addEventListener('click', () => this.dialog.close());
    this.dialog.addEventListener('click', (event) => event.target === this.dialog && this.dialog.close());
  }

  private async open(shown: Shown): Promise<void> {
    await document.fonts.load("44px 'zaozi text'", '造字').catch(() => undefined);
    const canvas = shareCard(shown.final, shown.wanted.prompt, shown.explanation && radicalInWords(shown.explanation));
    canvas.setAttribute('role', 'img');
    canvas.setAttribute('aria-label', tr('A card with the character drawn for “{1}”', shown.wanted.prompt));
    (this.dialog.querySelector('[data-card]') as HTMLElement).replaceChildren(canvas);
    canvas.toBlob((blob) => (this.card = blob));
    (this.dialog.querySelector('[data-do="send"]') as HTMLElement).hidden = !navigator.share;
    (this.dialog.querySelector('[data-do="large"]') as HTMLElement).hidden = !shown.largest;
    const grey = Number.isInteger(Math.sqrt(shown.final.length));
    for (const one of ['svg', 'gif']) (this.dialog.querySelector(`[data-do="${one}"]`) as HTMLElement).hidden = !grey;
    this.dialog.showModal();
  }

  private async large(shown: Shown): Promise<void> {
    this.tell(tr('Drawing {1} x {1} pixels.', shown.largest));
    try {
      const pixels = await shown.enlarge();
      if (!pixels) return this.tell(tr('The model is not loaded. Draw something first.'));
      dispatchEvent(new CustomEvent('enlarged', { detail: { pixels } }));
      await savePng(pixels, name(shown.wanted, `${shown.largest}.png`));
      this.tell(tr('Saved.'));
    } catch (error) {
      this.tell(tr('The large picture could not be drawn ({1}).', error instanceof Error ? error.message : `${error}`));
    }
  }

  private link({ wanted }: Shown): string {
    return `${location.href.split('#')[0]}${toLink(wanted)}`;
  }

  private async copy(shown: Shown): Promise<void> {
    history.replaceState(null, '', toLink(shown.wanted));
    try {
      await navigator.clipboard.writeText(this.link(shown));
      this.tell(tr('Link copied.'));
    } catch {
      this.tell(tr('The link is in the address bar.'));
    }
  }

  private async send(shown: Shown): Promise<void> {
    const files = this.card ? [new File([this.card], name(shown.wanted, 'card.png'), { type: 'image/png' })] : [];
    const plain = { title: tr('“{1}”, drawn by zaozi', shown.wanted.prompt), url: this.link(shown) };
    const rich = { ...plain, files };
    await navigator.share(navigator.canShare?.(rich) ? rich : plain).catch(() => undefined); // the reader may change their mind
  }

  private tell(text: string): void {
    (this.dialog.querySelector('[data-told]') as HTMLElement).textContent = text;
    this.say(text);
  }
}

async function savePng(pixels: Float32Array, file: string): Promise<void> {
  const canvas = document.createElement('canvas');
  paint(canvas, pixels);
  const blob = await new Promise<Blob | null>((resolve) => canvas.toBlob(resolve));
  if (blob) save(file, blob);
}

/** "gold-7.png" */
export function name(wanted: Wanted, end: string): string {
  const words = wanted.prompt.toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/^-|-$/g, '').slice(0, 40) || 'glyph';
  return `${words}-${wanted.seed}.${end}`;
}
