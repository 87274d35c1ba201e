import type { Message, Options } from '../client.js';

/** A gateway inside the page, for tests of front ends: no server, no network, no timers. */
export interface MockGateway {
  /** For `new Realtime(gateway.url, gateway.options)`. */
  readonly url: string;
  /** Spread them to add your own. */
  readonly options: Options;
  /** What clients have sent, oldest first. */
  readonly received: { type: string; channel?: string; [field: string]: unknown }[];

  /** Publish a message: who has subscribed has it, and who comes later, too. */
  publish<T>(channel: string, data: T): Message<T>;
  /** Refuse a channel, or take it back from who hears it. */
  forbid(channel: string): void;
  /** Open it again, and tell. */
  grant(channel: string): void;
  /** Let the messages of a channel be gone; who hears it has a gap. */
  lose(channel: string): void;
  /** Ask each client for another token. */
  expireTokens(): void;
  /** End all connections with a close code and its reason; without, as a network does that breaks. */
  disconnect(code?: number, reason?: string): void;
  /** No network until `online()`. */
  offline(): void;
  online(): void;
}

/** @param options `user`: whom the token of every client names */
export function mockRealtime(options?: { user?: string }): MockGateway;
