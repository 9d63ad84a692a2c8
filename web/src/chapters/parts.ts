/** What each part of a network does, told where it is chosen. */
export function parts(root: HTMLElement): void {
  const buttons = [...root.querySelectorAll<HTMLButtonElement>('[data-says]')];
  const output = root.querySelector('output') as HTMLOutputElement;
  for (const button of buttons) {
    button.addEventListener('click', () => {
      for (const other of buttons) other.setAttribute('aria-pressed', `${other === button}`);
      output.value = `${button.textContent}. ${button.dataset.says}`;
    });
  }
}
