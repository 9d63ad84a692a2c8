/** The service worker, and what to say where drawing has one thread. */

import { Notice } from './notice';
import { tr } from './strings';

const AFTER = 2000; // milliseconds after load: what the worker fetches must not delay the first screen
const SAID = 'zaozi: one thread';

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
  const later = () => setTimeout(() => void register(), AFTER);
  if (document.readyState === 'complete') later();
  else addEventListener('load', later);
}

/** A page that its server did not isolate draws on one thread; once the service worker is there, a reload gives it all. Said once per visit. */
function threads(next: boolean): void {
  if (globalThis.crossOriginIsolated || !firstTime()) return;
  if (next) new Notice(tr('Drawing uses one CPU thread on this first visit.')).offer(tr('Reload to use all'), () => location.reload());
  else new Notice(tr('Drawing uses one CPU thread here, so it takes longer.'));
}

function firstTime(): boolean {
  try {
    const first = !sessionStorage.getItem(SAID);
    sessionStorage.setItem(SAID, 'yes');
    return first;
  } catch {
    return true; // storage is switched off
  }
}
