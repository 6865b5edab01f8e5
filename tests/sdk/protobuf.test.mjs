// The protobuf subprotocols, with an encoder and a decoder that are not ours: protobufjs with messages.proto. Among their
// receivers are clients of the other subprotocols, which see each type of data as theirs.
//
// The gateway's configuration names http://127.0.0.1:$CHATR_HANDLER_1_0/eventhandler for all events of hub handler_1_0.

import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import { after, before, describe, test } from "node:test";
import { endpoints, eventually, Inbox, JSON_PROTOCOL, RawSocket, required, serviceClient, within } from "./lib.mjs";
import { Any, Downstream, Upstream } from "./protobuf-protocol.mjs";

const PROTOBUF = "protobuf.webpubsub.azure.v1";
const RELIABLE = "protobuf.reliable.webpubsub.azure.v1";
const EVERYTHING = ["webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"];

function encode(message) {
  const wrong = Upstream.verify(message);
  if (wrong) throw new Error(wrong);
  return Buffer.from(Upstream.encode(Upstream.create(message)).finish());
}

// decode gives the members that are on the wire, and no defaults; data as it was before.
function decode(frame) {
  assert.ok(Buffer.isBuffer(frame), `got a text frame: ${frame}`);
  return Downstream.toObject(Downstream.decode(frame), { longs: Number });
}

// Client speaks one of the two subprotocols, and does nothing by itself.
class Client {
  acked = 0;

  static async open(url, protocol) {
    const client = new Client();
    client.url = url;
    client.protocol = protocol;
    client.socket = new RawSocket(url, protocol);
    await within(once(client.socket.ws, "open"), "handshake");
    client.connected = (await client.next()).systemMessage.connectedMessage;
    return client;
  }

  send(message) {
    this.socket.ws.send(encode(message));
  }

  async next() {
    return decode(await this.socket.frame());
  }

  async data() {
    const message = await this.next();
    assert.ok(message.dataMessage, `got ${JSON.stringify(message)}, want a data message`);
    return message.dataMessage;
  }

  // ask sends a request with an ackId and resolves with its ack.
  async ask(member, request) {
    const ackId = ++this.acked;
    this.send({ [member]: { ...request, ackId } });
    const message = await this.next();
    assert.equal(message.ackMessage?.ackId, ackId, `got ${JSON.stringify(message)}, want ack ${ackId}`);
    return message.ackMessage;
  }

  async do(member, request) {
    const ack = await this.ask(member, request);
    assert.deepEqual(ack, { ackId: this.acked, success: true });
  }

  get closed() {
    return within(this.socket.closed, "close");
  }

  // recover takes the connection up on a new socket.
  async recover() {
    const url = new URL(this.url);
    url.searchParams.set("awps_connection_id", this.connected.connectionId);
    url.searchParams.set("awps_reconnection_token", this.connected.reconnectionToken);
    return Client.open(url, this.protocol);
  }
}

const any = { typeUrl: "type.googleapis.com/test.Point", value: Buffer.from([8, 1, 16, 2]) };
const wholeAny = Buffer.from(Any.encode(any).finish());

// What is sent, and how it looks to a JSON client and to a simple one.
const kinds = {
  text: { data: { textData: "h\u00e9 \u{1f600}" }, json: "h\u00e9 \u{1f600}", raw: "h\u00e9 \u{1f600}" },
  "empty text": { data: { textData: "" }, dataType: "text", json: "", raw: "" },
  json: { data: { jsonData: '{"a":[1.50,null],"b":"\\u00e9"}' }, json: { a: [1.5, null], b: "\u00e9" }, raw: '{"a":[1.50,null],"b":"\\u00e9"}' },
  binary: { data: { binaryData: Buffer.from([0, 1, 255]) }, json: "AAH/", raw: Buffer.from([0, 1, 255]) },
  "empty binary": { data: { binaryData: Buffer.alloc(0) }, dataType: "binary", json: "", raw: Buffer.alloc(0) },
  protobuf: { data: { protobufData: any }, json: wholeAny.toString("base64"), raw: wholeAny },
};

