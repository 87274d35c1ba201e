// The `ws` package as a client of tests/clients.
//
// Usage: node ws-lines.mjs on|off ADDRESS

import { createInterface } from 'node:readline';
import WebSocket from 'ws';

const [compression, address] = process.argv.slice(2);
const say = (...words) => process.stdout.write(`${words.join(' ')}\n`);

const socket = new WebSocket(address, { perMessageDeflate: compression === 'on' });
socket.on('open', () => say('open'));
socket.on('message', (text) => say('message', text));
socket.on('close', (code, reason) => say('close', code, reason));

for await (const line of createInterface({ input: process.stdin })) socket.send(line);
socket.close(1000);
