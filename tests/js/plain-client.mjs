// A client as existing front ends have it: the class of the wire contract, word for word but for the
// address, and an application that subscribes when the gateway says hello.
//
// Usage: node plain-client.mjs URL TOKEN CHANNEL…

import { obey, report } from './tap.mjs';

const [address, token, ...channels] = process.argv.slice(2);

class WebSocketClient {
  constructor(token) {
    this.token = token;
    this.reconnectAttempts = 0;
    this.maxReconnectAttempts = 5;
    this.reconnectDelay = 1000; // 1秒
    this.connect();
  }

  connect() {
    try {
      this.ws = new WebSocket(`${address}?token=${this.token}`);

      this.ws.onopen = () => {
        console.log('WebSocket connected');
        this.reconnectAttempts = 0;
      };

      this.ws.onclose = () => {
        console.log('WebSocket disconnected');
        this.handleReconnect();
      };

      this.ws.onerror = (error) => {
        console.error('WebSocket error:', error);
      };

      this.ws.onmessage = (event) => {
        const message = JSON.parse(event.data);
        this.handleMessage(message);
      };
    } catch (error) {
      console.error('Failed to connect:', error);
      this.handleReconnect();
    }
  }

  handleReconnect() {
    if (this.reconnectAttempts < this.maxReconnectAttempts) {
      this.reconnectAttempts++;
      const delay = this.reconnectDelay * Math.pow(2, this.reconnectAttempts - 1);

      setTimeout(() => {
        console.log(`Reconnecting... (attempt ${this.reconnectAttempts})`);
        this.connect();
      }, delay);
    } else {
      console.error('Max reconnection attempts reached');
    }
  }

  handleMessage(message) {
    switch (message.type) {
      case 'run-results':
        this.onRunResult(message.data);
        break;
      case 'notifications':
        this.onNotification(message.data);
        break;
      case 'heartbeat':
        this.onHeartbeat(message);
        break;
      default:
        console.log('Unknown message type:', message.type);
    }
  }

  subscribe(channel) {
    this.ws.send(
      JSON.stringify({
        type: 'subscribe',
        channel: channel,
      }),
    );
  }

  unsubscribe(channel) {
    this.ws.send(
      JSON.stringify({
        type: 'unsubscribe',
        channel: channel,
      }),
    );
  }

  sendHeartbeat() {
    this.ws.send(
      JSON.stringify({
        type: 'heartbeat',
      }),
    );
  }
}

// -- the application --------------------------------------------------------------------------

class Application extends WebSocketClient {
  handleMessage(message) {
    if (message.type === 'connected') {
      for (const channel of channels) this.subscribe(channel);
    }
    super.handleMessage(message);
  }

  onRunResult(data) {
    report('run-result', { data });
  }

  onNotification(data) {
    report('notification', { data });
  }

  onHeartbeat({ timestamp }) {
    report('heartbeat', { timestamp });
  }
}

const client = new Application(token);

await obey({ heartbeat: () => client.sendHeartbeat() });
