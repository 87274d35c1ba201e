// Node ws at its best for a fan-out: no compression, and each message stays the buffer that came from Redis.
//   node ws_server.js PORT REDIS_URL CHANNEL
const { WebSocketServer, WebSocket } = require('ws');
const { createClient } = require('redis');

const [port, url, channel] = process.argv.slice(2);

async function main() {
  const redis = createClient({ url });
  await redis.connect();
  const server = new WebSocketServer({ host: '127.0.0.1', port: Number(port), perMessageDeflate: false, backlog: 4096 });
  const asBuffers = true;
  const fanOut = (message) => {
    for (const client of server.clients) {
      if (client.readyState === WebSocket.OPEN) client.send(message, { binary: false });
    }
  };
  await redis.subscribe(channel, fanOut, asBuffers);
  server.on('connection', (client) => client.on('error', () => client.terminate()));
  console.log('ready');
}

main();
