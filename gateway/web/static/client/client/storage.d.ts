import type { Storage } from '../client.js';

/** For this tab: `sessionStorage`. */
export declare const session: Storage;
/** For this browser: IndexedDB, shared by its tabs and workers. */
export declare const indexeddb: Storage;
