/** The service worker, and what to say where drawing has one thread. */

import { Notice } from './notice';

export function offline(): void {
  if (!import.meta.env.PROD || !('serviceWorker' in navigator)) return threads(false);
  const { serviceWorker } = navigator;
  const register = async () => {
    try {
      await serviceWorker.register('sw.js');
      const { active } = await serviceWorker.ready;
      // what comes without it, because it began before, is kept too
      new PerformanceObserver((list) => {
        const entries = list.getEntries() as PerformanceResourceTiming[];
        const fetched = entries.filter((entry) => !entry.workerStart).map(({ name }) => name);
        if (fetched.length) active?.postMessage({ fetched });
      }).observe({ type: 'resource', buffered: true });
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
  const notice = new Notice(next ? 'Drawing uses one CPU thread on this first visit.' : 'Drawing uses one CPU thread here, so it takes longer.');
  if (next) notice.offer('Reload to use all', () => location.reload());
}
