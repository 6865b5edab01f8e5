// A chat room that makes the calls of the serverless sample: the application is HTTP functions and a table, and speaks the
// ancestor of the protocol. There was no SDK for it, so its requests are made by hand, as the sample's helper makes them.
//
// The configuration has templates that lead to http://127.0.0.1:$CHATR_CHATROOM/{hub}/api/{category}/{event} for the hubs
// advanced_chat_demo and _default.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, before, describe, test } from "node:test";
import WebSocket from "ws";
import { endpoints, eventually, Inbox, required, within } from "./lib.mjs";

const HUB = "advanced_chat_demo";
const base64 = (text) => Buffer.from(text).toString("base64url");

// Service is the sample's helper for REST.
class Service {
  constructor(connectionString) {
    const [, endpoint, key, port] = /Endpoint=(.*?);AccessKey=(.*?);Port=(.*?);/.exec(connectionString);
    this.host = endpoint; // without a port, also in audiences
    this.base = `${endpoint}:${port}/ws/api/v1/hubs/${HUB}/`;
    this.audience = `${endpoint}/ws/api/v1/hubs/${HUB}/`;
    this.key = key;
  }

  async call(method, path = "", body = undefined) {
    const [route] = path.split("?");
    const now = Math.floor(Date.now() / 1000);
    const claims = `${base64('{"alg":"HS256","typ":"JWT"}')}.${base64(JSON.stringify({ aud: this.audience + route, iat: now, exp: now + 60 }))}`;
    const token = `${claims}.${createHmac("sha256", this.key).update(claims).digest("base64url")}`;
    const headers = { Authorization: `Bearer ${token}`, "Content-Type": "text/plain" };
    return (await fetch(this.base + path, { method, headers, body })).status;
  }

  broadcast = (text) => this.call("POST", "", text);
  toUser = (user, text) => this.call("POST", `users/${encodeURIComponent(user)}`, text);
  toGroup = (group, text) => this.call("POST", `groups/${encodeURIComponent(group)}`, text);
  join = (group, user) => this.call("PUT", `groups/${encodeURIComponent(group)}/users/${encodeURIComponent(user)}`);
  leave = (group, user) => this.call("DELETE", `groups/${encodeURIComponent(group)}/users/${encodeURIComponent(user)}`);
  hasUser = async (user) => (await this.call("HEAD", `users/${encodeURIComponent(user)}`)) === 200;
  hasGroup = async (group) => (await this.call("HEAD", `groups/${encodeURIComponent(group)}`)) === 200;
}

// ChatRoom is the application.
class ChatRoom {
  users = new Set(); // the sample's table
  rooms = new Map();
  problems = [];

  constructor(service) {
    this.service = service;
    this.server = createServer(async (request, response) => {
      try {
        let body = "";
        for await (const chunk of request) body += chunk;
        await this.#handle(request, body, response);
      } catch (problem) {
        this.problems.push(problem);
        response.writeHead(500).end();
      }
    });
  }

  async #handle(request, body, response) {
    const h = request.headers;
    const [, hub, , category, event] = request.url.split("/");
    assert.equal(request.method, "POST");
    assert.equal(h["x-asrs-hub"], hub);
    assert.equal(h["x-asrs-category"], category);
    assert.equal(h["x-asrs-event"], event);
    const code = createHmac("sha256", this.service.key).update(h["x-asrs-connection-id"]).digest("hex");
    assert.ok(h["x-asrs-signature"].split(",").includes(`sha256=${code}`), "the signature is the service's");
    assert.ok(h["x-forwarded-for"] && h.date);
    const query = new URLSearchParams(h["x-asrs-client-query"]);
    switch (`${category}/${event}`) {
      case "connections/connect":
        return this.#connect(query.get("name"), h["sec-websocket-protocol"], response);
      case "messages/message":
        assert.equal(h["content-type"], "text/plain");
        return this.#message(h["x-asrs-user-id"], JSON.parse(body), response);
      case "connections/disconnect":
        assert.equal(body, "");
        this.users.delete(h["x-asrs-user-id"]);
        return response.end();
      default:
        throw new Error(`${request.url} was not expected`);
    }
  }

  #connect(name, offered, response) {
    if (this.users.has(name)) return response.writeHead(409, { "Content-Type": "text/plain" }).end("this name is taken");
    const headers = { "x-asrs-connection-group": ["everybody", "lobby"] };
    if (name) headers["x-asrs-user-id"] = name;
    if (offered) headers["sec-websocket-protocol"] = offered.split(",")[1].trim();
    if (name) this.users.add(name);
    response.writeHead(200, headers).end(JSON.stringify({ users: [...this.users], rooms: [...this.rooms.keys()] }));
  }

  async #message(user, { to, room, text, join, leave }, response) {
    const { service } = this;
    if (join) {
      this.rooms.set(join, true);
      await service.join(join, user);
      await service.toGroup(join, `${user} joined ${join}`);
      return response.end();
    }
    if (leave) {
      await service.leave(leave, user);
      return response.end(JSON.stringify({ left: leave }));
    }
    if (to && !(await service.hasUser(to))) {
      return response.writeHead(200, { "Content-Type": "application/json; charset=utf-8" }).end(JSON.stringify({ error: `${to} is not there` }));
    }
    if (to) await service.toUser(to, `${user}: ${text}`);
    else if (room) await service.toGroup(room, `${user}@${room}: ${text}`);
    else await service.broadcast(`${user} to all: ${text}`);
    response.writeHead(200, { "Content-Type": "text/plain; charset=utf-8" }).end("sent");
  }
}

