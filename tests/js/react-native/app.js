// Hears a channel over a connection that is lost once, then loops over another one, and prints what happens.

require('./device');
const { Realtime } = require('realtime-gateway-client');
const { mockRealtime } = require('realtime-gateway-client/mock');

const mock = mockRealtime();
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function main() {
  const rt = new Realtime(mock.url, mock.options);
  rt.addEventListener('state', ({ detail }) => print(detail.state));
  rt.subscribe('run-results/1', (data) => print('data', data));
  await pause(100);
  mock.publish('run-results/1', 1);
  await pause(100);
  mock.disconnect(1006, '');
  mock.publish('run-results/1', 2);
  await pause(5_000);
  mock.publish('run-results/1', 3);
  setTimeout(() => mock.publish('notifications/1', 'a'), 100);
  setTimeout(() => mock.publish('notifications/1', 'b'), 200);
  for await (const { data } of rt.channel('notifications/1')) {
    print('loop', data);
    if (data === 'b') break;
  }
  rt.close();
}

main().catch((error) => print('failed', String(error)));
