// The client SDK, in both versions and all four subprotocols: groups, acks, echoes, reconnection.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import * as v1_0 from "web-pubsub-client-1.0";
import * as v1_1 from "web-pubsub-client-1.1";
import { endpoints, eventually, Inbox, JSON_PROTOCOL, RawSocket, serviceClient, Wire, within } from "./lib.mjs";
import { WebPubSubProtobufProtocol, WebPubSubProtobufReliableProtocol } from "./protobuf-protocol.mjs";

const EVERYTHING = ["webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"];

// watch collects what a client raises.
function watch(client) {
  const seen = { messages: new Inbox(), connected: new Inbox(), disconnected: new Inbox(), stopped: new Inbox(), rejoinFailed: new Inbox() };
  client.on("group-message", (e) => seen.messages.put(e.message));
  client.on("server-message", (e) => seen.messages.put(e.message));
  client.on("connected", (e) => seen.connected.put(e));
  client.on("disconnected", (e) => seen.disconnected.put(e));
  client.on("stopped", (e) => seen.stopped.put(e));
  client.on("rejoin-group-failed", (e) => seen.rejoinFailed.put(e));
  return seen;
}

for (const [version, sdk] of Object.entries({ "1.0": v1_0, "1.1": v1_1 })) {
  for (const [scheme, connectionString] of Object.entries(endpoints)) {
    describe(`client ${version} over ${scheme}`, { timeout: 600_000 }, () => {
      const hub = `client_${version.replace(".", "_")}_${scheme}`;
      const service = serviceClient(connectionString, hub);
      const started = [];
      let wire;

      before(async () => {
        wire = await Wire.to(service.endpoint);
      });
      after(async () => {
        for (const client of started) client.stop();
        await wire.close();
      });

      async function start(userId, { roles = EVERYTHING, groups, protocol = sdk.WebPubSubJsonReliableProtocol(), through, ...options } = {}) {
        const getClientAccessUrl = async () => {
          const { url } = await service.getClientAccessToken({ userId, roles, groups });
          return through ? through.through(url) : url;
        };
        const client = new sdk.WebPubSubClient({ getClientAccessUrl }, { protocol, ...options });
        const seen = watch(client);
        await within(client.start(), "start");
        started.push(client);
        const { connectionId, userId: as } = await seen.connected.next("connected");
        assert.equal(as, userId);
        return { client, seen, id: connectionId };
      }

      const plain = { json: sdk.WebPubSubJsonProtocol, protobuf: WebPubSubProtobufProtocol };
      const reliable = { "json.reliable": sdk.WebPubSubJsonReliableProtocol, "protobuf.reliable": WebPubSubProtobufReliableProtocol };

      for (const [name, protocol] of Object.entries({ ...plain, ...reliable })) {
        // checklist:C10 C11 C15
        test(`${name}: join, send, echo, leave`, async () => {
          const [ana, bob] = await Promise.all([start("ana", { protocol: protocol() }), start("bob", { protocol: protocol() })]);
          const group = `room ${name}`;
          for (const { client } of [ana, bob]) assert.deepEqual(await client.joinGroup(group), { ackId: 1, isDuplicated: false });

          await ana.client.sendToGroup(group, { text: "hi", n: [1.5, null] }, "json");
          for (const { seen } of [ana, bob]) {
            const { kind, group: from, fromUserId, dataType, data, sequenceId } = await seen.messages.next();
            assert.deepEqual([kind, from, dataType, data], ["groupData", group, "json", { text: "hi", n: [1.5, null] }]);
            assert.equal(fromUserId, name.startsWith("json") ? "ana" : undefined, "protobuf has no place for it");
            assert.equal(sequenceId, name in plain ? undefined : 1);
          }
          await bob.client.sendToGroup(group, "not to me", "text", { noEcho: true });
          await bob.client.sendToGroup(group, new Uint8Array([0, 255]).buffer, "binary", { fireAndForget: true });
          assert.equal((await ana.seen.messages.next()).data, "not to me");
          for (const { seen } of [ana, bob]) {
            const message = await seen.messages.next();
            assert.deepEqual([...new Uint8Array(message.data)], [0, 255]);
          }

          await bob.client.leaveGroup(group);
          await ana.client.sendToGroup(group, "after bob", "text");
          await service.sendToAll("the end", { contentType: "text/plain" });
          assert.equal((await ana.seen.messages.next()).data, "after bob");
          const last = await bob.seen.messages.next();
          assert.equal(last.kind, "serverData");
          assert.equal(last.data, "the end");
          assert.equal((await ana.seen.messages.next()).data, "the end");
          for (const { client, seen } of [ana, bob]) {
            client.stop();
            await seen.stopped.next("stopped");
          }
        });

        // checklist:C14
        test(`${name}: a repeated ackId is done once`, async () => {
          const group = `twice ${name}`;
          const { client, seen } = await start("ana", { groups: [group], protocol: protocol() });
          assert.equal((await client.sendToGroup(group, "once", "text", { ackId: 77 })).isDuplicated, false);
          assert.equal((await client.sendToGroup(group, "once", "text", { ackId: 77 })).isDuplicated, true);
          await client.sendToGroup(group, "then", "text");
          assert.equal((await seen.messages.next()).data, "once");
          assert.equal((await seen.messages.next()).data, "then");
          client.stop();
        });

        // checklist:A04 C14
        test(`${name}: what roles do not allow is refused by name`, async () => {
          const { client } = await start("eve", {
            roles: ["webpubsub.sendToGroup.open", "webpubsub.joinLeaveGroup.o*"], messageRetryOptions: { maxRetries: 0 }, protocol: protocol(),
          });
          const forbidden = (error) => {
            assert.equal(error.name, "SendMessageError");
            assert.equal(error.errorDetail.name, "Forbidden");
            assert.ok(error.errorDetail.message);
            return true;
          };
          await client.sendToGroup("open", "x", "text");
          await assert.rejects(client.sendToGroup("closed", "x", "text"), forbidden);
          await assert.rejects(client.joinGroup("closed"), forbidden);
          client.stop();
        });

        // checklist:C19 C20
        test(`${name}: a connection closed by the server is not recovered`, async () => {
          const { seen, id } = await start("ana", { autoReconnect: false, protocol: protocol() });
          await service.closeConnection(id, { reason: "enough" });
          const { message } = await seen.disconnected.next("disconnected");
          assert.equal(message?.message, "enough");
          await seen.stopped.next("stopped");
          assert.equal(await service.connectionExists(id), false);
        });
      }

      // checklist:C13
      test("each ping of a client is answered, and nothing else is", async () => {
        const all = Object.entries({ ...plain, ...reliable }).map(async ([name, make]) => {
          const [protocol, count] = [make(), { ping: 0, pong: 0 }];
          const counting = Object.assign(Object.create(protocol), {
            parseMessages(input) {
              const parsed = protocol.parseMessages(input);
              for (const { kind } of [parsed].flat().filter(Boolean)) if (kind in count) count[kind]++;
              return parsed;
            },
            writeMessage(message) {
              if (message.kind in count) count[message.kind]++;
              return protocol.writeMessage(message);
            },
          });
          const { client, seen } = await start("ana", { protocol: counting, groups: [`ping ${name}`], keepAliveIntervalInMs: 50 });
          await client.sendToGroup(`ping ${name}`, "beside pings", "text");
          assert.equal((await seen.messages.next()).data, "beside pings");
          await eventually(() => count.pong >= 3, `${name}: pongs`);
          await eventually(() => count.pong === count.ping, `${name}: as many pongs as pings`);
          client.stop();
        });
        await Promise.all(all);
      });

      for (const [name, protocol] of Object.entries(reliable)) {
        // checklist:C17 C18
        test(`${name}: a cut connection is recovered: same id, nothing lost, nothing twice, in order`, async () => {
          const group = `story ${name}`;
          const { client, seen, id } = await start("ana", { groups: [group], through: wire, protocol: protocol() });
          await service.group(group).sendToAll(0);
          assert.equal((await seen.messages.next()).data, 0);
          wire.refusing = true;
          wire.cut();
          for (let n = 1; n <= 20; n++) await service.group(group).sendToAll(n);
          assert.equal(await service.connectionExists(id), true);
          wire.refusing = false;
          for (let n = 1; n <= 20; n++) assert.equal((await seen.messages.next(`message ${n}`)).data, n);
          await client.sendToGroup(group, "alive", "text");
          assert.equal((await seen.messages.next()).data, "alive");
          assert.equal(seen.disconnected.size + seen.connected.size, 0, "the application saw nothing of it");
          client.stop();
          await eventually(async () => !(await service.connectionExists(id)), "a stopped client's connection is gone");
        });

        // checklist:C17 C18
        test(`${name}: cuts in the middle of a stream of messages lose and double none`, async () => {
          const group = `stream ${name}`;
          const { client, seen } = await start("ana", { groups: [group], through: wire, protocol: protocol() });
          const total = 60;
          const sending = (async () => {
            for (let n = 0; n < total; n++) {
              await service.group(group).sendToAll(n);
              if (n % 20 === 10) wire.cut();
            }
          })();
          for (let n = 0; n < total; n++) assert.equal((await seen.messages.next(`message ${n}`)).data, n);
          await sending;
          client.stop();
        });
      }

      for (const [name, protocol] of Object.entries(plain)) {
        test(`${name}: a cut connection starts anew and joins its groups again`, async () => {
          const group = `again ${name}`;
          const { client, seen, id } = await start("ana", { protocol: protocol(), through: wire });
          await client.joinGroup(group);
          wire.cut();
          assert.equal((await seen.disconnected.next("disconnected")).connectionId, id);
          const { connectionId } = await seen.connected.next("connected again");
          assert.notEqual(connectionId, id);
          await eventually(() => service.groupExists(group), "the group has its member back");
          await service.group(group).sendToAll("welcome back", { contentType: "text/plain" });
          assert.equal((await seen.messages.next()).data, "welcome back");
          assert.equal(seen.rejoinFailed.size, 0);
          client.stop();
        });
      }

      test("a client that does not read costs only itself", async () => {
        const slow = await RawSocket.open((await service.getClientAccessToken({ userId: "slow", groups: ["flood"] })).url, JSON_PROTOCOL);
        const [ana, bob] = await Promise.all([start("ana"), start("bob", { groups: ["flood"], protocol: sdk.WebPubSubJsonProtocol() })]);
        slow.ws.pause();
        const block = "x".repeat(64 << 10);
        const total = 600; // more than any buffer between us holds
        let received = 0;
        for (let n = 0; n < total; n++) {
          await ana.client.sendToGroup("flood", block, "text", n % 50 === 49 ? {} : { fireAndForget: true });
          for (; received < n; received++) assert.equal((await bob.seen.messages.next()).data.length, block.length);
        }
        await eventually(async () => !(await service.connectionExists(slow.id)), "the slow client is gone");
        assert.equal(await service.connectionExists(bob.id), true);
        slow.ws.terminate();
        for (const { client } of [ana, bob]) client.stop();
      });

      // checklist:C04
      test("a wrong token does not start", async () => {
        const { url } = await serviceClient(connectionString, "another_hub").getClientAccessToken();
        const client = new sdk.WebPubSubClient(url.replace("another_hub", hub));
        await assert.rejects(within(client.start(), "start"), /401/);
      });
    });
  }
}
