import { bounded, FAILED } from './over-http.js';
import { Polls } from './polls.js';
import { Race } from './race.js';
import { canStream, Stream } from './stream.js';

const PATIENCE_MS = 8_000; // a proxy that gathers an answer until it ends lets nothing of a stream through
const TRIED_MS = 20_000;
const LASTS_MS = 10_000; // a proxy may end streams, and WebSockets, soon
const SOON_MS = 2_000; // where HTTP gets through it may have been the network that was away, and not WebSockets that are blocked
const AGAIN_MS = 60_000;
const LONGEST_AGAIN_MS = 900_000;
const GOING_AWAY = 1001;
const STORED = 'realtime-http';
const GATHERS = 'poll';

/**
 * What speaks the protocol over HTTP where WebSockets do not get through: over an event stream, or where that does not either,
 * by long polls.
 *
 * Soon, after a minute, and then less and less often it tries a WebSocket beside, or a stream where it polls; and at once where
 * the network has changed. When a gateway is heard over that, it ends as a node ends that goes away, and the client comes back so.
 */
export class Fallback {
  #openSocket;
  #told;
  #streams = canStream();
  #gathers = false; // a proxy holds streams back, and may not end them where they are left: each would keep a place
  #again = SOON_MS;
  #lookAt = 0;
  #refusedUntil = 0;

  /**
   * @param openSocket opens a WebSocket; `undefined` where the platform has none
   * @param told called when a gateway has answered over HTTP
   */
  constructor(openSocket, told) {
    this.#openSocket = openSocket;
    this.#told = told;
    if (remembered() === GATHERS) this.#leaveStreams();
  }

  #leaveStreams() {
    this.#streams = false;
    this.#gathers = true;
  }

  /** A WebSocket that nobody answers becomes the first of both that is heard: of itself, and of what is opened now. */
  beside(transport, url, token) {
    const { send, close, onmessage, onclose } = transport;
    const socket = { send, close };
    const race = Object.assign(new Race(), { onmessage, onclose });
    Object.assign(transport, {
      onmessage: (text) => socket.onmessage?.(text),
      onclose: (end) => socket.onclose?.(end),
      send: (text) => race.send(text),
      close: () => race.close(),
    });
    race.add(socket);
    race.add(this.open(url, token));
  }

  /** A WebSocket was heard. */
  found() {
    remember();
  }

  open(url, token) {
    const race = new Race();
    // The browser may have told of another network: the gateway is the same.
    const left = bounded(this.#refusedUntil - Date.now()); // a clock may be set back
    if (left > 0) {
      this.#told();
      race.later(0, () => race.end({ ...FAILED, retryAfter: left }));
      return race;
    }
    let answered;
    let gathers = false;
    let poll = () => {
      poll = () => {};
      race.add(new Polls(session));
    };
    let stopLooking = () => {};
    const session = {
      base: url.replace(/^ws/i, 'http').replace(/(\/ws)?\/?(\?.*)?$/, ''),
      token,
      tried: false,
      answered: (way, isOpen, retryAfter = 0) => {
        answered = way;
        this.#refusedUntil = Date.now() + retryAfter;
        this.#told();
        if (!isOpen) return;
        if (way instanceof Polls) {
          if (gathers) this.#leaveStreams();
          this.#streams = false;
        }
        remember(this.#gathers ? GATHERS : 'yes');
        stopLooking = this.#look(url, session, race);
      },
      ended: (way) => {
        gathers = false;
        if (way === answered) {
          // And not one that is left since another was heard first.
          stopLooking();
          if (way.retry) this.#refusedUntil = Date.now() + way.retry;
        }
        if (way.cut) this.#streams = false;
        if (!answered) poll();
      },
    };
    if (this.#streams) {
      race.add(new Stream(session));
      race.later(PATIENCE_MS, () => {
        gathers = true;
        poll();
      });
    } else {
      poll();
    }
    return race;
  }

  /** Look now and then for a better way than that on which this session is. Returns what ends that. */
  #look(url, session, race) {
    let timer;
    let trying;
    let over = false;
    const again = () => (timer = setTimeout(look, Math.min(this.#lookAt - Date.now(), LONGEST_AGAIN_MS)));
    const tried = async (open) => {
      session.tried = true;
      trying = new Trial(open);
      const works = await trying.works;
      trying = undefined;
      if (!over) session.tried = false;
      return !over && works;
    };
    const look = async (event) => {
      if (event) this.#gathers = false; // it is another network
      if (trying) return;
      clearTimeout(timer);
      const works = this.#openSocket && (await tried(() => this.#openSocket(url, session.token)));
      if (over) return;
      this.#again = works === true ? SOON_MS : Math.min(Math.max(2 * this.#again, AGAIN_MS), LONGEST_AGAIN_MS);
      this.#lookAt = Date.now() + this.#again;
      if (works) {
        remember();
        return race.end({ code: GOING_AWAY, reason: 'websocket_found' });
      }
      const beside = { ...session, answered() {}, ended() {} };
      if (!this.#streams && !this.#gathers && canStream()) {
        const streams = await tried(() => new Stream(beside));
        this.#streams = !!streams;
        if (streams) return race.end({ code: GOING_AWAY, reason: 'stream_found' });
        if (streams === undefined) {
          this.#leaveStreams();
          remember(GATHERS);
        }
      }
      if (!over) again();
    };
    this.#lookAt ||= Date.now() + this.#again;
    again();
    globalThis.addEventListener?.('online', look);
    return () => {
      over = true;
      clearTimeout(timer);
      globalThis.removeEventListener?.('online', look);
      trying?.end(false);
    };
  }
}

/**
 * `works`: whether a gateway lets the client in over a transport, and for more than a moment; a code where that is not known until
 * this client comes, and `undefined` where nothing is heard. It is left when that is known.
 */
class Trial {
  constructor(open) {
    this.works = new Promise((resolve) => (this.resolve = resolve));
    this.timer = setTimeout(() => this.end(), TRIED_MS);
    try {
      this.way = open();
    } catch {
      return this.end(false);
    }
    this.way.onmessage = (text) => {
      this.way.onmessage = () => {};
      const { type, code } = parsed(text);
      // Who is refused for the places, one of which this client gives up, is let in then.
      if (type !== 'connected') return this.end(code === 'connection_limit' && code);
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.end(true), LASTS_MS);
    };
    this.way.onclose = () => this.end(false);
  }

  end(works) {
    clearTimeout(this.timer);
    if (this.way) this.way.onmessage = this.way.onclose = undefined;
    this.way?.close();
    this.way = undefined;
    this.resolve(works);
  }
}

function parsed(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}

/** The pages that this tab opens next need not find out again that HTTP is needed. */
function remember(how) {
  try {
    if (how) sessionStorage.setItem(STORED, how);
    else sessionStorage.removeItem(STORED);
  } catch {
    // The browser keeps nothing.
  }
}

function remembered() {
  try {
    return sessionStorage.getItem(STORED);
  } catch {
    return undefined;
  }
}
