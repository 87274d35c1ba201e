// The `WebSocket` that Node has had of its own since version 22 (with `--experimental-websocket` since 20.10),
// as a client of tests/clients.
//
// Usage: node --experimental-websocket own-lines.mjs ADDRESS

import { createInterface } from 'node:readline';

const say = (...words) => process.stdout.write(`${words.join(' ')}\n`);

const socket = new WebSocket(process.argv[2]);
socket.onopen = () => say('open');
socket.onmessage = ({ data }) => say('message', data);
socket.onclose = ({ code, reason }) => say('close', code, reason);

for await (const line of createInterface({ input: process.stdin })) socket.send(line);
socket.close(1000);
