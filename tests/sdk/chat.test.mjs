// The chat protocol of the official chat client, over the transport that it is made of: what its own tests expect, with
// two gateways where there are two, and a network that breaks in the middle of a conversation.

import assert from "node:assert/strict";
import { createHmac, randomUUID } from "node:crypto";
import { once } from "node:events";
import http from "node:http";
import { after, before, describe, test } from "node:test";
import * as v1_0 from "web-pubsub-client-1.0";
import * as v1_1 from "web-pubsub-client-1.1";
import { ChatClient, ChatError } from "./chat-client.mjs";
import { eventually, Inbox, required, serviceClient, Wire, within } from "./lib.mjs";

// Connection strings of two fronts, of different gateways if there are several.
const fronts = [required("CHATR_CHAT_A"), required("CHATR_CHAT_B")];
const services = fronts.map((front) => serviceClient(front, "chat"));

for (const [version, sdk] of Object.entries({ "1.0": v1_0, "1.1": v1_1 })) {
  describe(`chat over client ${version}`, { timeout: 600_000 }, () => {
    const started = [];
    let negotiator, turn = 0;

    // What an application has: a page that asks the server for an address under which it is somebody.
    before(async () => {
      negotiator = http.createServer(async (request, response) => {
        const userId = new URL(request.url, "http://localhost").searchParams.get("userId");
        const { url } = await services[turn++ % services.length].getClientAccessToken({ userId });
        response.setHeader("Content-Type", "application/json");
        response.end(JSON.stringify({ url }));
      });
      negotiator.listen(0, "127.0.0.1");
      await once(negotiator, "listening");
    });
    after(() => {
      for (const client of started) client.stop();
      negotiator.close();
    });

    const someone = (name) => `${name}-${randomUUID().slice(0, 8)}`;

    async function negotiate(userId) {
      const response = await fetch(`http://127.0.0.1:${negotiator.address().port}/negotiate?userId=${encodeURIComponent(userId)}`);
      return (await response.json()).url;
    }

    async function start(userId = someone("user"), { through } = {}) {
      const client = new ChatClient(sdk, async () => {
        const url = await negotiate(userId);
        return through ? through.through(url) : url;
      });
      client.heard = [];
      client.on("MessageCreated", ({ message }) => client.heard.push(message));
      client.joined = [];
      client.on("RoomJoined", ({ roomId }) => client.joined.push(roomId));
      client.on("connected", ({ connectionId }) => (client.connectionId = connectionId));
      started.push(client);
      await within(client.start(), "start");
      return client;
    }

    // settled waits until a client has heard n messages, and then long enough for one too many to come after them: a
    // message of somebody's own goes the same way and comes last.
    async function heard(client, n) {
      await eventually(() => client.heard.length >= n, `${n} messages`);
      await client.invoke("chat.login", "", "text");
      assert.equal(client.heard.length, n);
    }

    async function fails(promise, code) {
      await assert.rejects(promise, (error) => error instanceof ChatError && (assert.equal(error.code, code), true));
    }

    // checklist:H01
    test("the same user stops and starts again", async () => {
      const sender = await start();
      let receiver = await start();
      const { userId } = receiver;
      const room = await sender.createRoom("again", [userId]);
      await sender.send(room.roomId, "first");
      await heard(receiver, 1);
      await receiver.stop();

      receiver = await start(userId);
      assert.equal(receiver.userId, userId);
      assert.ok(receiver.rooms.has(room.roomId), "the room is there after the start");
      await sender.send(room.roomId, "second");
      await heard(receiver, 1);
      assert.equal(receiver.heard[0].content.text, "second");
    });

    // checklist:H05 H07
    test("two clients of one user", async () => {
      const shared = someone("shared");
      const admin = await start();
      const { roomId } = await admin.createRoom("shared", [shared]); // who has never been here
      const [sender, watcher] = [await start(shared), await start(shared)];
      for (const client of [sender, watcher]) assert.ok(client.rooms.has(roomId));
      const id = await sender.send(roomId, "hello");
      await heard(watcher, 1);
      await heard(sender, 1); // its own, by itself
      assert.deepEqual([watcher.heard[0].messageId, watcher.heard[0].createdBy, watcher.heard[0].content.text], [id, shared, "hello"]);
    });

    // checklist:H02 H03
    test("a room of one", async () => {
      const client = await start();
      const roomId = someone("room");
      const created = await client.createRoom("single", [], roomId);
      assert.deepEqual([created.roomId, created.title, created.members], [roomId, "single", [client.userId]]);
      const fetched = await client.getRoom(roomId);
      assert.deepEqual(fetched, created);
    });

    // checklist:H03 H05 H06 H07
    test("a room of three, its history and its pages", async () => {
      const clients = [await start(), await start(), await start()];
      const { roomId } = await clients[0].createRoom("three", clients.slice(1).map((c) => c.userId));
      for (let i = 1; i <= 5; i++) assert.equal(await clients[0].send(roomId, `Message #${i}`), String(i));
      const all = [];
      for await (const page of clients[0].pages(roomId, { start: "0" })) all.push(...page);
      assert.deepEqual(all.map((m) => [m.messageId, m.content.text]), [5, 4, 3, 2, 1].map((i) => [String(i), `Message #${i}`]));

      const pages = [];
      for await (const page of clients[1].pages(roomId, { start: "0", size: 2 })) pages.push(page.map((m) => m.messageId));
      assert.deepEqual(pages, [["5", "4"], ["3", "2"], ["1"]]);
      for (const client of clients) {
        await heard(client, 5);
        assert.deepEqual(client.joined, [roomId]);
      }
    });

    // checklist:H04
    test("who is added may speak at once, and the ids go on across senders", async () => {
      const clients = [await start(), await start(), await start()];
      const { roomId } = await clients[0].createRoom("adding", []);
      for (const added of clients.slice(1)) await clients[0].addUser(roomId, added.userId);
      for (let i = 1; i < clients.length; i++) {
        await eventually(() => clients[i].rooms.has(roomId), "the added client is told of the room");
        assert.equal(await clients[i].send(roomId, `from ${i}`), String(i));
      }
      for (const client of clients) await heard(client, 2);
      assert.equal(await clients[0].send(roomId, "final"), "3");
      for (const client of clients) await heard(client, 3);
      assert.deepEqual(clients[0].received.filter((n) => n.notificationType === "RoomMemberJoined").map((n) => n.body.userId), clients.slice(1).map((c) => c.userId));

      await clients[0].removeUser(roomId, clients[2].userId);
      await eventually(() => !clients[2].rooms.has(roomId), "the removed client forgets the room");
      await fails(clients[2].invoke("chat.sendTextMessage", { conversation: { conversationId: clients[0].rooms.get(roomId).defaultConversationId }, content: "still here" }), "UserNotInRoom");
      await clients[0].send(roomId, "without them");
      await heard(clients[1], 4);
      assert.equal(clients[2].heard.length, 3);
      await eventually(() => clients[1].received.some((n) => n.notificationType === "RoomMemberLeft"), "the others learn who left");
    });

    // checklist:H04
    test("leaving, and adding oneself where one is", async () => {
      const client = await start();
      const { roomId } = await client.createRoom("mine", []);
      client.rooms.delete(roomId);
      client.joined.length = 0;
      await client.addUser(roomId, client.userId);
      assert.ok(client.rooms.has(roomId), "known again");
      assert.equal(await client.send(roomId, "still a member"), "1");
      assert.deepEqual(client.joined, []);
      await client.removeUser(roomId, client.userId);
      assert.ok(!client.rooms.has(roomId));
      await fails(client.getRoom(roomId), "UserNotInRoom");
    });

    // checklist:H08
    test("what is refused, and by what code", async () => {
      const [admin, member, stranger] = [await start(), await start(), await start()];
      const { roomId, defaultConversationId } = await admin.createRoom("codes", [member.userId], someone("room"));
      const conversation = { conversationId: defaultConversationId };
      await fails(admin.addUser(roomId, member.userId), "UserAlreadyInRoom");
      await fails(admin.removeUser(roomId, stranger.userId), "UserNotInRoom");
      await fails(member.removeUser(roomId, admin.userId), "NoPermissionInRoom");
      await fails(stranger.addUser(roomId, stranger.userId), "NoPermissionInRoom");
      await fails(stranger.getRoom(roomId), "UserNotInRoom");
      await fails(stranger.getRoom("nowhere"), "RoomNotFound");
      await fails(stranger.createRoom("taken", [], roomId), "RoomAlreadyExists");
      await fails(stranger.createRoom("", []), "InvalidRequest");
      await fails(stranger.invoke("chat.sendTextMessage", { conversation, content: "let me in" }), "UserNotInRoom");
      await fails(stranger.invoke("chat.queryMessageHistory", { conversation }), "UserNotInRoom");
      await fails(admin.invoke("chat.sendTextMessage", { conversation: { conversationId: "c.nowhere" }, content: "x" }), "InvalidConversationId");
      await fails(admin.invoke("chat.queryMessageHistory", { conversation, start: "latest" }), "InvalidMessageId");
      await fails(admin.invoke("chat.getUserProperties", { userId: stranger.userId }), "UnsupportedOperation");
      await admin.send(roomId, "only ours");
      await heard(member, 1);
      assert.deepEqual(stranger.received, []);
    });

    // checklist:H05
    test("two send at once", async () => {
      const [a, b] = [await start(), await start()];
      const { roomId } = await a.createRoom("race", [b.userId]);
      await eventually(() => b.rooms.has(roomId), "the room");
      const ids = await Promise.all([a, b].map(async (client) => {
        const own = [];
        for (let i = 0; i < 10; i++) own.push(Number(await client.send(roomId, `${i}`)));
        return own;
      }));
      assert.deepEqual(ids.flat().sort((x, y) => x - y), Array.from({ length: 20 }, (_, i) => i + 1));
      for (const client of [a, b]) {
        await heard(client, 20);
        assert.equal(new Set(client.heard.map((m) => m.messageId)).size, 20);
      }
    });

    // checklist:H07
    test("a network that breaks in the middle of a conversation", async () => {
      const wire = await Wire.to(services[0].endpoint);
      const [sender, receiver] = [await start(), await start(undefined, { through: wire })];
      const id = receiver.connectionId;
      const { roomId } = await sender.createRoom("cut", [receiver.userId]);
      await sender.send(roomId, "before");
      await heard(receiver, 1);
      wire.refusing = true;
      wire.cut();
      for (let i = 2; i <= 4; i++) await sender.send(roomId, `meanwhile ${i}`);
      assert.equal(receiver.heard.length, 1);
      wire.refusing = false;
      await eventually(() => receiver.heard.length >= 4, "what was said meanwhile");
      await heard(receiver, 4);
      assert.deepEqual(receiver.heard.map((m) => m.messageId), ["1", "2", "3", "4"]);
      assert.equal(receiver.connectionId, id, "the same connection, recovered");
      assert.equal(await receiver.send(roomId, "after"), "5");
      await wire.close();
    });

    // checklist:H01
    test("a new connection that does not log in again", async () => {
      const [sender, receiver] = [await start(), await start()];
      const { roomId } = await sender.createRoom("anew", [receiver.userId]);
      const id = receiver.connectionId;
      const again = once(receiver, "connected");
      await services[0].closeConnection(id);
      await within(again, "a new connection");
      assert.notEqual(receiver.connectionId, id);
      await sender.send(roomId, "hello again");
      await heard(receiver, 1);
      assert.equal(await receiver.send(roomId, "hello"), "2");
    });

    // checklist:H05 H06 H07
    test("a person with our own page in the same room", async () => {
      const client = await start();
      const origin = services[1].endpoint.replace(/\/$/, "");
      const signedIn = await fetch(`${origin}/.auth/login/guest`, { method: "POST", headers: { "Content-Type": "application/json" }, body: '{"name":"Ada"}' });
      const cookie = signedIn.headers.get("set-cookie").split(";")[0];
      const api = async (path, method = "GET") => (await fetch(origin + path, { method, headers: { cookie } })).json();
      const { userId } = (await api("/.auth/me")).clientPrincipal;
      const page = new sdk.WebPubSubClient({ getClientAccessUrl: async () => (await api("/api/negotiate", "POST")).url });
      const lines = new Inbox();
      page.on("group-message", ({ message }) => lines.put(message));
      await page.start();
      started.push(page);

      const { roomId } = await client.createRoom("Three doors", [userId]);
      const seen = await api(`/api/chats/${roomId}`);
      assert.deepEqual([seen.name, seen.kind, seen.state, Object.keys(seen.members).sort()], ["Three doors", "private", "joined", [client.userId, userId].sort()]);
      await client.send(roomId, "from a client");
      const line = await nextLine(lines);
      assert.deepEqual([line.group, line.fromUserId, line.data.message, line.data.fromUserId], [roomId, undefined, "from a client", client.userId]);

      await page.sendToGroup(roomId, { message: "from a page", key: "k1" }, "json"); // acked: it will be in the history
      await heard(client, 2);
      const { messageId, createdBy, content } = client.heard[1];
      assert.deepEqual([messageId, createdBy, content.text], ["2", userId, "from a page"]);

      const stored = (await api(`/api/chats/${roomId}/messages`)).messages;
      assert.deepEqual(stored.map((m) => [m.seq, m.userId, m.text]), [[1, client.userId, "from a client"], [2, userId, "from a page"]]);
      assert.equal(stored[0].key, line.data.key, "live and stored line are one");
      for await (const messages of client.pages(roomId)) assert.deepEqual(messages.map((m) => m.content.text), ["from a page", "from a client"]);

      // The other way: a public chat of the page is a room of the people who join it, and of nobody else.
      const id = randomUUID();
      await page.sendEvent("createChat", { id, name: "Open" }, "json");
      await fails(client.getRoom(id), "UserNotInRoom");
      await client.addUser(id, client.userId);
      assert.deepEqual((await client.getRoom(id)).members, [userId, client.userId]);
      assert.equal(await client.send(id, "hello"), "1");
      await page.sendEvent("leaveChat", { chatId: id }, "json");
      await eventually(() => client.received.some((n) => n.notificationType === "RoomMemberLeft" && n.body.roomId === id), "who left");
    });

    // checklist:H09 H10
    test("an application manages rooms, members, roles and messages by REST", async () => {
      const app = new ChatService(fronts[0]);
      const client = await start();
      const [roomId, role] = [someone("room"), `room.reader-${randomUUID().slice(0, 8)}`];
      const room = await app.put(`rooms/${roomId}`, { title: "By an application" }, 201, { "If-None-Match": "*" });
      assert.deepEqual([room.id, room.title], [roomId, "By an application"]);
      assert.deepEqual((await app.get(`rooms/${roomId}/members`)).value, []);
      await app.put(`rooms/${roomId}`, { title: "x" }, 412, { "If-None-Match": "*" });
      await app.put(`rooms/${roomId}/members/${client.userId}`, { roleName: "room.member" }, 201);
      await eventually(() => client.rooms.has(roomId), "the client is told");
      for (let i = 1; i <= 3; i++) assert.equal(await client.send(roomId, `line ${i}`), String(i));

      const messages = `conversations/${room.defaultConversation}/messages`;
      let page = await app.get(`${messages}?maxpagesize=2`);
      assert.deepEqual(page.value.map((m) => [m.id, m.createdBy, m.content.text]), [["3", client.userId, "line 3"], ["2", client.userId, "line 2"]]);
      page = await app.follow(page.nextLink);
      assert.deepEqual([page.value.map((m) => m.id), page.nextLink], [["1"], undefined]);
      const edited = await app.patch(`${messages}/1`, { createdBy: client.userId, content: { text: "better" } });
      assert.equal(edited.content.text, "better");
      await app.delete(`${messages}/2`);
      const history = [];
      for await (const messages of client.pages(roomId)) history.push(...messages.map((m) => m.content.text));
      assert.deepEqual(history, ["line 3", "better"]);
      await eventually(() => client.received.some((n) => n.notificationType === "MessageDeleted" && n.body.messageId === "2"), "the client is told of it");

      await app.put(`roles/${role}`, { permissions: ["room.history"] }, 201);
      await app.put(`rooms/${roomId}/members/${client.userId}`, { roleName: role }, 200);
      await fails(client.send(roomId, "may I?"), "NoPermissionInRoom");
      await app.delete(`rooms/${roomId}/members/${client.userId}`);
      await eventually(() => !client.rooms.has(roomId), "the client is told that it is out");
      const profile = await app.get(`users/${client.userId}`);
      assert.deepEqual([profile.kind, profile.id, profile.roleName], ["Human", client.userId, "user.normal"]);
      await app.delete(`rooms/${roomId}`);
      assert.equal((await app.get(`rooms/${roomId}`, 404)).code, "RoomNotFound");
      await app.delete(`roles/${role}`);
    });
  });
}