for (const protocol of [PROTOBUF, RELIABLE]) {
  describe(protocol, { timeout: 600_000 }, () => {
    const hub = "handler_1_0";
    const service = serviceClient(endpoints.http, hub);
    const reliable = protocol === RELIABLE;
    const opened = [];
    const seen = new Inbox();
    let handler;

    before(async () => {
      // Answers are what was asked, with its type and metadata; "silent" gets none, "wrong" a failure.
      handler = http.createServer(async (request, response) => {
        if (request.method === "OPTIONS") return response.writeHead(200, { "WebHook-Allowed-Origin": "*" }).end();
        const body = Buffer.concat(await request.toArray());
        const { "ce-eventname": name, "ce-type": type, "ce-subprotocol": subprotocol, "content-type": contentType } = request.headers;
        if (!type.startsWith("azure.webpubsub.user.")) return response.writeHead(204).end();
        seen.put({ name, body, contentType, subprotocol, trace: request.headers["x-webpubsub-metadata-trace"] });
        if (name === "silent") return response.writeHead(204).end();
        if (name === "wrong") return response.writeHead(400).end("no");
        response.writeHead(200, { "Content-Type": contentType, "X-WebPubSub-Metadata-Answer": "yes" }).end(body);
      });
      handler.listen(Number(required("CHATR_HANDLER_1_0")), "127.0.0.1");
      await once(handler, "listening");
    });

    after(async () => {
      for (const socket of opened) socket.ws.terminate();
      handler.closeAllConnections();
      await new Promise((resolve) => handler.close(resolve));
    });

    async function url(userId, options = {}) {
      return (await service.getClientAccessToken({ userId, roles: EVERYTHING, ...options })).url;
    }

    async function open(userId, options) {
      const client = await Client.open(await url(userId, options), protocol);
      opened.push(client.socket);
      return client;
    }

    async function openRaw(subprotocol, userId, options) {
      const socket = await RawSocket.open(await url(userId, options), subprotocol);
      opened.push(socket);
      return socket;
    }

    // checklist:P02 P03
    test("says who is connected", async () => {
      const { connected } = await open("ana");
      assert.equal(connected.userId, "ana");
      assert.ok(await service.connectionExists(connected.connectionId));
      assert.equal(typeof connected.reconnectionToken, reliable ? "string" : "undefined");
    });

    // checklist:C13 P01 P02
    test("joins, sends, leaves, pings, and is told what it may not do", async () => {
      const [ana, bob] = [await open("ana"), await open("bob", { roles: ["webpubsub.joinLeaveGroup"] })];
      const group = `r\u00f6\u00f6m ${protocol}`;
      await ana.do("joinGroupMessage", { group });
      await bob.do("joinGroupMessage", { group });
      ana.send({ sendToGroupMessage: { group, noEcho: true, data: { textData: "not to me" } } });
      await ana.do("sendToGroupMessage", { group, noEcho: true, data: { textData: "nor this" } });
      for (const [i, textData] of ["not to me", "nor this"].entries()) {
        assert.deepEqual(await bob.data(), { from: "group", group, data: { textData }, ...(reliable && { sequenceId: i + 1 }) });
      }
      ana.send({ pingMessage: {} });
      assert.deepEqual(await ana.next(), { pongMessage: {} });

      const refused = await bob.ask("sendToGroupMessage", { group, data: { textData: "x" } });
      assert.deepEqual([refused.success, refused.error.name], [undefined, "Forbidden"]);
      assert.ok(refused.error.message.includes(group));

      await ana.do("leaveGroupMessage", { group });
      await service.group(group).sendToAll("after ana", { contentType: "text/plain" });
      await service.sendToUser("ana", "to ana", { contentType: "text/plain" });
      assert.equal((await bob.data()).data.textData, "after ana");
      assert.deepEqual(await ana.data(), { from: "server", data: { textData: "to ana" }, ...(reliable && { sequenceId: 1 }) });
    });

    // checklist:P01
    test("takes an ackId once", async () => {
      const ana = await open("ana");
      await ana.do("joinGroupMessage", { group: "once" });
      ana.acked--;
      const again = await ana.ask("joinGroupMessage", { group: "once" });
      assert.equal(again.error.name, "Duplicate");
      const large = 2 ** 53 - 1;
      ana.send({ leaveGroupMessage: { group: "once", ackId: large } });
      assert.deepEqual(await ana.next(), { ackMessage: { ackId: large, success: true } });
    });

    for (const [name, { data, dataType = name, json, raw }] of Object.entries(kinds)) {
      // checklist:P04 C15
      test(`${name} reaches every subprotocol, and comes from each`, async () => {
        const group = `${name} ${protocol}`;
        const [sender, protobufs] = [await open("ana"), await open("bob", { groups: [group] })];
        const [jsons, simple] = [await openRaw(JSON_PROTOCOL, "cy", { groups: [group] }), await openRaw(undefined, "dan", { groups: [group] })];
        const same = async () => {
          const { from, group: there, data: got } = await protobufs.data();
          assert.deepEqual([from, there, got], ["group", group, data]);
        };
        await sender.do("sendToGroupMessage", { group, data });
        await same();
        const message = JSON.parse(await jsons.frame());
        assert.deepEqual([message.fromUserId, message.dataType, message.data], ["ana", dataType, json]);
        assert.deepEqual(await simple.frame(), raw);

        jsons.ws.send(JSON.stringify({ type: "sendToGroup", group, dataType, data: name === "json" ? json : message.data }));
        await jsons.frame();
        await simple.frame();
        const { data: back } = await protobufs.data();
        if (name === "json") assert.deepEqual(JSON.parse(back.jsonData), json);
        else assert.deepEqual(back, data);

        if (name === "protobuf") return; // REST has none
        const contentType = { text: "text/plain", json: "application/json", binary: "application/octet-stream" }[dataType];
        const body = data.textData ?? data.binaryData ?? JSON.parse(data.jsonData);
        await service.group(group).sendToAll(body, { contentType });
        const { data: rest } = await protobufs.data();
        if (name === "json") assert.deepEqual(JSON.parse(rest.jsonData), json);
        else assert.deepEqual(rest, data);
      });
    }

    // checklist:P01 P02 P04 E07
    test("events reach the handler with their type, and its answers come back with theirs", async () => {
      const ana = await open("ana");
      const types = { text: "text/plain", json: "application/json", binary: "application/octet-stream", protobuf: "application/x-protobuf" };
      for (const [name, contentType] of Object.entries(types)) {
        const { data, raw } = kinds[name];
        ana.send({ eventMessage: { event: "echo", data, ackId: ++ana.acked, metadata: { trace: name } } });
        assert.deepEqual(await seen.next("event"), { name: "echo", body: Buffer.from(raw), contentType, subprotocol: protocol, trace: name });
        const answer = await ana.data();
        assert.deepEqual([answer.from, answer.group, answer.data, answer.metadata], ["server", undefined, data, { answer: "yes" }]);
        assert.deepEqual(await ana.next(), { ackMessage: { ackId: ana.acked, success: true } });
      }
      await ana.do("eventMessage", { event: "silent", data: { textData: "x" } });
      assert.equal((await ana.ask("eventMessage", { event: "wrong", data: { textData: "x" } })).error.name, "InternalServerError");
    });

    // checklist:C23
    test("metadata go with messages, and alone with empty text", async () => {
      const group = `metadata ${protocol}`;
      const [ana, bob] = [await open("ana", { groups: [group] }), await openRaw(JSON_PROTOCOL, "bob", { groups: [group] })];
      const metadata = { "Trace.ID": 'a "b"', empty: "" };
      await ana.do("sendToGroupMessage", { group, metadata, noEcho: true, ttlSeconds: 300 });
      assert.ok((await bob.frame()).endsWith(`"dataType":"text","data":"","metadata":${JSON.stringify(metadata)}}`));
      bob.ws.send(JSON.stringify({ type: "sendToGroup", group, data: 1, metadata }));
      const message = await ana.data();
      assert.deepEqual([message.data, message.metadata], [{ jsonData: "1" }, metadata]);
      await bob.frame();
      await service.sendToUser("ana", "x", { contentType: "text/plain" });
      assert.equal((await ana.data()).metadata, undefined);
    });

    // checklist:C25 C26 C27
    test("a stream is published, refused out of order, and ended", async () => {
      const group = `stream ${protocol}`;
      const [ana, bob] = [await open("ana"), await open("bob", { groups: [group] })];
      const streamId = "s1";
      ana.send({ sendToGroupMessage: { group, stream: { streamId, idleTimeoutMs: 15000 } } });
      assert.deepEqual(await ana.next(), { streamAckMessage: { streamId, expectedSequenceId: 1 } });
      ana.send({ streamDataMessage: { streamId, streamSequenceId: 1, data: { textData: "hi" } } });
      assert.deepEqual(await ana.next(), { streamAckMessage: { streamId, expectedSequenceId: 2 } });
      ana.send({ streamDataMessage: { streamId, streamSequenceId: 3, data: { textData: "too early" } } });
      const { streamNackMessage: nack } = await ana.next();
      assert.deepEqual([nack.streamId, nack.name, nack.expectedSequenceId], [streamId, "InvalidSequenceId", 2]);
      ana.send({ streamEndMessage: { streamId, error: { message: "gave up", userErrorCode: "E42" } } });
      assert.deepEqual(await ana.next(), { streamClosedMessage: { streamId } });

      const first = await bob.data();
      assert.deepEqual([first.data, first.stream], [{ textData: "hi" }, { streamId, streamSequenceId: 1 }]);
      const { stream } = await bob.data();
      assert.deepEqual(stream, { streamId, streamSequenceId: 2, endOfStream: true, error: { name: "UserError", message: "gave up", userErrorCode: "E42" } });
    });

    // checklist:C24 E12
    test("an event is invoked, and its answer is the caller's", async () => {
      const ana = await open("ana");
      for (const [name, { data }] of Object.entries(kinds)) {
        ana.send({ invokeEventMessage: { event: "echo", invocationId: name, data } });
        const { invokeResponseMessage: answer } = await ana.next();
        assert.deepEqual([answer.invocationId, answer.success, answer.error], [name, true, undefined]);
        if (name.startsWith("empty")) assert.equal(answer.data, undefined, "an empty answer has no data");
        else assert.deepEqual(answer.data, data);
      }
      ana.send({ invokeEventMessage: { event: "wrong", invocationId: "2" } });
      assert.deepEqual(await ana.next(), { invokeResponseMessage: { invocationId: "2", error: { name: "BadRequest", message: "no" } } });
      ana.send({ cancelInvocationMessage: { invocationId: "unknown" } });
      ana.send({ pingMessage: {} });
      assert.deepEqual(await ana.next(), { pongMessage: {} });
    });

    // checklist:C29 P05
    test("what connections say of themselves in a group is told to subscribers of every subprotocol", async () => {
      const group = `state ${protocol}`;
      const [ana, bob] = [await open("ana"), await openRaw(JSON_PROTOCOL, "bob")];
      await ana.do("subscribeGroupStateMessage", { group });
      assert.deepEqual(await ana.next(), { groupStateSnapshotMessage: { group } });
      bob.ws.send(JSON.stringify({ type: "setGroupState", group, state: { status: "typing", "\u00e9": "" } }));
      const { groupStateUpdateMessage: update } = await ana.next();
      const [item] = update.items;
      assert.deepEqual([update.group, item.connectionId, item.userId, item.state], [group, bob.id, "bob", { entries: { status: "typing", "\u00e9": "" } }]);
      assert.ok(item.updatedAt > 1.7e12, `updatedAt is ${item.updatedAt}, want milliseconds`);

      ana.send({ setGroupStateMessage: { group, state: { entries: { status: "\"away\"" } } } });
      assert.equal((await ana.next()).groupStateUpdateMessage.items[0].state.entries.status, '"away"');
      bob.ws.send(JSON.stringify({ type: "subscribeGroupState", group, ackId: 1 }));
      assert.equal(JSON.parse(await bob.frame()).success, true);
      const said = JSON.parse(await bob.frame()).items.map(({ userId, state }) => [userId, state]).sort();
      assert.deepEqual(said, [["ana", { status: '"away"' }], ["bob", { status: "typing", "\u00e9": "" }]]);
      ana.send({ setGroupStateMessage: { group } });
      assert.deepEqual(JSON.parse(await bob.frame()).items.map(({ userId, state }) => [userId, state]), [["ana", undefined]]);
      const cleared = (await ana.next()).groupStateUpdateMessage.items[0];
      assert.deepEqual([cleared.userId, cleared.state], ["ana", undefined]);
      await ana.do("unsubscribeGroupStateMessage", { group });
    });

    // checklist:C20 P01
    test("what breaks the protocol ends the connection with the reason's code", async () => {
      const unset = Buffer.alloc(0);
      const unpublished = Buffer.from([12 << 3 | 2, 0]);
      for (const [frame, code] of [["text", 1003], [unset, 1007], [unpublished, 1007], [encode({ invokeEventMessage: { event: "e" } }), 1007], [Buffer.from("garbage"), 1007], [encode({ joinGroupMessage: {} }), 1007],
        [encode({ sendToGroupMessage: { group: "g" } }), 1007], [encode({ sendToGroupMessage: { group: "g", data: { jsonData: "{" } } }), 1007],
        [encode({ sendToGroupMessage: { group: "g", data: { textData: "x" }, ttlSeconds: 301 } }), 1007]]) {
        const client = await open("ana");
        client.socket.ws.send(frame);
        const { systemMessage } = await client.next();
        const { code: got, reason } = await client.closed;
        assert.equal(got, code, reason);
        assert.ok(systemMessage.disconnectedMessage.reason.startsWith(reason.slice(0, 100)), `${systemMessage.disconnectedMessage.reason}; ${reason}`);
      }
    });

    // checklist:P02
    test("a service that closes says why", async () => {
      const ana = await open("ana");
      await service.closeConnection(ana.connected.connectionId, { reason: "enough" });
      assert.deepEqual(await ana.next(), { systemMessage: { disconnectedMessage: { reason: "enough" } } });
      assert.deepEqual(await ana.closed, { code: 1000, reason: "enough" });
    });

    if (!reliable) return;

    // checklist:P03
    test("a lost connection is recovered with what was not acknowledged, in order", async () => {
      const group = "recovery";
      const ana = await open("ana", { groups: [group] });
      const say = (text) => service.group(group).sendToAll(text, { contentType: "text/plain" });
      for (const [i, text] of ["one", "two", "three"].entries()) {
        await say(text);
        assert.equal((await ana.data()).sequenceId, i + 1);
      }
      ana.send({ sequenceAckMessage: { sequenceId: 2 } });
      ana.send({ pingMessage: {} });
      await ana.next(); // so that the acknowledgement has arrived
      ana.socket.ws.terminate();
      await say("four");
      const again = await ana.recover();
      opened.push(again.socket);
      assert.equal(again.connected.connectionId, ana.connected.connectionId);
      await say("five");
      for (const [i, textData] of ["three", "four", "five"].entries()) {
        assert.deepEqual(await again.data(), { from: "group", group, data: { textData }, sequenceId: i + 3 });
      }
      await again.do("sendToGroupMessage", { group: "elsewhere", data: { textData: "roles are kept" } });
    });

    // checklist:P03
    test("a refused recovery is upgraded and closed with 1008", async () => {
      const ana = await open("ana");
      ana.socket.ws.close();
      await ana.closed;
      await eventually(async () => !(await service.connectionExists(ana.connected.connectionId)), "the connection is gone");
      const target = new URL(ana.url);
      target.searchParams.set("awps_connection_id", ana.connected.connectionId);
      target.searchParams.set("awps_reconnection_token", ana.connected.reconnectionToken);
      const socket = new RawSocket(target, protocol);
      assert.equal((await within(socket.closed, "close")).code, 1008);
      assert.equal(socket.ws.protocol, protocol);
    });
  });
}
