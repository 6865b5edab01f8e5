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
    typing: (...args) => heard.push(["typing", ...args]),
    server: (...args) => heard.push(["server", ...args]),
    event: (e) => heard.push(["event", e.roomId, e.number, e.kind, e.text]),
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
  const event = (number: number, more: object = {}) => ({ roomId: "hike", number, kind: "message", userId: "bob", userName: "Bob", seq: 1, key: "k", at: "2026-11-30T12:00:00.000Z", ...more });
  message({ from: "server", data: "text" });
  message({ from: "server", data: { chatEvent: 1, data: "x" } });
  message({ from: "group", group: "hike", fromUserId: "bob", data: { message: "hi", fromUserId: "eve", key: "k" } }); // of an original client
  message({ from: "group", group: "hike", dataType: "text", data: "Bob has joined" }); // a notice
  message({ from: "group", group: "hike", fromUserId: "eve", data: { notificationType: "MessageCreated", event: event(1), message: "posing as the service" } });
  message({ from: "group", group: "hike", data: { event: { roomId: "hike", number: "2", kind: "message" } } });
  message({ from: "group", group: "hike", data: { event: { ...event(2), at: "never" } } });
  message({ from: "group", group: "hike", data: { notificationType: "MessageCreated", body: {}, message: "hi", fromUserId: "bob", event: event(3) } });
  message({ from: "server", data: { notificationType: "RoomMemberJoined", body: {}, event: event(4, { kind: "joined" }) } });
  const typing = (userId: string) => ({ notificationType: "RoomMemberTyping", body: { roomId: "hike", userId, typing: true } });
  message({ from: "group", group: "typing.hike", fromUserId: "eve", data: typing("bob") });
  message({ from: "group", group: "typing.hike", data: typing("cid") });
  message({ from: "server", data: { chatEvent: "userOffline", data: "bob" } });
  await until(() => heard.length >= 4);
  expect(heard).toEqual([["event", "hike", 3, "message", "hi"], ["event", "hike", 4, "joined", undefined], ["typing", "hike", "cid", true], ["server", "userOffline", "bob"]]);
});

it("returns what an event is answered, and a refusal in the server's words", async () => {
  answer = (frame, socket) => {
    if (frame.type !== "invoke") return;
    const { invocationId, event } = frame;
    if (event === "no") send(socket, { type: "invokeResponse", invocationId, success: false, error: { name: "NoPermissionInRoom", message: "you are muted" } });
    else send(socket, { type: "invokeResponse", invocationId, success: true, dataType: "json", data: { seq: 1, number: 2 } });
  };
  const c = connect();
  await until(() => states.at(-1) === "online");
  expect(await c.invoke("sendMessage", {})).toEqual({ seq: 1, number: 2 });
  const refusal = await c.invoke("no", {}).catch((err: unknown) => err);
  expect(refusal).toBeInstanceOf(Refused);
  expect((refusal as Error).message).toBe("you are muted");
});

it("counts a server as away that does not answer pings, and as back when something is heard", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval"] });
  try {
    answer = () => undefined;
    connect();
    await vi.waitFor(() => expect(states.at(-1)).toBe("online"));
    await vi.advanceTimersByTimeAsync(10_000);
    expect(states).toEqual(["online", "reconnecting"]);
    send(sockets[0]?.socket as WebSocket, { type: "pong" });
    await vi.waitFor(() => expect(states).toEqual(["online", "reconnecting", "online"]));
  } finally {
    vi.useRealTimers();
  }
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
  await expect(c.sendEvent("joinChat", "hike", "text")).rejects.toBeInstanceOf(Lost);
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