// ChatService calls the chat's REST API as a service SDK does: a token for each request, whose audience is its URL.
class ChatService {
  constructor(connectionString) {
    const parts = Object.fromEntries(connectionString.split(";").filter(Boolean).map((part) => part.split(/=(.*)/s).slice(0, 2)));
    this.prefix = `${parts.Endpoint}/api/hubs/chat/chat/`;
    this.key = parts.AccessKey;
  }

  #token(audience) {
    const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const signed = `${encode({ alg: "HS256", typ: "JWT" })}.${encode({ aud: audience, exp: Math.floor(Date.now() / 1000) + 60 })}`;
    return `${signed}.${createHmac("sha256", this.key).update(signed).digest("base64url")}`;
  }

  async #call(method, url, status, body, headers) {
    const response = await fetch(url, { method, body: body && JSON.stringify(body), headers: { authorization: `Bearer ${this.#token(url)}`, ...headers } });
    const text = await response.text();
    assert.equal(response.status, status, `${method} ${url}: ${text}`);
    return text ? JSON.parse(text) : undefined;
  }

  #url(path) {
    return `${this.prefix}${path}${path.includes("?") ? "&" : "?"}api-version=2026-02-01-preview`;
  }

  get(path, status = 200) {
    return this.#call("GET", this.#url(path), status);
  }

  follow(link) {
    return this.#call("GET", link, 200);
  }

  put(path, body, status, headers) {
    return this.#call("PUT", this.#url(path), status, body, { "content-type": "application/json", ...headers });
  }

  patch(path, body) {
    return this.#call("PATCH", this.#url(path), 200, body, { "content-type": "application/merge-patch+json" });
  }

  delete(path) {
    return this.#call("DELETE", this.#url(path), 204);
  }
}

// nextLine is the next message that a page draws.
async function nextLine(lines) {
  for (;;) {
    const message = await lines.next("a line");
    if (typeof message.data?.message === "string") return message;
  }
}