describe("chat room", { timeout: 600_000 }, () => {
  // The sample wants Port= in its connection string and never puts a port into an audience.
  const [, host, port, key] = /Endpoint=(http:\/\/[^:;]+):(\d+);AccessKey=([^;]+)/.exec(endpoints.http);
  const service = new Service(`Endpoint=${host};AccessKey=${key};Port=${port};Version=1.0;`);
  const chat = new ChatRoom(service);

  before(async () => {
    chat.server.listen(Number(required("CHATR_CHATROOM")), "127.0.0.1");
    await once(chat.server, "listening");
  });
  after(() => new Promise((resolve) => {
    chat.server.close(resolve);
    chat.server.closeAllConnections();
  }));

  // enter opens a person's socket and returns it with its first frame.
  async function enter(name, path = `/ws/client/hubs/${HUB}/`, protocols = ["protocol1", "protocol2"]) {
    const separator = path.includes("?") ? "&" : "?";
    const ws = new WebSocket(`${host.replace("http", "ws")}:${port}${path}${separator}name=${name}`, protocols);
    const frames = new Inbox();
    ws.on("message", (data, binary) => frames.put(binary ? data : data.toString()));
    await within(once(ws, "open"), `${name} enters`);
    const say = (what) => ws.send(JSON.stringify(what));
    const leave = async () => {
      ws.close();
      await within(once(ws, "close"), `${name} leaves`);
      await eventually(() => !chat.users.has(name), `the application knows that ${name} has left`);
    };
    return { ws, frames, say, leave, first: JSON.parse(await frames.next("first frame")) };
  }

  //checklist:E15
  test("the answer to connect picks a subprotocol, names the user, joins groups and is the first frame", async () => {
    const ana = await enter("ana");
    assert.equal(ana.ws.protocol, "protocol2");
    assert.deepEqual(ana.first, { users: ["ana"], rooms: [] });
    assert.equal(await service.hasUser("ana"), true);
    assert.equal(await service.toGroup("lobby", "hello lobby"), 202);
    assert.equal(await ana.frames.next(), "hello lobby");
    await ana.leave();
    await eventually(async () => !(await service.hasUser("ana")), "the service has forgotten ana");
    assert.deepEqual(chat.problems, []);
  });

  //checklist:E15
  test("a refusal comes back with its text, and nobody without a name comes in", async () => {
    const ana = await enter("ana");
    for (const [query, status, text] of [["?name=ana", 409, /this name is taken/], ["", 401, /which user/]]) {
      const ws = new WebSocket(`${host.replace("http", "ws")}:${port}/ws/client/hubs/${HUB}/${query}`);
      ws.on("error", () => {});
      const [, response] = await within(once(ws, "unexpected-response"), "refusal");
      let body = "";
      for await (const chunk of response) body += chunk;
      assert.equal(response.statusCode, status);
      assert.match(body, text);
    }
    await ana.leave();
    assert.deepEqual(chat.problems, []);
  });

  //checklist:E15
  test("people talk to all, to a room and to one another", async () => {
    const [ana, bob] = [await enter("ana"), await enter("bob")];
    ana.say({ text: "hi" });
    const heard = [await ana.frames.next(), await ana.frames.next()];
    assert.deepEqual(heard.sort(), ["ana to all: hi", "sent"]);
    assert.equal(await bob.frames.next(), "ana to all: hi");

    ana.say({ join: "tea & cake/1" });
    assert.equal(await ana.frames.next(), "ana joined tea & cake/1");
    bob.say({ room: "tea & cake/1", text: "may I?" });
    assert.equal(await ana.frames.next(), "bob@tea & cake/1: may I?");
    assert.equal(await bob.frames.next(), "sent");

    bob.say({ to: "ana", text: "psst" });
    assert.equal(await ana.frames.next(), "bob: psst");
    assert.equal(await bob.frames.next(), "sent");
    bob.say({ to: "zoe", text: "?" });
    assert.deepEqual(JSON.parse(await bob.frames.next()), { error: "zoe is not there" });

    ana.say({ leave: "tea & cake/1" });
    assert.deepEqual(JSON.parse(await ana.frames.next()), { left: "tea & cake/1" });
    assert.equal(await service.hasGroup("tea & cake/1"), false);
    await Promise.all([ana.leave(), bob.leave()]);
    assert.deepEqual(chat.problems, []);
  });

  //checklist:E15
  test("who was added to a room is in it after coming back", async () => {
    let ana = await enter("ana");
    ana.say({ join: "reading" });
    assert.equal(await ana.frames.next(), "ana joined reading");
    await ana.leave();
    ana = await enter("ana");
    assert.equal(await service.toGroup("reading", "chapter 2"), 202);
    assert.equal(await ana.frames.next(), "chapter 2");
    assert.equal(await service.leave("reading", "ana"), 200);
    await ana.leave();
    ana = await enter("ana");
    assert.equal(await service.hasGroup("reading"), false);
    await ana.leave();
    assert.deepEqual(chat.problems, []);
  });

  //checklist:E15
  test("the other addresses lead to the same place, or to the default hub", async () => {
    for (const path of ["/ws/client", "/ws/client/", `/ws/client?hub=${HUB}`, `/ws/client/?hub=${HUB}`, `/ws/client/hubs/${HUB}`]) {
      const ana = await enter("ana", path);
      assert.deepEqual(ana.first.users, ["ana"], path);
      assert.equal(await service.hasUser("ana"), path.includes(HUB), path);
      await ana.leave();
    }
    assert.deepEqual(chat.problems, []);
  });
});
