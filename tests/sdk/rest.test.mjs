// The service SDK: every method of it, and exactly what clients then see.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { AzureKeyCredential, WebPubSubServiceClient, odata } from "@azure/web-pubsub";
import { endpoints, eventually, JSON_PROTOCOL, RawSocket, refusal, serviceClient, Wire, within } from "./lib.mjs";

const ODD = "a/b +%?#&é:send"; // a group that needs care in URLs

for (const [scheme, connectionString] of Object.entries(endpoints)) {
  describe(`rest over ${scheme}`, { timeout: 600_000 }, () => {
    const hub = `Rest_${scheme}`; // hubs are case-insensitive, and keep to themselves
    const service = serviceClient(connectionString, hub);
    const open = async (options = {}, protocol = JSON_PROTOCOL) => {
      const { url } = await service.getClientAccessToken(options);
      return RawSocket.open(url, protocol);
    };
    let ana, bob, simple;

    before(async () => {
      ana = await open({ userId: "ana" });
      bob = await open({ userId: "bob" });
      simple = await open({ userId: "sim" }, null);
    });
    after(async () => {
      for (const socket of [ana, bob, simple]) socket?.ws.terminate();
    });

    // checklist:C01 C04
    test("a client URL has the endpoint's scheme and opens a connection", async () => {
      const { url, baseUrl } = await service.getClientAccessToken({ userId: "ana b", groups: [ODD] });
      assert.match(url, scheme === "http" ? /^ws:/ : /^wss:/);
      assert.equal(url.split("?")[0], baseUrl);
      const socket = await RawSocket.open(url, JSON_PROTOCOL);
      const { connectionId, ...rest } = socket.connected;
      assert.deepEqual(rest, { type: "system", event: "connected", userId: "ana b" });
      assert.ok(connectionId);
      assert.equal(await service.groupExists(ODD), true);
      await socket.close();
      await eventually(async () => !(await service.groupExists(ODD)), "the group is gone with its only member");
    });

    // checklist:R02 C15
    test("sendToAll: json, text, binary, and simple clients get the payload only", async () => {
      await service.sendToAll({ b: 1, a: ["é"] });
      for (const socket of [ana, bob]) {
        assert.equal(await socket.frame(), '{"type":"message","from":"server","dataType":"json","data":{"b":1,"a":["é"]}}');
      }
      assert.equal(await simple.frame(), '{"b":1,"a":["é"]}');

      await service.sendToAll('say "hi"\n<b>', { contentType: "text/plain" });
      for (const socket of [ana, bob]) {
        const frame = await socket.frame();
        assert.deepEqual(JSON.parse(frame), { type: "message", from: "server", dataType: "text", data: 'say "hi"\n<b>' });
      }
      assert.equal(await simple.frame(), 'say "hi"\n<b>');

      await service.sendToAll(new Uint8Array([0, 1, 255]));
      for (const socket of [ana, bob]) {
        assert.equal(await socket.frame(), '{"type":"message","from":"server","dataType":"binary","data":"AAH/"}');
      }
      assert.deepEqual(await simple.frame(), Buffer.from([0, 1, 255]));
    });

    // checklist:R02 R27
    test("sendToAll: excluded connections and a filter", async () => {
      await service.sendToAll("not ana", { contentType: "text/plain", excludedConnections: [ana.id], messageTtlSeconds: 60 });
      await service.sendToAll("bob only", { contentType: "text/plain", filter: odata`userId eq ${"bob"}` });
      assert.match(await bob.frame(), /"not ana"/);
      assert.match(await bob.frame(), /"bob only"/);
      assert.equal(await simple.frame(), "not ana");
      assert.deepEqual(await ana.settled(), []);
    });

    // checklist:R09 R18
    test("sendToUser and sendToConnection", async () => {
      await service.sendToUser("ana", "to the user", { contentType: "text/plain" });
      await service.sendToConnection(ana.id, { to: "connection" });
      assert.equal(await ana.frame(), '{"type":"message","from":"server","dataType":"text","data":"to the user"}');
      assert.equal(await ana.frame(), '{"type":"message","from":"server","dataType":"json","data":{"to":"connection"}}');
      await service.sendToUser("nobody", "x", { contentType: "text/plain" });
      await service.sendToConnection("no-such-connection", "x", { contentType: "text/plain" });
      assert.deepEqual(await bob.settled(), []);
    });

    // checklist:R11 R12 R15 R16 R20 R21
    test("a group: add, send, exclude, remove, exists", async () => {
      const group = service.group(ODD);
      assert.equal(await service.groupExists(ODD), false);
      await group.addConnection(ana.id);
      await group.addConnection(ana.id);
      await group.addUser("bob");
      assert.equal(await service.groupExists(ODD), true);

      await group.sendToAll("hi", { contentType: "text/plain" });
      for (const socket of [ana, bob]) {
        assert.deepEqual(JSON.parse(await socket.frame()), { type: "message", from: "group", group: ODD, dataType: "text", data: "hi" });
      }
      await group.sendToAll({ n: 1 }, { excludedConnections: [ana.id], filter: "userId ne null" });
      assert.match(await bob.frame(), /"data":\{"n":1\}/);

      await group.removeConnection(ana.id);
      await group.removeUser("bob");
      await group.removeConnection("no-such-connection");
      assert.equal(await service.groupExists(ODD), false);
      await group.sendToAll("nobody", { contentType: "text/plain" });
      assert.deepEqual(await ana.settled(), []);
      assert.deepEqual(await bob.settled(), []);
    });

    // checklist:R10 R22
    test("removal from all groups", async () => {
      for (const name of ["g1", "g2"]) {
        await service.group(name).addConnection(ana.id);
        await service.group(name).addConnection(bob.id);
      }
      await service.removeConnectionFromAllGroups(ana.id);
      await service.removeUserFromAllGroups("bob");
      assert.equal(await service.groupExists("g1"), false);
      assert.equal(await service.groupExists("g2"), false);
    });

    // checklist:R05 R06 R27
    test("connections by filter to groups and from them", async () => {
      await service.addConnectionsToGroups(["f1", "f2"], odata`userId eq ${"ana"}`);
      await service.group("f2").sendToAll("filtered", { contentType: "text/plain" });
      assert.match(await ana.frame(), /"group":"f2".*"filtered"/);
      assert.deepEqual(await bob.settled(), []);
      await service.removeConnectionsFromGroups(["f1"], odata`userId eq ${"ana"}`);
      assert.equal(await service.groupExists("f1"), false);
      assert.equal(await service.groupExists("f2"), true);
      await service.removeConnectionsFromGroups(["f2"], "");
      assert.equal(await service.groupExists("f2"), false);
    });

    // checklist:R14
    test("listConnections follows its pages", async () => {
      const group = service.group("list");
      const anonymous = await open();
      for (const socket of [ana, bob, anonymous]) await group.addConnection(socket.id);
      const list = async (options) => {
        const found = [];
        for await (const member of await group.listConnections(options)) found.push(member);
        return found;
      };
      const all = await list({ maxPageSize: 1 });
      const byId = (a, b) => (a.connectionId < b.connectionId ? -1 : 1);
      assert.deepEqual(
        all.map(({ connectionId, userId }) => ({ connectionId, userId: userId ?? undefined })).sort(byId),
        [
          { connectionId: ana.id, userId: "ana" },
          { connectionId: bob.id, userId: "bob" },
          { connectionId: anonymous.id, userId: undefined },
        ].sort(byId),
      );
      assert.equal((await list({ top: 2, maxPageSize: 1 })).length, 2);
      assert.deepEqual(await (async () => {
        const found = [];
        for await (const member of await service.group("nobody").listConnections()) found.push(member);
        return found;
      })(), []);
      await service.removeConnectionsFromGroups(["list"], "");
      await anonymous.close();
    });

    // checklist:R07 R17
    test("existence of connections and users", async () => {
      assert.equal(await service.connectionExists(ana.id), true);
      assert.equal(await service.connectionExists("no-such-connection"), false);
      assert.equal(await service.userExists("ana"), true);
      assert.equal(await service.userExists("Ana"), false);
      const gone = await open({ userId: "brief" });
      assert.equal(await service.userExists("brief"), true);
      await gone.close();
      await eventually(async () => !(await service.userExists("brief")), "user brief is gone");
    });

    // checklist:R23 R24 R25 A05
    test("permissions: a role is granted, seen, taken away", async () => {
      const can = (permission) => service.hasPermission(ana.id, permission, { targetName: ODD });
      assert.equal(await can("sendToGroup"), false);
      await service.grantPermission(ana.id, "sendToGroup", { targetName: ODD });
      await service.grantPermission(ana.id, "joinLeaveGroup", { targetName: ODD });
      assert.equal(await can("sendToGroup"), true);
      ana.ws.send(JSON.stringify({ type: "joinGroup", group: ODD, ackId: 1 }));
      assert.equal(await ana.frame(), '{"type":"ack","ackId":1,"success":true}');
      await service.revokePermission(ana.id, "sendToGroup", { targetName: ODD });
      assert.equal(await can("sendToGroup"), false);
      assert.equal(await can("joinLeaveGroup"), true);
      ana.ws.send(JSON.stringify({ type: "sendToGroup", group: ODD, ackId: 2, dataType: "text", data: "x" }));
      const ack = JSON.parse(await ana.frame());
      assert.equal(ack.success, false);
      assert.equal(ack.error.name, "Forbidden");
      ana.ws.send(JSON.stringify({ type: "leaveGroup", group: ODD, ackId: 3 }));
      assert.equal(await ana.frame(), '{"type":"ack","ackId":3,"success":true}');
    });

    // checklist:R03 R08 R13 R19
    test("closing: a connection, a user, a group, everybody but one", async () => {
      const expectClosed = async (socket, reason) => {
        assert.deepEqual(JSON.parse(await socket.frame()), { type: "system", event: "disconnected", message: reason });
        assert.deepEqual(await within(socket.closed, "close"), { code: 1000, reason });
      };
      const other = serviceClient(connectionString, `Close_${scheme}`);
      const join = async (userId) => RawSocket.open((await other.getClientAccessToken({ userId, groups: [`of ${userId}`] })).url, JSON_PROTOCOL);
      const [one, two, three, four, five] = await Promise.all(["one", "two", "three", "four", "five"].map(join));

      await other.closeConnection(one.id, { reason: "good bye & thanks" });
      await expectClosed(one, "good bye & thanks");
      await other.closeUserConnections("two", { reason: "user" });
      await expectClosed(two, "user");
      await other.group("of three").closeAllConnections({ reason: "group" });
      await expectClosed(three, "group");
      assert.deepEqual(await four.settled(), []);
      await other.closeAllConnections();
      await expectClosed(four, "");
      await expectClosed(five, "");
      assert.equal(await other.connectionExists(five.id), false);
      await other.closeConnection(five.id);
    });

    // checklist:R26
    test("errors carry status and code", async () => {
      await assert.rejects(service.group("g").addConnection("no-such-connection"), { name: "RestError", statusCode: 404 });
      await assert.rejects(service.grantPermission("no-such-connection", "sendToGroup", { targetName: "g" }), { name: "RestError", statusCode: 404 });
      await assert.rejects(service.sendToAll("x", { contentType: "text/plain", filter: "userId eq" }), (error) => {
        assert.equal(error.statusCode, 400);
        assert.equal(error.code, "Error.BadRequest");
        assert.match(error.message, /filter/);
        return true;
      });
      await assert.rejects(service.sendToAll("x", { contentType: "text/plain", messageTtlSeconds: 301 }), { statusCode: 400 });
      await assert.rejects(service.sendToAll("x".repeat((1 << 20) + 1), { contentType: "text/plain" }), { statusCode: 400 });
      await assert.rejects(service.grantPermission(ana.id, "sendToGroup"), { statusCode: 400 });
      await assert.rejects(service.group(" ").addConnection(ana.id), { statusCode: 400 });
      assert.deepEqual(await ana.settled(), []);
    });

    // checklist:O09
    test("through a proxy of another name", async () => {
      const proxy = await Wire.to(service.endpoint);
      const proxied = new WebPubSubServiceClient(connectionString, hub, {
        allowInsecureConnection: true,
        reverseProxyEndpoint: proxy.through(service.endpoint),
      });
      await proxied.sendToUser("ana", "by proxy", { contentType: "text/plain" });
      assert.match(await ana.frame(), /"by proxy"/);
      for (const socket of [ana, bob]) await proxied.group("proxied").addConnection(socket.id);
      const found = [];
      for await (const member of await proxied.group("proxied").listConnections({ maxPageSize: 1 })) found.push(member.userId);
      assert.deepEqual(found.sort(), ["ana", "bob"]);
      await service.removeConnectionsFromGroups(["proxied"], "");
      await proxy.close();
    });

    // checklist:C20
    test("what is wrong closes its sender and nobody else", async () => {
      const wrongs = {
        "no JSON": ["{", 1007],
        "no known type": ['{"type":"fly"}', 1007],
        "a group that is a number": ['{"type":"joinGroup","group":7}', 1007],
        "an ackId below zero": ['{"type":"joinGroup","group":"g","ackId":-1}', 1007],
        "a binary frame without JSON": [Buffer.from([0, 1, 2]), 1007],
        "two megabytes": ["x".repeat(2 << 20), 1009],
      };
      for (const [what, [frame, code]] of Object.entries(wrongs)) {
        const socket = await open({ userId: "mallory" });
        socket.ws.on("error", () => {}); // the peer may reset while we still send
        socket.ws.send(frame);
        const closed = await within(socket.closed, what);
        assert.equal(closed.code, code, `${what}: ${closed.reason}`);
        assert.ok(closed.reason, `${what} is told why`);
      }
      assert.deepEqual(await ana.settled(), []);
      assert.deepEqual(await bob.settled(), []);
    });

    // checklist:A02 A03
    test("another key opens nothing", async () => {
      const stranger = new WebPubSubServiceClient(service.endpoint, new AzureKeyCredential("not the key of this service, but long"), hub, {
        allowInsecureConnection: true,
        retryOptions: { maxRetries: 0 },
      });
      await assert.rejects(stranger.sendToAll("x", { contentType: "text/plain" }), { statusCode: 401 });
      const { url } = await stranger.getClientAccessToken({ userId: "ana" });
      assert.equal((await refusal(url, JSON_PROTOCOL)).status, 401);
      const elsewhere = await serviceClient(connectionString, "elsewhere").getClientAccessToken();
      assert.equal((await refusal(elsewhere.url.replace("/elsewhere", `/${hub}`), JSON_PROTOCOL)).status, 401);
    });
  });
}

