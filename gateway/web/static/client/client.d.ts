/** A message as it was published. */
export interface Message<T = unknown> {
  /** The channel's namespace. */
  type: string;
  channel: string;
  data: T;
  /** Milliseconds since 1970. */
  timestamp: number;
  /** Rises within the channel; missing where the namespace keeps no messages. */
  id?: number;
}

export type State = 'connecting' | 'open' | 'waiting' | 'closed';

export interface StateDetail {
  state: State;
  /** Why, where it is `waiting` or `closed`: the gateway's close reason, or `connection_lost`, `no_answer`, `token_unavailable`, … */
  reason?: string;
  /** The close code; 1006 where there was none. */
  code?: number;
  /** Milliseconds until the next attempt. */
  retryIn?: number;
}

/** What the gateway refuses (docs/protocol.md, "Errors"), or why a subscription has ended. */
export interface GatewayError {
  code: string;
  message: string;
  detail?: string;
  /** Where the code is explained. */
  help?: string;
  /** Missing where it concerns the connection. */
  channel?: string;
}

/** What ends a `for await` over a channel. */
export class RealtimeError extends Error {
  readonly code: string;
  readonly channel?: string;
}

export type Token = string | (() => string | Promise<string>);

/** The part of `WebSocket` that is used. */
export interface WebSocketLike {
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(data: string): void;
  close(code?: number): void;
}

/** Keeps positions: made for a URL, told of the user with each connection. */
export type Storage = (url: string) => {
  load(user: string): Iterable<[string, number]> | Promise<Iterable<[string, number]>>;
  /** `undefined` forgets a channel. The page may be left at any time: what takes its time may not come to its end. */
  save(changes: Map<string, number | undefined>): unknown;
};

/** One way to connect: each text is the JSON of a message, or of an array of them. */
export interface Transport {
  send(text: string): void;
  close(): void;
  onmessage?: (text: string) => void;
  onclose?: (end: { code: number; reason: string }) => void;
}

/** What `client/share.js` exports. */
export type Share = (
  url: string,
  token: string | undefined,
  openDirectly: (token: string | undefined) => Promise<Transport>,
) => Transport | Promise<Transport>;

/** What `client/fallback.js` exports: opens a transport in the place of a WebSocket. */
export type FallbackClass = new (
  openSocket: ((url: string, token: string | undefined) => Transport) | undefined,
  told: () => void,
) => {
  open(url: string, token: string | undefined): Transport;
  /** The WebSocket becomes the first of both that is heard. */
  beside(socket: Transport, url: string, token: string | undefined): void;
  /** A WebSocket was heard. */
  found(): void;
};

export interface Options {
  /** The user's token; a function is asked before each attempt and before the token ends. Without it a cookie has to do. */
  token?: Token;
  /** After so many milliseconds without a message the gateway is asked whether it is there (25,000). */
  watchdog?: number;
  /** The longest pause before the first and before any later attempt to connect again, in milliseconds (1,000 and 30,000). */
  backoff?: { min?: number; max?: number };
  /**
   * Where positions are kept, so that a page that is loaded again goes on where it was: in `memory` (not at all), in this tab's
   * `session`, or in this browser's `indexeddb`. Service workers give the function of `client/storage.js` itself.
   */
  storage?: 'memory' | 'session' | 'indexeddb' | Storage;
  /**
   * Tabs of the same URL and user share one connection. Service workers give the function of `client/share.js` itself.
   */
  share?: boolean | Share;
  /**
   * Speak over HTTP where two WebSockets in a row bring nothing, or one brings nothing for eight seconds (true). `false` for
   * WebSockets only; the class of `client/fallback.js` itself where `import()` is not allowed, as in service workers.
   */
  fallback?: boolean | FallbackClass;
  /** For platforms without one of their own, such as Node 20: `WebSocket` of the package `ws`. */
  WebSocket?: new (url: string, protocols?: string[]) => WebSocketLike;
}

export interface SubscribeOptions {
  /** The id of the last message that you have; 0 for everything that is kept. Otherwise what the user has not received. */
  since?: number;
  /** Tell the gateway what was processed: a message is when the callback, or its promise, has ended without an error. */
  ack?: boolean;
  /** Messages that may wait for a promise of the callback, with `ack` or in a `for await` (1,000). */
  limit?: number;
  /** A channel token (docs/protocol.md), shown with each subscribe. */
  token?: Token;
  /** The gateway has answered, now or after a reconnect: what is published from then on comes. */
  onSubscribed?: () => void;
  /** Messages are lost: reload the channel's content from your backend. */
  onGap?: () => void;
  /** The channel cannot be heard at the moment, or not any more. */
  onError?: (error: GatewayError) => void;
}

export interface Subscription {
  unsubscribe(): void;
}

export interface RealtimeEvents {
  state: CustomEvent<StateDetail>;
  gap: CustomEvent<{ channel: string }>;
  error: CustomEvent<GatewayError>;
}

/** A client that stays connected. */
export class Realtime extends EventTarget {
  /** `url`: `ws(s)://…`, `http(s)://…`, or in a page relative to it. */
  constructor(url: string | URL, options?: Options);

  readonly state: State;
  /** Whom the token names, once the gateway has said so. */
  readonly userId?: string;

  subscribe<T = any>(
    channel: string,
    callback: (data: T, message: Message<T>) => unknown,
    options?: SubscribeOptions,
  ): Subscription;

  /** For `for await`. Leaving the loop unsubscribes; it throws a {@link RealtimeError} where the channel cannot be heard. */
  channel<T = any>(name: string, options?: SubscribeOptions): AsyncIterableIterator<Message<T>>;

  /** Connect at once, also where the gateway has ended the connection for good; not after `close`. */
  connect(): void;
  /** Look at once whether the line is alive, or connect at once where an attempt is waited for. */
  wake(): void;
  /** Leave for good. */
  close(): void;

  addEventListener<K extends keyof RealtimeEvents>(
    type: K,
    listener: (this: Realtime, event: RealtimeEvents[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
}
