/** A line at the foot of the window, which moves nothing else. */
import { tr } from './strings';
export class Notice {
  private readonly root = document.createElement('div');
  private readonly words = document.createElement('p');

  constructor(text: string) {
    this.root.className = 'notice';
    this.words.setAttribute('role', 'status');
    const away = this.button('×', () => this.root.remove());
    away.setAttribute('aria-label', tr('Dismiss'));
    this.root.append(this.words, away);
    (document.querySelector('main') ?? document.body).append(this.root);
    this.say(text);
  }

  say(text: string): void {
    if (this.words.textContent !== text) this.words.textContent = text;
  }

  offer(label: string, work: () => void): void {
    this.words.after(this.button(label, work));
  }

  private button(label: string, work: () => void): HTMLButtonElement {
    const made = Object.assign(document.createElement('button'), { type: 'button', textContent: label });
    made.addEventListener('click', work);
    return made;
  }
}
