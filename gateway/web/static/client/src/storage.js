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
        if (id !== undefined) positions.set(channel, id);
      }
      write(() => sessionStorage, key, [...positions]);
    },
  };
}

/**
 * For this browser: IndexedDB, shared by all its tabs and workers. What one of them has received counts for those that come later.
 *
 * A browser gives up what is being written when a page is left. So pages write it into `localStorage` first, as `[channel, id, anew]`:
 * an `id` of `null` forgets the channel, and behind that, `anew`, lower ids count. Each save brings all that stands there into the
 * database, also what is of other tabs.
 */
export function indexeddb(url) {
  let key;
  const opening = open();
  return {
    async load(user) {
      const own = (key = `realtime ${url} ${user}`);
      const db = await opening;
      const found = new Map(db ? await all(db, own) : []);
      for (const [channel, id, anew] of read(() => localStorage, own)) {
        if (id === null) found.delete(channel);
        else if (anew || !(found.get(channel) >= id)) found.set(channel, id);
      }
      return found;
    },
    async save(changes) {
      const own = key; // it may be that of another user when the database has answered
      const waiting = new Map(read(() => localStorage, own).map((entry) => [entry[0], entry]));
      for (const [channel, id] of changes) {
        const [, reached, anew] = waiting.get(channel) ?? [];
        waiting.delete(channel);
        // Another tab may be further.
        waiting.set(channel, id === undefined ? [channel, null, true] : [channel, reached > id ? reached : id, !!anew]);
      }
      const entries = [...waiting.values()];
      write(() => localStorage, own, entries);
      const db = await opening;
      if (!db || !(await put(db, own, entries))) return;
      const written = new Set(entries.map(String));
      // What came there meanwhile stays until it is in the database, too.
      const rest = read(() => localStorage, own).filter((entry) => !written.has(String(entry)));
      write(() => localStorage, own, rest);
    },
  };
}

/** The function above that the option `storage` names. */
export function named(name) {
  if (name === 'session') return session;
  if (name === 'indexeddb') return indexeddb;
  throw new TypeError(`storage: '${name}' is none of 'memory', 'session', 'indexeddb', and no function`);
}

// -- IndexedDB ------------------------------------------------------------------------------------

function open() {
  return inTime((done) => {
    const request = indexedDB.open('realtime-gateway', 1);
    request.onupgradeneeded = () => request.result.createObjectStore('positions');
    request.onerror = () => done();
    request.onsuccess = () => {
      const db = request.result;
      db.onversionchange = () => db.close();
      done(db);
    };
  });
}

/** The positions under a key; those that are too old to be of use are removed. */
async function all(db, key) {
  const found = [];
  const done = await transaction(db, (store) => {
    const range = IDBKeyRange.bound([key], [key, []]);
    store.openCursor(range).onsuccess = ({ target: { result: cursor } }) => {
      if (!cursor) return;
      const { id, at } = cursor.value;
      if (Date.now() - at > KEPT_MS) cursor.delete();
      else found.push([cursor.key[1], id]);
      cursor.continue();
    };
  });
  return done ? found : [];
}

function put(db, key, entries) {
  return transaction(db, (store) => {
    for (const [channel, id, anew] of entries) {
      const name = [key, channel];
      const keep = () => store.put({ id, at: Date.now() }, name);
      if (id === null) store.delete(name);
      else if (anew) keep();
      else store.get(name).onsuccess = ({ target: { result } }) => result?.id > id || keep();
    }
  });
}

/** Whether it is done; where it fails the positions are older than they could be. */
function transaction(db, work) {
  return inTime((done) => {
    const begun = db.transaction('positions', 'readwrite');
    begun.oncomplete = () => done(true);
    begun.onabort = begun.onerror = () => done();
    work(begun.objectStore('positions'));
  });
}

/** What `work` gives to its argument; nothing where it throws, or where the browser does not answer. */
function inTime(work) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ANSWER_MS);
    const done = (result) => {
      clearTimeout(timer);
      resolve(result);
    };
    try {
      work(done);
    } catch {
      done();
    }
  });
}

// -- web storage ----------------------------------------------------------------------------------

/** `area` is a function, since a browser may refuse to show the thing itself. */
function read(area, key) {
  try {
    return JSON.parse(area().getItem(key)).filter(Array.isArray);
  } catch {
    return [];
  }
}

function write(area, key, entries) {
  const latest = entries.slice(-MOST_CHANNELS);
  try {
    const storage = area();
    while (latest.length) {
      try {
        return storage.setItem(key, JSON.stringify(latest));
      } catch {
        latest.splice(0, latest.length / 8 + 1); // it is full: the latest are kept
      }
    }
    storage.removeItem(key); // better nothing than what is wrong by now
  } catch {
    // refused
  }
}
