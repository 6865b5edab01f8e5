// The event handler middleware, in both versions: what it gets of connections and what its answers do.
//
// The gateway's configuration names http://127.0.0.1:$CHATR_HANDLER_1_0/eventhandler for all events of hub
// handler_1_0, and in the same way for 1_1.

import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import express from "express";
import * as client1_0 from "web-pubsub-client-1.0";
import * as client1_1 from "web-pubsub-client-1.1";
import { WebPubSubEventHandler as Handler1_0 } from "web-pubsub-express-1.0";
import { WebPubSubEventHandler as Handler1_1 } from "web-pubsub-express-1.1";
import { endpoints, Inbox, JSON_PROTOCOL, RawSocket, refusal, required, serviceClient, within } from "./lib.mjs";

for (const [version, Handler] of Object.entries({ "1_0": Handler1_0, "1_1": Handler1_1 })) {
  describe(`express ${version}`, { timeout: 600_000 }, () => {
    const hub = `handler_${version}`;
    const service = serviceClient(endpoints.http, hub);
    const seen = { connect: new Inbox(), connected: new Inbox(), disconnected: new Inbox(), user: new Inbox() };
    let server, finishSlow;
    const slow = new Promise((resolve) => (finishSlow = resolve));

    // What the application does, by user and event, so that a test reads as a conversation with it.
    const handler = new Handler(hub, {
      path: "/eventhandler",
      allowedEndpoints: [service.endpoint],
      handleConnect(request, response) {
        seen.connect.put(request);
        switch (request.queries?.do?.[0]) {
          case "refuse":
            return response.fail(401, "not today");
          case "assign":
            response.setState("visits", 1);
            return response.success({ userId: "assigned", groups: ["from handler"], roles: ["webpubsub.sendToGroup.from handler"], subprotocol: JSON_PROTOCOL });
          default:
            return response.success();
        }
      },
      handleUserEvent(request, response) {
        seen.user.put(request);
        const { eventName, states } = request.context;
        switch (eventName) {
          case "count":
            response.setState("visits", (states.visits ?? 0) + 1);
            return response.success(JSON.stringify(states), "json");
          case "echo":
            return response.success(request.data, request.dataType === "json" ? "text" : request.dataType);
          case "slow":
            return void slow.then(() => response.success("slow", "text"));
          case "hang":
            return;
          case "wrong":
            return response.fail(400, "that is wrong");
          default:
            return response.success();
        }
      },
      onConnected: (request) => seen.connected.put(request),
      onDisconnected: (request) => seen.disconnected.put(request),
    });

    before(async () => {
      server = express().use(handler.getMiddleware()).listen(Number(required(`CHATR_HANDLER_${version}`)), "127.0.0.1");
      await once(server, "listening");
    });
    after(() => new Promise((resolve) => {
      server.close(resolve);
      server.closeAllConnections();
    }));

    const url = async (options, query = "") => (await service.getClientAccessToken(options)).url + query;
    const send = (socket, frame) => socket.ws.send(JSON.stringify(frame));

    // leave closes the socket and returns what the handler hears of it.
    async function leave(socket) {
      await socket.close();
      return seen.disconnected.next("disconnected event");
    }

    //checklist:E03 E04 E05 E06
    test("connect carries claims, query, headers and subprotocols; connected and disconnected follow", async () => {
      const socket = await RawSocket.open(await url({ userId: "ana", roles: ["r1", "r2"] }, "&lang=en&lang=de"), JSON_PROTOCOL);
      const request = await seen.connect.next("connect event");
      assert.equal(request.context.userId, "ana");
      assert.equal(request.context.hub, hub);
      assert.equal(request.context.connectionId, socket.id);
      assert.equal(request.context.eventName, "connect");
      assert.deepEqual(request.claims.sub, ["ana"]);
      assert.deepEqual(request.claims.role, ["r1", "r2"]);
      assert.deepEqual(request.queries, { lang: ["en", "de"] });
      assert.deepEqual(request.subprotocols, [JSON_PROTOCOL]);
      assert.ok(Object.keys(request.headers).length > 0);
      const connected = await seen.connected.next("connected event");
      assert.equal(connected.context.connectionId, socket.id);
      assert.equal(connected.context.userId, "ana");
      const gone = await leave(socket);
      assert.equal(gone.context.connectionId, socket.id);
      assert.equal(typeof (gone.reason ?? ""), "string");
    });

    //checklist:E05 E08
    test("the answer to connect sets user, groups, roles and state", async () => {
      const socket = await RawSocket.open(await url({ userId: "claimed", roles: ["webpubsub.sendToGroup"] }, "&do=assign"), JSON_PROTOCOL);
      await seen.connect.next("connect event");
      assert.equal(socket.connected.userId, "assigned");
      assert.equal((await seen.connected.next("connected event")).context.userId, "assigned");
      send(socket, { type: "sendToGroup", group: "from handler", ackId: 1, dataType: "text", data: "hi" });
      send(socket, { type: "sendToGroup", group: "another", ackId: 100, dataType: "text", data: "hi" });
      const frames = [await socket.frame(), await socket.frame(), await socket.frame()];
      assert.ok(frames.includes('{"type":"message","from":"group","group":"from handler","fromUserId":"assigned","dataType":"text","data":"hi"}'), frames.join());
      assert.ok(frames.includes('{"type":"ack","ackId":1,"success":true}'), frames.join());
      assert.ok(frames.some((frame) => JSON.parse(frame).error?.name === "Forbidden"), frames.join());

      for (const visits of [2, 3, 4]) {
        send(socket, { type: "event", event: "count", ackId: visits, dataType: "text", data: "" });
        await seen.user.next("count");
        assert.equal(await socket.frame(), `{"type":"message","from":"server","dataType":"json","data":{"visits":${visits}}}`);
        assert.match(await socket.frame(), /"ackId":\d+,"success":true/);
      }
      assert.deepEqual((await leave(socket)).context.states, { visits: 4 });
    });

    //checklist:E05
    test("a refused connect is an HTTP refusal", async () => {
      const { status, body } = await refusal(await url({ userId: "ana" }, "&do=refuse"), JSON_PROTOCOL);
      await seen.connect.next("connect event");
      assert.equal(status, 401);
      assert.equal(body, "not today");
      assert.equal(seen.connected.size, 0);
    });

    for (const [client, sdk] of Object.entries({ "1.0": client1_0, "1.1": client1_1 })) {
      //checklist:C24 E12
      test(`client ${client} invokes events, several at a time, and gives some up`, async () => {
        const caller = new sdk.WebPubSubClient(await url({ userId: "ana" }));
        await within(caller.start(), "start");
        await seen.connect.next("connect event");
        await seen.connected.next("connected event");
        const invoke = (event, data, type, options) => within(caller.invokeEvent(event, data, type, options), `invocation of ${event}`);

        const text = await invoke("echo", "é", "text");
        assert.deepEqual([text.dataType, text.data], ["text", "é"]);
        const binary = await invoke("echo", new Uint8Array([0, 255]).buffer, "binary");
        assert.deepEqual([...new Uint8Array(binary.data)], [0, 255]);
        assert.equal((await invoke("nothing", "x", "text")).data, undefined);
        const answers = await Promise.all([1, 2, 3, 4, 5].map((n) => invoke("echo", `${n}`, "text")));
        assert.deepEqual(answers.map((a) => a.data), ["1", "2", "3", "4", "5"]);

        await assert.rejects(invoke("wrong", "x", "text"), (error) => {
          assert.equal(error.name, "InvocationError");
          assert.deepEqual(error.errorDetail, { name: "BadRequest", message: "that is wrong" });
          return true;
        });

        const given = new AbortController();
        const hanging = invoke("hang", "x", "text", { abortSignal: given.signal });
        for (let event; event !== "hang"; ) event = (await seen.user.next("user event")).context.eventName;
        given.abort();
        await assert.rejects(hanging, { name: "InvocationError" });
        assert.equal((await invoke("echo", "after it", "text")).data, "after it"); // it is not in the way
        await seen.user.next("echo");
        caller.stop();
        await seen.disconnected.next("disconnected event");
      });
    }

    //checklist:E07
    test("user events of each type, answered before their ack", async () => {
      const socket = await RawSocket.open(await url({ userId: "ana" }), JSON_PROTOCOL);
      await seen.connect.next("connect event");
      await seen.connected.next("connected event");

      send(socket, { type: "event", event: "echo", ackId: 1, dataType: "text", data: 'é "quoted"' });
      const text = await seen.user.next("text event");
      assert.equal(text.dataType, "text");
      assert.equal(text.data, 'é "quoted"');
      assert.equal(text.context.eventName, "echo");
      assert.deepEqual(JSON.parse(await socket.frame()), { type: "message", from: "server", dataType: "text", data: 'é "quoted"' });
      assert.equal(await socket.frame(), '{"type":"ack","ackId":1,"success":true}');

      socket.ws.send('{"type":"event","event":"quiet","ackId":2,"dataType":"json","data":{"b":1.50,"a":[true]}}');
      const json = await seen.user.next("json event");
      assert.equal(json.dataType, "json");
      assert.deepEqual(json.data, { b: 1.5, a: [true] });
      assert.equal(await socket.frame(), '{"type":"ack","ackId":2,"success":true}');

      send(socket, { type: "event", event: "echo", ackId: 3, dataType: "binary", data: "AAH/" });
      const binary = await seen.user.next("binary event");
      assert.equal(binary.dataType, "binary");
      assert.deepEqual([...new Uint8Array(binary.data)], [0, 1, 255]);
      assert.equal(await socket.frame(), '{"type":"message","from":"server","dataType":"binary","data":"AAH/"}');
      assert.equal(await socket.frame(), '{"type":"ack","ackId":3,"success":true}');
      await leave(socket);
    });

    test("a slow event holds back the next of its connection, and nobody else's", async () => {
      const [ana, bob] = [await RawSocket.open(await url({ userId: "ana" }), JSON_PROTOCOL), await RawSocket.open(await url({ userId: "bob" }), JSON_PROTOCOL)];
      for (let i = 0; i < 2; i++) {
        await seen.connect.next("connect event");
        await seen.connected.next("connected event");
      }
      send(ana, { type: "event", event: "slow", ackId: 1, dataType: "text", data: "" });
      await seen.user.next("slow");
      send(ana, { type: "event", event: "echo", ackId: 2, dataType: "text", data: "second" });
      send(bob, { type: "event", event: "echo", ackId: 1, dataType: "text", data: "quick" });
      assert.equal((await seen.user.next("quick")).data, "quick");
      assert.match(await bob.frame(), /"quick"/);
      assert.equal(seen.user.size + ana.pending, 0);
      finishSlow();
      const frames = [];
      for (let i = 0; i < 4; i++) frames.push(JSON.parse(await ana.frame()));
      assert.deepEqual(frames.map((f) => f.data ?? f.ackId), ["slow", 1, "second", 2]);
      await seen.user.next("second");
      await leave(ana);
      await leave(bob);
    });

    //checklist:E07
    test("a failing event is a failed ack and the connection lives on", async () => {
      const client = new client1_1.WebPubSubClient(await url({ userId: "ana" }), { messageRetryOptions: { maxRetries: 0 } });
      await within(client.start(), "start");
      await seen.connect.next("connect event");
      await seen.connected.next("connected event");
      await assert.rejects(client.sendEvent("wrong", "x", "text"), (error) => {
        assert.equal(error.errorDetail.name, "InternalServerError");
        return true;
      });
      assert.equal((await client.sendEvent("quiet", { n: 1 }, "json")).isDuplicated, false);
      await seen.user.next("wrong");
      await seen.user.next("quiet");
      client.stop();
      await seen.disconnected.next("disconnected event");
    });

    //checklist:E07
    test("a simple client's frames are message events", async () => {
      const socket = await RawSocket.open(await url({ userId: "sim" }));
      await seen.connect.next("connect event");
      await seen.connected.next("connected event");
      socket.ws.send("plain");
      const text = await seen.user.next("text frame");
      assert.deepEqual([text.context.eventName, text.dataType, text.data], ["message", "text", "plain"]);
      socket.ws.send(Buffer.from([1, 2]));
      const binary = await seen.user.next("binary frame");
      assert.deepEqual([binary.context.eventName, binary.dataType, [...new Uint8Array(binary.data)]], ["message", "binary", [1, 2]]);
      await leave(socket);
    });

    //checklist:E06
    test("the reason of a close by REST reaches the handler", async () => {
      const socket = await RawSocket.open(await url({ userId: "ana" }), JSON_PROTOCOL);
      await seen.connect.next("connect event");
      await seen.connected.next("connected event");
      await service.closeConnection(socket.id, { reason: "house rules" });
      const gone = await seen.disconnected.next("disconnected event");
      assert.equal(gone.context.connectionId, socket.id);
      assert.equal(gone.reason, "house rules");
    });
  });
}
