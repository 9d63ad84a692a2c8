/** The service worker, and what to say where drawing has one thread. */

export function offline(): void {
  if (!import.meta.env.PROD || !('serviceWorker' in navigator)) return threads(false);
  const { serviceWorker } = navigator;
  const register = async () => {
    try {
      await serviceWorker.register('sw.js');
      const { active } = await serviceWorker.ready;
      const fetched = performance.getEntriesByType('resource').map(({ name }) => name);
      active?.postMessage({ fetched: [location.href, ...fetched] });
      threads(true);
    } catch {
      threads(false); // switched off, or no room
    }
  };
  if (document.readyState === 'complete') void register();
  else addEventListener('load', () => void register());
}

/** A page that its server did not isolate draws on one thread; once the service worker is there, the next visit has all. */
function threads(next: boolean): void {
  if (globalThis.crossOriginIsolated) return;
  const notice = document.createElement('p');
  notice.className = 'notice';
  notice.setAttribute('role', 'status');
  notice.textContent = next ? 'Drawing uses one CPU thread on this visit. ' : 'Drawing uses one CPU thread here, so it takes longer.';
  if (next) {
    const again = Object.assign(document.createElement('button'), { type: 'button', textContent: 'Reload to use all' });
    again.addEventListener('click', () => location.reload());
    notice.append(again);
  }
  document.querySelector('.playground')?.append(notice);
}
