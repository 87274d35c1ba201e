/**
 * A transport: `send(text)`, `close()`, and the callbacks `onopen`, `onmessage(text)` and `onclose({ code, reason })`. Each
 * text is the JSON of one message or of an array. What else speaks the protocol has the same form, so nobody need know which it is.
 *
 * The token goes in as a subprotocol: a URL stands in the logs of proxies. Without a token the cookie has to do.
 */
export function webSockets(Socket) {
  return (url, token) => {
    const socket = token === undefined ? new Socket(url) : new Socket(url, ['realtime', `bearer.${token}`]);
    const transport = {
      send: (text) => socket.send(text),
      close: () => socket.close(1000),
    };
    socket.onopen = () => transport.onopen?.();
    socket.onmessage = ({ data }) => transport.onmessage?.(data);
    socket.onclose = ({ code, reason }) => transport.onclose?.({ code, reason });
    socket.onerror = () => {}; // a close follows; the package `ws` throws an error that nobody listens to
    return transport;
  };
}
