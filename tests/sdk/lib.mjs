// What the tests share: where the service is, sockets that are read frame by frame, a network that can be cut.

import { once } from "node:events";
import net from "node:net";
import { WebPubSubServiceClient } from "@azure/web-pubsub";
import WebSocket from "ws";

export const JSON_PROTOCOL = "json.webpubsub.azure.v1";

// The same service over http and https. The https one's certificate is trusted by NODE_EXTRA_CA_CERTS.
export const endpoints = {
  get http() {
    return required("CHATR_HTTP");
  },
  get https() {
    return required("CHATR_HTTPS");
  },
};

export function required(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set; sdk_test.go sets it`);
  return value;
}

export function serviceClient(connectionString, hub) {
  return new WebPubSubServiceClient(connectionString, hub, {
    allowInsecureConnection: connectionString.includes("Endpoint=http://"),
    retryOptions: { maxRetries: 0 }, // a test should see the first answer
  });
}

// within rejects when promise takes longer than a healthy service ever needs on the busiest machine. Limits only end
// tests that hang: no result may depend on them.
export function within(promise, what, milliseconds = 60_000) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing within ${milliseconds} ms`)), milliseconds);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// eventually waits until check() is true.
export async function eventually(check, what, milliseconds = 60_000) {
  const end = Date.now() + milliseconds;
  while (!(await check())) {
    if (Date.now() > end) throw new Error(`${what}: not within ${milliseconds} ms`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

// Inbox keeps what arrives until it is asked for, in order.
export class Inbox {
  #waiting = [];
  #arrived = [];

  put(value) {
    const reader = this.#waiting.shift();
    if (reader) reader(value);
    else this.#arrived.push(value);
  }

  next(what = "message") {
    if (this.#arrived.length > 0) return Promise.resolve(this.#arrived.shift());
    return within(new Promise((resolve) => this.#waiting.push(resolve)), what);
  }

  get size() {
    return this.#arrived.length;
  }
}

// RawSocket is a WebSocket whose frames are seen as they are: text as a string, binary as a Buffer.
export class RawSocket {
  #frames = new Inbox();

  static async open(url, protocol) {
    const socket = new RawSocket(url, protocol);
    await within(once(socket.ws, "open"), "handshake");
    if (protocol) socket.connected = JSON.parse(await socket.frame());
    return socket;
  }

  constructor(url, protocol) {
    this.ws = new WebSocket(url, protocol ? [protocol] : []);
    this.ws.on("message", (data, isBinary) => this.#frames.put(isBinary ? data : data.toString()));
    this.closed = new Promise((resolve) => this.ws.on("close", (code, reason) => resolve({ code, reason: reason.toString() })));
  }

  get id() {
    return this.connected.connectionId;
  }

  frame() {
    return this.#frames.next("frame");
  }

  get pending() {
    return this.#frames.size;
  }

  // settled resolves when everything sent to this socket before has arrived.
  async settled() {
    this.ws.send(JSON.stringify({ type: "ping" }));
    const before = [];
    for (;;) {
      const frame = await this.frame();
      if (frame === '{"type":"pong"}') return before;
      before.push(frame);
    }
  }

  async close() {
    this.ws.close();
    await within(this.closed, "close");
  }
}

// refusal is the HTTP status with which a handshake is refused.
export async function refusal(url, protocol) {
  const ws = new WebSocket(url, protocol ? [protocol] : []);
  const status = new Promise((resolve, reject) => {
    ws.on("unexpected-response", (_, response) => resolve(response));
    ws.on("open", () => reject(new Error("the handshake succeeded")));
  });
  ws.on("error", () => {});
  const response = await within(status, "refusal");
  let body = "";
  for await (const chunk of response) body += chunk;
  return { status: response.statusCode, body };
}

// Wire is a TCP proxy in front of the service, so that a test can cut what runs through it.
export class Wire {
  #sockets = new Set();
  #server = net.createServer((near) => this.#join(near));

  static async to(target) {
    const wire = new Wire();
    wire.target = new URL(target);
    wire.#server.listen(0, "127.0.0.1");
    await once(wire.#server, "listening");
    return wire;
  }

  // through returns url with the port of this proxy. TLS passes, so the name must stay the certificate's.
  through(url) {
    const u = new URL(url);
    u.port = String(this.#server.address().port);
    return u.toString();
  }

  #join(near) {
    if (this.refusing) return near.destroy();
    const port = this.target.port || (this.target.protocol === "https:" ? 443 : 80);
    const far = net.connect(Number(port), this.target.hostname);
    for (const [a, b] of [[near, far], [far, near]]) {
      this.#sockets.add(a);
      a.pipe(b);
      a.on("error", () => b.destroy());
      a.on("close", () => {
        this.#sockets.delete(a);
        b.destroy();
      });
    }
  }

  // cut breaks every connection without a close frame.
  cut() {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  async close() {
    this.cut();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
