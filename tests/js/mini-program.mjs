// Runs a module as a mini program of WeChat would: bundled, with `wx` for the network and next to nothing else.
//
// Usage: node mini-program.mjs MODULE CLIENT URL TOKEN CHANNEL

import { createContext, runInContext } from 'node:vm';
import { build } from 'esbuild';
import WebSocket from 'ws';
import { obey, report } from './tap.mjs';

const [module, client, address, token, channel] = process.argv.slice(2);

const { outputFiles } = await build({
  entryPoints: [module],
  alias: { 'realtime-gateway-client': client },
  bundle: true,
  write: false,
  format: 'cjs',
  target: 'es2022',
});

// As developers.weixin.qq.com describes them.
const wx = {
  connectSocket({ protocols }) {
    const socket = new WebSocket(address, protocols);
    return {
      send: ({ data }) => socket.send(data),
      close: ({ code, reason }) => socket.close(code, reason),
      onOpen: (then) => socket.on('open', () => then({})),
      onMessage: (then) => socket.on('message', (data) => then({ data: String(data) })),
      onClose: (then) => socket.on('close', (code, reason) => then({ code, reason: String(reason) })),
      onError: (then) => socket.on('error', ({ message }) => then({ errMsg: message })),
    };
  },
  request: ({ success }) => setTimeout(() => success({ data: token, statusCode: 200 })),
  onAppShow() {},
  onNetworkStatusChange() {},
};

// What the language itself has is there in each context; timers and the console are not.
const context = { wx, module: { exports: {} }, console, setTimeout, clearTimeout, setInterval, clearInterval };
runInContext(outputFiles[0].text, createContext(context));
const { realtime } = context.module.exports;
realtime.addEventListener('state', ({ detail }) => report('state', { state: detail.state }));
realtime.subscribe(channel, (data) => report('data', { data }));

await obey({});
