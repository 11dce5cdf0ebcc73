// The work outlives a reload: in this browser's own database, one entry a window.

const KEPT = 12; // works

function database() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open("music-generator-studio", 1);
    request.onupgradeneeded = () => request.result.createObjectStore("works", { keyPath: "id" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

async function run(mode, action) {
  const db = await database();
  try {
    return await new Promise((resolve, reject) => {
      const transaction = db.transaction("works", mode), request = action(transaction.objectStore("works"));
      transaction.oncomplete = () => resolve(request?.result);
      transaction.onerror = transaction.onabort = () => reject(transaction.error);
    });
  } finally { db.close(); }
}

export const save = (work) => run("readwrite", (store) => store.put(work));
export const load = (id) => run("readonly", (store) => store.get(id));

/** The works of all windows, the latest first; the oldest are let go. */
export async function recent() {
  const works = (await run("readonly", (store) => store.getAll())).sort((a, b) => b.saved - a.saved);
  const old = works.splice(KEPT);
  if (old.length) await run("readwrite", (store) => { for (const work of old) store.delete(work.id); });
  return works;
}

/** This window's own name; a copied tab has its original's and gets a new one, but begins with the same work. */
export async function windowId() {
  const mine = sessionStorage.getItem("window") ?? crypto.randomUUID();
  const free = await new Promise((resolve) => {
    if (!navigator.locks) { resolve(true); return; }
    navigator.locks.request(`studio ${mine}`, { ifAvailable: true }, (lock) => {
      resolve(lock !== null);
      return lock ? new Promise(() => {}) : undefined; // held as long as the page lives
    });
  });
  if (free) { sessionStorage.setItem("window", mine); return { id: mine, from: mine }; }
  const other = crypto.randomUUID();
  sessionStorage.setItem("window", other);
  navigator.locks.request(`studio ${other}`, () => new Promise(() => {}));
  return { id: other, from: mine };
}

export const setting = (name) => { try { return JSON.parse(localStorage.getItem(name)); } catch { return null; } };
export const setSetting = (name, value) => localStorage.setItem(name, JSON.stringify(value));
