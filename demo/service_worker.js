// Keeps the page's files in the browser, so that it works offline: `VERSION` and `FILES` are written by tools/make_demo.py.
//
// What any piece needs is kept at once: the page, the model, and the samples of the middle layer. The other samples are kept
// when the page says so.
const VERSION = "", FILES = { first: [], rest: [] };
const PREFIX = `music-generator ${registration.scope} `, CACHE = PREFIX + VERSION;

/** Keep files; those that the browser has already are not sent again. */
async function keep(files) {
  const cache = await caches.open(CACHE);
  for (const file of files) {
    if (await cache.match(file)) continue;
    const response = await fetch(file, { cache: "no-cache" });
    if (!response.ok) throw new Error(`${file}: ${response.status}`);
    await cache.put(file, response);
  }
}

async function keepThis() {
  const old = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== CACHE);
  await Promise.all(old.map((name) => caches.delete(name)));
  await clients.claim();
}

async function answer(request) {
  const cache = await caches.open(CACHE), kept = await cache.match(request, { ignoreSearch: true });
  return kept ?? fetch(request);
}

addEventListener("install", (event) => event.waitUntil(keep(FILES.first)));
addEventListener("activate", (event) => event.waitUntil(keepThis()));
addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || !request.url.startsWith(registration.scope)) return;
  event.respondWith(answer(request));
});
addEventListener("message", (event) => event.waitUntil(keep(FILES.rest).catch(() => {}))); // offline: the next one tries again
