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

/** @type {{id: string, release(): void} | null} */ let held = null; // the work of this window

/** This window's `id`, and the id `from` whose work it starts with. A duplicated tab gets an id of its own. */
export async function windowId() {
  const from = quietly(() => sessionStorage.getItem("window")) ?? crypto.randomUUID();
  return { id: await workOn(from), from };
}

/** Work on the stored work of an id from now on, or on a new one: without an id, and where another window works on it.
 * Return the id; the work of before stays among the recent ones. @param {string} [id] @returns {Promise<string>} */
export async function workOn(id) {
  const wanted = id ?? crypto.randomUUID(), mine = await hold(wanted) ? wanted : crypto.randomUUID();
  if (mine !== wanted) await hold(mine);
  quietly(() => sessionStorage.setItem("window", mine));
  return mine;
}

/** Hold the lock of a work until this window holds another or is closed. Return false if another window has it.
 * @param {string} id @returns {Promise<boolean>} */
function hold(id) {
  return new Promise((resolve) => {
    if (!navigator.locks || held?.id === id) { resolve(true); return; }
    navigator.locks.request(`studio ${id}`, { ifAvailable: true }, (lock) => {
      resolve(lock !== null);
      return lock ? new Promise((release) => { held?.release(); held = { id, release: () => release(null) }; }) : undefined;
    }).catch(() => resolve(true)); // storage is switched off
  });
}

/** The result of an action, or null where the browser's storage is full or switched off. @template Result @param {() => Result} action */
function quietly(action) { try { return action(); } catch { return null; } }

/** @param {string} name */
export const setting = (name) => quietly(() => JSON.parse(localStorage.getItem(name) ?? "null"));
/** @param {string} name @param {unknown} value */
export const setSetting = (name, value) => { quietly(() => localStorage.setItem(name, JSON.stringify(value))); };