// With a token credential the SDK cannot sign for clients and asks the service to (:generateToken). It insists on
// TLS. Its token here is one for exactly that request, signed with the access key.
// checklist:R04
test("client tokens made by the service", { timeout: 600_000 }, async () => {
  const { endpoint, accessKey } = parse(endpoints.https);
  const credential = {
    getToken: async () => ({
      token: sign(accessKey, { aud: `${endpoint}/api/hubs/tokens/:generateToken`, exp: Math.floor(Date.now() / 1000) + 300 }),
      expiresOnTimestamp: Date.now() + 300_000,
    }),
  };
  const service = new WebPubSubServiceClient(endpoint, credential, "tokens");
  const { url } = await service.getClientAccessToken({
    userId: "ana",
    roles: ["webpubsub.sendToGroup.made here"],
    groups: ["made here"],
    expirationTimeInMinutes: 5,
    clientProtocol: "default",
  });
  const socket = await RawSocket.open(url, JSON_PROTOCOL);
  assert.equal(socket.connected.userId, "ana");
  socket.ws.send('{"type":"sendToGroup","group":"made here","dataType":"text","data":"hi"}');
  assert.equal(await socket.frame(), '{"type":"message","from":"group","group":"made here","fromUserId":"ana","dataType":"text","data":"hi"}');
  await socket.close();
});

function parse(connectionString) {
  const parts = Object.fromEntries(connectionString.split(";").filter(Boolean).map((part) => part.split(/=(.*)/s)));
  return { endpoint: parts.Endpoint.replace(/\/$/, ""), accessKey: parts.AccessKey };
}

function sign(key, claims) {
  const text = [{ alg: "HS256", typ: "JWT" }, claims].map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".");
  return `${text}.${createHmac("sha256", key).update(text).digest("base64url")}`;
}
