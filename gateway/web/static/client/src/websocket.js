/**
 * A transport: `send(text)`, `close()`, and the callbacks `onmessage(text)` and `onclose({ code, reason })`. Each
 * text is the JSON of one message or of an array. What else speaks the protocol has the same form, so nobody need know which it is.
 *
 * `told(works)` says whether the gateway is heard: with each message, and at the end, which was no orderly one where it is
 * `false` and that of this side where it is `undefined`. A proxy may let no handshake through, nothing behind it, or that not for long.
 *
 * The token goes in as a subprotocol: a URL stands in the logs of proxies. Without a token the cookie has to do.
 */
export function webSocket(Socket, url, token, told) {
  const socket = token === undefined ? new Socket(url) : new Socket(url, ['realtime', `bearer.${token}`]);
  const transport = {
    send: (text) => socket.send(text),
    close: () => {
      told?.();
      told = undefined;
      socket.close(1000);
    },
  };
  const end = ({ code, reason = '' }) => {
    code ||= 1006; // Deno says 0
    told?.(code !== 1006);
    told = undefined;
    transport.onclose?.({ code, reason });
    transport.onclose = undefined;
  };
  socket.onopen = () => (socket.onerror = () => {});
  socket.onmessage = ({ data }) => {
    told?.(true);
    transport.onmessage?.(data);
  };
  socket.onclose = end;
  socket.onerror = () => end({}); // Node 22 closes no socket that was never open
  return transport;
}
