/**
 * The service worker: the page works without a network once it was read, and has threads on servers that do not ask for them.
 *
 * VERSION and FILES are filled in when the page is built. Files with a hash in their name come from the cache; all others from the
 * network, and from the cache where there is none. The model's files are kept by the page itself, in the cache 'zaozi'.
 */
const VERSION = 'ed4a694bbf1adbe2';
const FILES = ["./","assets/atlas-CKJTcZuP.js","assets/contrast-Cn-uCcFk.js","assets/field-BRUixtMW.js","assets/forward-CbEvCDkZ.js","assets/gifenc-BgRG_TFA.js","assets/guided-BJG8ciS9.js","assets/loop-BcSIas1R.js","assets/main-DlHdX3M8.js","assets/ort.wasm.min-C-8u33Sh.js","assets/ort.webgpu.min-AEMzdfWt.js","assets/parts-OeIrLKBm.js","assets/pointer-C0bYClih.js","assets/regl-scatterplot.esm-BjyBRlp1.js","assets/rolldown-runtime-I1t7kcUN.js","assets/rolldown-runtime-WkwZ5CU-.js","assets/samplers-yXy4bxnE.js","assets/schedules-DtGVrxeS.js","assets/schedules-vtI51WKq.js","assets/strings-DFpx7dXW.js","assets/strokes-Boy7UDCi.js","assets/training-4ptDtRQp.js","assets/vectors-C2l74cKK.js","assets/worker-BLv7QRHh.js"];
const NAME = `zaozi-page-${VERSION}`;
const ROOT = new URL('./', self.location.href).href;
const ISOLATED = { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp', 'Cross-Origin-Resource-Policy': 'same-origin' };

self.addEventListener('install', (event) => {
  const keep = async () => {
    const cache = await caches.open(NAME);
    await cache.addAll(FILES.map((file) => new Request(new URL(file, ROOT), { cache: 'no-cache' })));
    await self.skipWaiting();
  };
  event.waitUntil(keep());
});

self.addEventListener('activate', (event) => {
  const replace = async () => {
    const names = await caches.keys();
    await Promise.all(names.filter((name) => name.startsWith('zaozi-page-') && name !== NAME).map((name) => caches.delete(name)));
    await self.clients.claim();
  };
  event.waitUntil(replace());
});

/** What the page fetched before this worker was there, so that a first visit is enough. */
self.addEventListener('message', (event) => {
  const keep = async () => {
    const cache = await caches.open(NAME);
    for (const url of event.data.fetched) {
      if (ours(url) && !(await cache.match(key(url)))) await cache.add(url).catch(() => undefined);
    }
  };
  event.waitUntil(keep());
});

self.addEventListener('fetch', (event) => {
  const { request } = event;
  if (request.method !== 'GET' || !request.url.startsWith(ROOT) || request.headers.has('range') || request.cache === 'only-if-cached') return;
  event.respondWith(answer(event).then(isolated));
});

/** Whether a file is kept here: not the drawing API's answers, nor films, which come in pieces, nor what the page keeps itself. */
function ours(url) {
  const path = url.slice(ROOT.length).split(/[?#]/)[0];
  return url.startsWith(ROOT) && !/^api\/|\.mp4$/.test(path) && (!path.startsWith('model/') || path === 'model/model.json');
}

/** The page has one name, whatever the link said. */
function key(url) {
  const path = url.split(/[?#]/)[0];
  return path === `${ROOT}index.html` ? ROOT : path;
}

async function answer(event) {
  const { request } = event;
  if (!ours(request.url)) return fetch(request);
  const cache = await caches.open(NAME);
  const kept = () => cache.match(key(request.url), { ignoreVary: true });
  if (request.url.startsWith(`${ROOT}assets/`)) {
    const found = await kept();
    if (found) return found;
  }
  try {
    const response = await fetch(request);
    if (response.status === 200 && response.type === 'basic') {
      const copy = response.clone();
      event.waitUntil(cache.put(key(request.url), copy).catch(() => undefined)); // a full disk is no reason not to answer
    }
    return response;
  } catch (error) {
    const found = await kept();
    if (found) return found;
    throw error;
  }
}

/** The same answer with the headers that give a page threads, where its server does not send them. */
function isolated(response) {
  if (response.status === 0 || response.headers.has('cross-origin-embedder-policy')) return response;
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(ISOLATED)) headers.set(name, value);
  const empty = [101, 204, 205, 304].includes(response.status);
  return new Response(empty ? null : response.body, { status: response.status, statusText: response.statusText, headers });
}
