/**
 * A transport: `send(text)`, `close()`, and the callbacks `onmessage(text)` and `onclose({ code, reason })`. Each
 * text is the JSON of one message or of an array. What else speaks the protocol has the same form, so nobody need know which it is.
 *
 * `told(works)` says once whether the gateway was heard: a proxy may let no handshake through, or nothing behind it. With
 * `undefined` it was left before that.
 *
 * The token goes in as a subprotocol: a URL stands in the logs of proxies. Without a token the cookie has to do.
 */
export function webSocket(Socket, url, token, told) {
  const socket = token === undefined ? new Socket(url) : new Socket(url, ['realtime', `bearer.${token}`]);
  const tell = (works) => {
    told?.(works);
    told = undefined;
  };
  const transport = {
    send: (text) => socket.send(text),
    close: () => {
      tell();
      socket.close(1000);
    },
  };
  const end = ({ code, reason = '' }) => {
    code ||= 1006; // Deno says 0
    tell(code !== 1006);
    transport.onclose?.({ code, reason });
    transport.onclose = undefined;
  };
  socket.onopen = () => (socket.onerror = () => {});
  socket.onmessage = ({ data }) => {
    tell(true);
    transport.onmessage?.(data);
  };
  socket.onclose = end;
  socket.onerror = () => end({}); // Node 22 closes no socket that was never open
  return transport;
}
