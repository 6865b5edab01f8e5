// The real SDK against a real socket: what the page believes about the connection hangs on how the SDK behaves.

import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { WebSocketServer, type WebSocket } from "ws";
import { ApiError } from "./api";
import { Connection, Lost, Refused, type LinkState } from "./connection";

type Frame = Record<string, unknown> & { ackId?: number };

let server: WebSocketServer;
let sockets: { socket: WebSocket; url: string }[];
let answer: (frame: Frame, socket: WebSocket) => void;
let connection: Connection | undefined;
let states: LinkState[];
let heard: unknown[][];

function send(socket: WebSocket, frame: object): void {
  socket.send(JSON.stringify(frame));
}

beforeEach(async () => {
  sockets = [];
  states = [];
  heard = [];
  answer = (frame, socket) => {
    if (frame.ackId) send(socket, { type: "ack", ackId: frame.ackId, success: true });
  };
  server = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  server.on("connection", (socket, request) => {
    sockets.push({ socket, url: request.url ?? "" });
    send(socket, { type: "system", event: "connected", userId: "ada", connectionId: "c1", reconnectionToken: "t1" });
    socket.on("message", (raw) => answer(JSON.parse(String(raw)) as Frame, socket));
  });
  await new Promise((resolve) => server.once("listening", resolve));
});

afterEach(async () => {
  connection?.stop();
  for (const { socket } of sockets) socket.terminate();
  await new Promise((resolve) => server.close(resolve));
});

function connect(negotiate?: () => Promise<string>): Connection {
  const { port } = server.address() as AddressInfo;
  connection = new Connection(negotiate ?? (async () => `ws://127.0.0.1:${port}/client/hubs/chat?access_token=x`), {
    state: (s) => states.push(s),
    server: (...args) => heard.push(["server", ...args]),
    said: (...args) => heard.push(["said", ...args]),
    ended: () => heard.push(["ended"]),
  });
  connection.start();
  return connection;
}

const until = (what: () => unknown) => vi.waitFor(() => expect(what()).toBeTruthy(), { timeout: 50_000, interval: 10 });

it("tells when a lost socket is being recovered and when it is", async () => {
  connect();
  await until(() => states.at(-1) === "online");
  sockets[0]?.socket.terminate();
  await until(() => states.includes("reconnecting") && states.at(-1) === "online");
  expect(states).toEqual(["online", "reconnecting", "online"]);
  expect(sockets[1]?.url).toContain("awps_connection_id=c1");
});

it("passes on what the server and people say, and nothing malformed", async () => {
  connect();
  await until(() => states.at(-1) === "online");
  const socket = sockets[0]?.socket as WebSocket;
  let sequenceId = 0;
  const message = (frame: object) => send(socket, { type: "message", dataType: "json", sequenceId: ++sequenceId, ...frame });
  message({ from: "server", data: "text" });
  message({ from: "server", data: { chatEvent: 1, data: "x" } });
  message({ from: "group", group: "hike", fromUserId: "bob", data: { message: 5 } });
  message({ from: "group", group: "hike", dataType: "text", data: "Bob has joined" }); // a notice
  message({ from: "group", group: "hike", data: { message: "posing as a notice" } });
  message({ from: "group", group: "hike", data: { notificationType: "RoomMemberJoined", body: { userId: "eve" } } });
  message({ from: "group", group: "hike", data: { notificationType: "MessageCreated", body: {}, message: "by a client", fromUserId: "cid", fromUserName: "Cid", key: "m" } });
  message({ from: "group", group: "hike", fromUserId: "bob", data: { message: "hi", fromUserId: "eve", fromUserName: "Eve", key: "k" } });
  message({ from: "server", data: { chatEvent: "userOffline", data: "bob" } });
  await until(() => heard.length >= 3);
  expect(heard).toEqual([["said", "hike", "cid", "by a client", "m"], ["said", "hike", "bob", "hi", "k"], ["server", "userOffline", "bob"]]);
});

it("gives a refusal in the server's words", async () => {
  answer = (frame, socket) => {
    if (!frame.ackId) return;
    const data = { chatEvent: "error", data: JSON.stringify({ event: frame.event, message: "the title is empty" }) };
    send(socket, { type: "message", from: "server", dataType: "json", sequenceId: 1, data });
    send(socket, { type: "ack", ackId: frame.ackId, success: false, error: { name: "InternalServerError", message: "handler failed" } });
  };
  const c = connect();
  await until(() => states.at(-1) === "online");
  const refusal = await c.sendEvent("createChat", { name: "" }, "json").catch((err: unknown) => err);
  expect(refusal).toBeInstanceOf(Refused);
  expect((refusal as Error).message).toBe("the title is empty");
  expect(heard).toEqual([]);
});

it("calls what was not answered lost, not refused", async () => {
  answer = (_frame, socket) => socket.terminate();
  const c = connect();
  await until(() => states.at(-1) === "online");
  await expect(c.sendText("hike", "hi", "k", { userId: "ada", userName: "Ada" })).rejects.toBeInstanceOf(Lost);
});

it("comes back with a new connection when the old one is gone for good", async () => {
  let asked = 0;
  const { port } = server.address() as AddressInfo;
  connect(async () => `ws://127.0.0.1:${port}/?n=${++asked}`);
  await until(() => states.at(-1) === "online");
  sockets[0]?.socket.close(1008, "unknown connection");
  await until(() => asked === 2 && states.at(-1) === "online");
  expect(states).toEqual(["online", "reconnecting", "online"]);
});

it("keeps trying when the first attempt fails", async () => {
  let asked = 0;
  const { port } = server.address() as AddressInfo;
  connect(async () => {
    if (++asked === 1) throw new ApiError(503, "away");
    return `ws://127.0.0.1:${port}/`;
  });
  await until(() => states.at(-1) === "online");
  expect(asked).toBe(2);
});

it("ends when the session has", async () => {
  connect(async () => {
    throw new ApiError(401, "sign in first");
  });
  await until(() => heard.length);
  expect(heard).toEqual([["ended"]]);
  expect(states).toEqual(["closed"]);
});
