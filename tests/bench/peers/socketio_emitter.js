// A backend that emits each line of its input, JSON, to all Socket.IO clients, through Redis.
//   node socketio_emitter.js REDIS_URL
const { createInterface } = require('readline');
const { Emitter } = require('@socket.io/redis-emitter');
const { createClient } = require('redis');

async function main() {
  const redis = createClient({ url: process.argv[2] });
  await redis.connect();
  const emitter = new Emitter(redis);
  createInterface({ input: process.stdin })
    .on('line', (line) => emitter.emit('message', JSON.parse(line)))
    .on('close', () => process.exit());
  console.log('ready');
}

main();
