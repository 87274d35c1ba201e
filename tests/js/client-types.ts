// A program that uses the JavaScript client with all of its types. `tsc` checks it, and nobody runs it.

import { Realtime, RealtimeError, type Message, type Share, type Storage, type Transport } from '../../gateway/web/static/client/client.js';
import { share } from '../../gateway/web/static/client/client/share.js';
import { session } from '../../gateway/web/static/client/client/storage.js';
import { Fallback } from '../../gateway/web/static/client/client/fallback.js';
import { mockRealtime } from '../../gateway/web/static/client/client/mock.js';

interface RunResult {
  stdout: string;
  exitCode: number;
}

declare const getToken: () => Promise<string>;
declare const show: (text: string) => void;

const rt = new Realtime('/ws', { token: getToken, watchdog: 20_000, backoff: { max: 10_000 } });
new Realtime(new URL('wss://example.com'), { token: 'text', WebSocket });
new Realtime('wss://example.com', { share: true, storage: 'indexeddb' });
new Realtime('wss://example.com', { share, storage: session });
const alone: Share = async (_url, token, openDirectly) => {
  const line: Transport = await openDirectly(token);
  line.onclose = ({ reason }) => show(reason);
  return line;
};
new Realtime('wss://example.com', { share: alone });
const save: ReturnType<Storage>['save'] = (changes) => changes.forEach((id, channel) => show(`${channel}: ${id ?? 'forgotten'}`));
new Realtime('wss://example.com', { storage: () => ({ load: () => [], save }) });
// @ts-expect-error - there is no such storage
new Realtime('wss://example.com', { storage: 'cookies' });

new Realtime('/ws', { token: getToken, fallback: Fallback });
const gateway = mockRealtime({ user: 'ann' });
new Realtime(gateway.url, { ...gateway.options, fallback: false });
show(String(gateway.publish('a/b', { text: 'hello' }).data.text));
gateway.disconnect(1001, 'draining');

rt.addEventListener('state', ({ detail }) => show(`${detail.state} ${detail.reason ?? ''} ${detail.retryIn ?? 0}`));
rt.addEventListener('gap', ({ detail }) => show(detail.channel));
rt.addEventListener('error', ({ detail }) => show(`${detail.code} ${detail.channel ?? ''}`));

const { unsubscribe } = rt.subscribe<RunResult>('run-results/1', (result, message) => {
  show(result.stdout + result.exitCode + message.timestamp);
  // @ts-expect-error - a run result has no such field
  show(result.exit);
  // @ts-expect-error - where the namespace keeps no messages there is no id
  const id: number = message.id;
});
rt.subscribe('a/b', async (data) => show(data.anything), {
  since: 0,
  ack: true,
  token: getToken,
  onSubscribed: () => show('subscribed'),
  onGap: () => show('gap'),
  onError: ({ code }) => show(code),
});
unsubscribe();

export async function read(): Promise<void> {
  try {
    for await (const message of rt.channel<RunResult>('run-results/2', { limit: 100 })) {
      const typed: Message<RunResult> = message;
      show(typed.data.stdout);
    }
  } catch (error) {
    if (error instanceof RealtimeError) show(error.code);
  }
}

// @ts-expect-error - a channel has a name
rt.subscribe(5, () => {});
// @ts-expect-error - it cannot be set
rt.state = 'open';
// @ts-expect-error - there is no such option
new Realtime('/ws', { tokens: getToken });
const state: 'connecting' | 'open' | 'waiting' | 'closed' = rt.state;
show(`${state} ${rt.userId}`);
rt.wake();
rt.connect();
rt.close();
