// Socket.IO with its Redis adapter, WebSocket only, without compression.
//   node socketio_server.js PORT REDIS_URL
const { createServer } = require('http');
const { Server } = require('socket.io');
const { createAdapter } = require('@socket.io/redis-adapter');
const { createClient } = require('redis');

const [port, url] = process.argv.slice(2);

async function main() {
  const publisher = createClient({ url });
  const subscriber = publisher.duplicate();
  await Promise.all([publisher.connect(), subscriber.connect()]);
  const http = createServer();
  new Server(http, {
    transports: ['websocket'],
    perMessageDeflate: false,
    httpCompression: false,
    adapter: createAdapter(publisher, subscriber),
  });
  http.listen({ port: Number(port), host: '127.0.0.1', backlog: 4096 }, () => console.log('ready'));
}

main();
