// Stored work: it survives a reload in this browser's database, one entry per window.

const VERSION = 2; // of what is stored; work of another version is dropped

/** @returns {Promise<IDBDatabase>} */
function database() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open("music-generator-studio", VERSION);
    request.onupgradeneeded = () => {
      for (const old of [...request.result.objectStoreNames]) request.result.deleteObjectStore(old);
      request.result.createObjectStore("works", { keyPath: "id" });
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** @template Result @param {IDBTransactionMode} mode @param {(store: IDBObjectStore) => IDBRequest<Result>} action @returns {Promise<Result>} */
async function run(mode, action) {
  const db = await database();
  try {
    return await new Promise((resolve, reject) => {
      const transaction = db.transaction("works", mode), request = action(transaction.objectStore("works"));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onerror = transaction.onabort = () => reject(transaction.error);
    });
  } finally { db.close(); }
}

/** @param {SavedWork} work */
export const save = (work) => run("readwrite", (store) => store.put(work));
/** @param {string} id @returns {Promise<SavedWork | undefined>} */
export const load = (id) => run("readonly", (store) => store.get(id));

/** @param {string} id */
export const remove = (id) => run("readwrite", (store) => store.delete(id));

/** The works of all windows, the newest first. They are kept until the user deletes them. @returns {Promise<SavedWork[]>} */
export const recent = async () => (await run("readonly", (store) => store.getAll())).sort((a, b) => b.saved - a.saved);

/** This window's `id`, and the id `from` whose work it starts with. A duplicated tab gets an id of its own. */
export async function windowId() {
  const mine = sessionStorage.getItem("window") ?? crypto.randomUUID();
  const free = await new Promise((resolve) => {
    if (!navigator.locks) { resolve(true); return; }
    navigator.locks.request(`studio ${mine}`, { ifAvailable: true }, (lock) => {
      resolve(lock !== null);
      return lock ? new Promise(() => {}) : undefined; // held until the page is closed
    });
  });
  if (free) { sessionStorage.setItem("window", mine); return { id: mine, from: mine }; }
  const other = crypto.randomUUID();
  sessionStorage.setItem("window", other);
  navigator.locks.request(`studio ${other}`, () => new Promise(() => {}));
  return { id: other, from: mine };
}

/** @param {string} name */
export const setting = (name) => { try { return JSON.parse(localStorage.getItem(name) ?? "null"); } catch { return null; } };
/** @param {string} name @param {unknown} value */
export const setSetting = (name, value) => localStorage.setItem(name, JSON.stringify(value));
