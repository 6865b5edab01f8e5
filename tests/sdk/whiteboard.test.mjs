// A whiteboard that makes the calls of Azure's sample: people who have not signed in draw together, an AI companion
// draws with them, and the application keeps the picture.
//
// The configuration names http://127.0.0.1:$CHATR_WHITEBOARD/eventhandler/{event} for event message and the system events of
// hub sample_draw, which lets anonymous clients in. Nobody may join groups; the application puts everybody into draw.

import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { WebPubSubServiceClient } from "@azure/web-pubsub";
import express from "express";
import { WebPubSubClient } from "web-pubsub-client-1.1";
import { WebPubSubEventHandler } from "web-pubsub-express-1.1";
import { endpoints, eventually, Inbox, required, within } from "./lib.mjs";

const HUB = "sample_draw";

// Whiteboard is the application.
class Whiteboard {
  shapes = {};
  background = null;
  users = 0;

  constructor(connectionString) {
    this.service = new WebPubSubServiceClient(connectionString, HUB); // https, or the SDK refuses
    const handler = new WebPubSubEventHandler(HUB, {
      path: "/eventhandler",
      handleConnect: (_, response) => response.success({ groups: ["draw"] }),
      onConnected: () => this.count(+1),
      onDisconnected: () => this.count(-1),
      handleUserEvent: (request, response) => {
        const { name, data } = request.data;
        if (name === "updateShape") this.shapes[data.id] = data;
        if (name === "clearShapes") this.shapes = {};
        response.success();
      },
    });
    this.app = express().use(handler.getMiddleware());
    this.app.get("/diagram", (_, response) => response.json({ shapes: this.shapes, background: this.background, users: this.users }));
    this.app.get("/negotiate", async (_, response) =>
      response.json({ url: (await this.service.getClientAccessToken({ roles: ["webpubsub.sendToGroup.draw"] })).url }));
    this.app.post("/background/:id", async (request, response) => {
      this.background = request.params.id;
      await this.service.sendToAll({ name: "updateBackground", data: { id: this.background } });
      response.end();
    });
  }

  async count(change) {
    this.users += change;
    await this.service.group("draw").sendToAll({ name: "updateUser", data: this.users });
  }
}

describe("whiteboard", { timeout: 600_000 }, () => {
  const port = required("CHATR_WHITEBOARD");
  const site = `http://127.0.0.1:${port}`;
  let board, server;

  before(async () => {
    board = new Whiteboard(endpoints.https);
    server = board.app.listen(Number(port), "127.0.0.1");
    await once(server, "listening");
  });
  after(() => new Promise((resolve) => {
    server.close(resolve);
    server.closeAllConnections();
  }));

  // drawer is somebody at the board, with what the group and the server say.
  async function drawer() {
    const client = new WebPubSubClient({ getClientAccessUrl: async () => (await (await fetch(`${site}/negotiate`)).json()).url },
      { messageRetryOptions: { maxRetries: 0 } });
    const seen = { group: new Inbox(), server: new Inbox() };
    client.on("group-message", ({ message }) => seen.group.put(message));
    client.on("server-message", ({ message }) => seen.server.put(message));
    const connected = new Promise((resolve) => client.on("connected", resolve));
    await within(client.start(), "start");
    return { client, seen, connected: await within(connected, "connected") };
  }

  // next skips what is not about a name.
  async function next(inbox, name) {
    for (;;) {
      const message = await inbox.next(name);
      if (message.data.name === name) return message;
    }
  }

  const diagram = async () => (await fetch(`${site}/diagram`)).json();

  //checklist:C05 E05 E06
  test("people come without a name, are put into the group, and are counted", async () => {
    const ana = await drawer();
    assert.ok(ana.connected.connectionId);
    assert.ok(!ana.connected.userId);
    const counted = await next(ana.seen.group, "updateUser");
    assert.equal(counted.group, "draw");
    assert.equal(counted.data.data, 1);
    const bob = await drawer();
    await eventually(async () => (await next(ana.seen.group, "updateUser")).data.data === 2, "two are counted");
    bob.client.stop();
    await eventually(async () => (await next(ana.seen.group, "updateUser")).data.data === 1, "one is left");
    ana.client.stop();
    await eventually(async () => (await diagram()).users === 0, "nobody is left");
  });

  //checklist:C11 E07
  test("patches of a drawing come to everybody, in order, and events are kept", async () => {
    const [ana, bob] = [await drawer(), await drawer()];
    const patches = 60; // as fast as a mouse moves, for a second
    for (let i = 0; i < patches; i++) {
      void ana.client.sendToGroup("draw", { name: "patchShape", data: { id: "s1", d: [i, i] } }, "json", { fireAndForget: true });
    }
    for (const { seen } of [ana, bob]) { // who draws gets it as well
      for (let i = 0; i < patches; i++) {
        const patch = await next(seen.group, "patchShape");
        assert.deepEqual(patch.data.data, { id: "s1", d: [i, i] });
        assert.equal(patch.fromUserId, undefined);
      }
    }
    const result = await ana.client.sendEvent("message", { name: "updateShape", data: { id: "s1", kind: "line" } }, "json");
    assert.equal(result.isDuplicated, false);
    assert.deepEqual((await diagram()).shapes, { s1: { id: "s1", kind: "line" } });
    assert.equal(ana.seen.server.size, 0, "an empty answer is no message");
    await bob.client.sendEvent("message", { name: "clearShapes" }, "json");
    assert.deepEqual((await diagram()).shapes, {});
    ana.client.stop();
    bob.client.stop();
  });

  //checklist:R02 R12
  test("what the application says to the hub is from the server", async () => {
    const ana = await drawer();
    await fetch(`${site}/background/b7`, { method: "POST" });
    const background = await ana.seen.server.next("background");
    assert.deepEqual(background.data, { name: "updateBackground", data: { id: "b7" } });
    ana.client.stop();
  });

  //checklist:A04
  test("to send to the group is all that anybody may do", async () => {
    const ana = await drawer();
    for (const attempt of [ana.client.joinGroup("draw"), ana.client.joinGroup("other"), ana.client.sendToGroup("other", "x", "text")]) {
      await assert.rejects(attempt, (error) => error.errorDetail.name === "Forbidden");
    }
    ana.client.stop();
  });

  test("a companion draws before it has heard anything", async () => {
    const ana = await drawer();
    const companion = await drawer();
    await Promise.all([
      companion.client.sendToGroup("draw", { name: "patchShape", data: { id: "ai" } }, "json"),
      companion.client.sendEvent("message", { name: "updateShape", data: { id: "ai" } }, "json"),
    ]);
    assert.deepEqual((await next(ana.seen.group, "patchShape")).data.data, { id: "ai" });
    assert.deepEqual((await diagram()).shapes, { ai: { id: "ai" } });
    ana.client.stop();
    companion.client.stop();
  });
});
