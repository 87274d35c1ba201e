// Where positions are kept so that a page that is loaded again goes on where it was. Where a browser refuses to keep anything,
// they are in memory, as they would be without this module.

const ANSWER_MS = 5_000; // a busy phone takes its time, and some browsers never answer where they keep nothing
const MOST_CHANNELS = 200;
const KEPT_MS = 30 * 24 * 3600 * 1_000;

/**
 * For this tab: `sessionStorage`. It is copied where a tab is duplicated, and ends with the tab. What one client of a page has
 * received counts for another one of the same URL and user, as with IndexedDB.
 */
export function session(url) {
  let key;
  const stored = () => new Map(read(() => sessionStorage, key));
  return {
    load(user) {
      key = `realtime ${url} ${user}`;
      return stored();
    },
    save(changes) {
      const positions = stored(); // another client of this page has its own
      for (const [channel, id] of changes) {
        positions.delete(channel); // the latest stand at the end
        positions.set(channel, id);
      }
      write(() => sessionStorage, key, positions);
    },
  };
}

/**
 * For this browser: IndexedDB, shared by all its tabs and workers. What one of them has received counts for those that come later.
 * A browser gives up what is being written when a page is left, so pages put it into `localStorage` first.
 */
export function indexeddb(url) {
  let key;
  let unwritten;
  const opening = open();
  return {
    async load(user) {
      const own = (key = `realtime ${url} ${user}`);
      unwritten = new Map();
      const db = await opening;
      return further(db ? await all(db, own) : [], read(() => localStorage, own));
    },
    async save(changes) {
      const [own, waiting] = [key, unwritten]; // they may be those of another user when the database has answered
      for (const [channel, id] of changes) waiting.set(channel, id);
      // What is forgotten is so there at once: what follows may have lower ids.
      const ofOthers = read(() => localStorage, own).filter(([channel]) => !waiting.has(channel) || waiting.get(channel) !== undefined);
      const positions = further(waiting, ofOthers);
      write(() => localStorage, own, positions);
      const written = new Map(waiting);
      const db = await opening;
      if (!db || !(await put(db, own, positions))) return;
      for (const [channel, id] of written) if (waiting.get(channel) === id) waiting.delete(channel);
      // What came there meanwhile stays until it is in the database, too.
      const rest = read(() => localStorage, own).filter(([channel, id]) => !(positions.get(channel) >= id));
      write(() => localStorage, own, rest);
    },
  };
}

/** For each channel the greater id. */
function further(some, others) {
  const found = new Map(some);
  for (const [channel, id] of others) if (!(found.get(channel) >= id)) found.set(channel, id);
  return found;
}

// -- IndexedDB ------------------------------------------------------------------------------------

function open() {
  return new Promise((resolve) => {
    setTimeout(resolve, ANSWER_MS);
    try {
      const request = indexedDB.open('realtime-gateway', 1);
      request.onupgradeneeded = () => request.result.createObjectStore('positions');
      request.onerror = () => resolve();
      request.onsuccess = () => {
        const db = request.result;
        db.onversionchange = () => db.close();
        resolve(db);
      };
    } catch {
      resolve();
    }
  });
}

/** The positions under a key; those that are too old to be of use are removed. */
function all(db, key) {
  return transaction(db, [], (store, found) => {
    const range = IDBKeyRange.bound([key], [key, []]);
    store.openCursor(range).onsuccess = ({ target: { result: cursor } }) => {
      if (!cursor) return;
      const { id, at } = cursor.value;
      if (Date.now() - at > KEPT_MS) cursor.delete();
      else found.push([cursor.key[1], id]);
      cursor.continue();
    };
  });
}

function put(db, key, changes) {
  return transaction(db, true, (store) => {
    for (const [channel, id] of changes) {
      const name = [key, channel];
      if (id === undefined) {
        store.delete(name);
      } else {
        // Another tab may be further.
        store.get(name).onsuccess = ({ target: { result } }) => {
          if (!(result?.id > id)) store.put({ id, at: Date.now() }, name);
        };
      }
    }
  });
}

/** `result` when it is done; where it fails nothing, and the positions are older than they could be. */
function transaction(db, result, work) {
  return new Promise((resolve) => {
    setTimeout(resolve, ANSWER_MS);
    try {
      const begun = db.transaction('positions', 'readwrite');
      begun.oncomplete = () => resolve(result);
      begun.onabort = begun.onerror = () => resolve();
      work(begun.objectStore('positions'), result);
    } catch {
      resolve();
    }
  }).then((found) => found ?? (result === true ? false : []));
}

// -- web storage ----------------------------------------------------------------------------------

/** `area` is a function, since a browser may refuse to show the thing itself. */
function read(area, key) {
  try {
    return JSON.parse(area().getItem(key)).filter(([, id]) => id !== undefined);
  } catch {
    return [];
  }
}

function write(area, key, positions) {
  const latest = [...positions].filter(([, id]) => id !== undefined).slice(-MOST_CHANNELS);
  try {
    if (latest.length) area().setItem(key, JSON.stringify(latest));
    else area().removeItem(key);
  } catch {
    // full, or refused
  }
}
