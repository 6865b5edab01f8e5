// Group streams of the client SDK 1.1, the first version that has them: what one client writes another one reads, through
// cuts, silences and refusals.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import * as old from "web-pubsub-client-1.0";
import * as sdk from "web-pubsub-client-1.1";
import { endpoints, eventually, Inbox, serviceClient, Wire, within } from "./lib.mjs";

const EVERYTHING = ["webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"];

for (const [scheme, connectionString] of Object.entries(endpoints)) {
  describe(`streams over ${scheme}`, { timeout: 600_000 }, () => {
    const service = serviceClient(connectionString, `streams_${scheme}`);
    const started = [];
    let wire;

    before(async () => {
      wire = await Wire.to(service.endpoint);
    });
    after(async () => {
      for (const client of started) client.stop();
      await wire.close();
    });

    async function start(userId, { protocol = sdk.WebPubSubJsonReliableProtocol(), groups, roles = EVERYTHING, through, from = sdk } = {}) {
      const getClientAccessUrl = async () => {
        const { url } = await service.getClientAccessToken({ userId, roles, groups });
        return through ? through.through(url) : url;
      };
      const client = new from.WebPubSubClient({ getClientAccessUrl }, { protocol });
      await within(client.start(), "start");
      started.push(client);
      return client;
    }

    // subscribe returns the streams that reach client: each with its fragments so far, and a promise of how it ended.
    function subscribe(client) {
      const streams = new Inbox();
      client.onGroupStream((stream) => {
        const seen = { id: stream.streamId, group: stream.groupName, fragments: [] };
        seen.end = (async () => {
          for await (const message of stream) seen.fragments.push(message);
        })().then(() => "complete", (error) => error);
        streams.put(seen);
      });
      return streams;
    }

    for (const [name, protocol] of [["json", sdk.WebPubSubJsonProtocol], ["json.reliable", sdk.WebPubSubJsonReliableProtocol]]) {
      //checklist:C25 C26 C27
      test(`${name}: what is written is read, in order, to the end`, async () => {
        const group = `story ${name}`;
        const writer = await start("ana", { protocol: protocol() });
        const readers = await Promise.all([start("ben", { protocol: protocol(), groups: [group] }), start("cara", { groups: [group] })]);
        const before1_1 = await start("dan", { protocol: old.WebPubSubJsonReliableProtocol(), groups: [group], from: old });
        const plain = new Inbox();
        before1_1.on("group-message", ({ message }) => plain.put(message));
        const inboxes = readers.map(subscribe);
        const stream = await within(writer.openGroupStream(group, { streamId: `s ${name}` }), "stream start");
        await stream.write("Hel", "text");
        await stream.write({ n: [1.5, null] }, "json");
        await stream.write(new Uint8Array([0, 255]).buffer, "binary");
        await stream.end();
        for (const inbox of inboxes) {
          const seen = await inbox.next("stream");
          assert.equal(await within(seen.end, "end"), "complete");
          assert.deepEqual([seen.id, seen.group], [`s ${name}`, group]);
          const [text, json, binary] = seen.fragments;
          assert.equal(seen.fragments.length, 3);
          assert.deepEqual([text.data, text.dataType, text.fromUserId, text.stream.streamSequenceId], ["Hel", "text", "ana", 1]);
          assert.deepEqual([json.data, json.dataType], [{ n: [1.5, null] }, "json"]);
          assert.deepEqual([...new Uint8Array(binary.data)], [0, 255]);
        }
        assert.equal((await plain.next()).data, "Hel"); // which knows no streams, and takes fragments for messages
        assert.deepEqual((await plain.next()).data, { n: [1.5, null] });
        await assert.rejects(stream.write("late", "text"));
      });

      //checklist:C27
      test(`${name}: an aborted stream fails for its readers`, async () => {
        const group = `abort ${name}`;
        const writer = await start("ana", { protocol: protocol() });
        const inbox = subscribe(await start("ben", { protocol: protocol(), groups: [group] }));
        const stream = await within(writer.openGroupStream(group), "stream start");
        await stream.write("Hel", "text");
        await stream.abort({ message: "model crashed", userErrorCode: "E42" });
        const seen = await inbox.next("stream");
        assert.deepEqual(await within(seen.end, "end"), { name: "UserError", message: "model crashed", userErrorCode: "E42" });
      });

      //checklist:C27
      test(`${name}: a silent stream ends for both sides`, async () => {
        const group = `silence ${name}`;
        const writer = await start("ana", { protocol: protocol() });
        const inbox = subscribe(await start("ben", { protocol: protocol(), groups: [group] }));
        const stream = await within(writer.openGroupStream(group, { idleTimeoutInMs: 300 }), "stream start");
        const failed = new Promise((resolve) => stream.onError(resolve));
        await stream.write("Hel", "text");
        const seen = await inbox.next("stream");
        assert.equal((await within(failed, "error of the writer")).name, "IdleTimeout");
        assert.equal((await within(seen.end, "end")).name, "IdleTimeout");
        await assert.rejects(stream.write("late", "text"));
      });

      //checklist:C27
      test(`${name}: readers hear of a writer that stops`, async () => {
        const group = `stop ${name}`;
        const writer = await start("ana", { protocol: protocol() });
        const inbox = subscribe(await start("ben", { protocol: protocol(), groups: [group] }));
        const stream = await within(writer.openGroupStream(group), "stream start");
        await stream.write("Hel", "text");
        const seen = await inbox.next("stream");
        writer.stop();
        assert.equal((await within(seen.end, "end")).name, "Cancelled");
      });

      //checklist:C25
      test(`${name}: a stream that is not allowed does not start`, async () => {
        const writer = await start("eve", { protocol: protocol(), roles: ["webpubsub.sendToGroup.open"] });
        await assert.rejects(within(writer.openGroupStream("closed"), "stream start"), { name: "Forbidden" });
        await (await within(writer.openGroupStream("open"), "stream start")).end();
      });
    }

    //checklist:C28
    test("a writer whose connection is cut loses and doubles nothing", async () => {
      const writer = await start("ana", { through: wire });
      const inbox = subscribe(await start("ben", { groups: ["cut"] }));
      const stream = await within(writer.openGroupStream("cut"), "stream start");
      const problems = [];
      stream.onError((error) => problems.push(error));
      const total = 90;
      for (let n = 1; n <= total; n++) {
        await stream.write(n, "json");
        if (n % 30 === 10) wire.cut();
      }
      await stream.end();
      const seen = await inbox.next("stream");
      assert.equal(await within(seen.end, "end", 40_000), "complete");
      assert.deepEqual(seen.fragments.map((f) => f.data), Array.from({ length: total }, (_, i) => i + 1));
      assert.deepEqual(problems, []);
    });

    //checklist:C28
    test("a reader whose connection is cut loses and doubles nothing", async () => {
      const writer = await start("ana");
      const inbox = subscribe(await start("ben", { groups: ["cut reader"], through: wire }));
      const stream = await within(writer.openGroupStream("cut reader"), "stream start");
      const total = 60;
      for (let n = 1; n <= total; n++) {
        await stream.write(n, "json");
        if (n === 20) {
          await eventually(async () => inbox.size > 0, "the reader has begun");
          wire.cut();
        }
      }
      await stream.end();
      const seen = await inbox.next("stream");
      assert.equal(await within(seen.end, "end", 40_000), "complete");
      assert.deepEqual(seen.fragments.map((f) => f.data), Array.from({ length: total }, (_, i) => i + 1));
    });

    //checklist:C26 C28
    test("a fragment that is lost on the way is asked for, and sent again by a recovery", async () => {
      const base = sdk.WebPubSubJsonReliableProtocol();
      const nacks = new Inbox();
      let lost = 0;
      const lossy = {
        ...base,
        writeMessage(message) {
          if (message.kind === "streamData" && message.streamSequenceId === 2 && lost++ === 0) return base.writeMessage({ kind: "ping" });
          return base.writeMessage(message);
        },
        parseMessages(input) {
          const message = base.parseMessages(input);
          if (message?.kind === "streamNack") nacks.put(message);
          return message;
        },
      };
      const writer = await start("ana", { protocol: lossy, through: wire });
      const inbox = subscribe(await start("ben", { groups: ["gap"] }));
      const stream = await within(writer.openGroupStream("gap"), "stream start");
      const problems = [];
      stream.onError((error) => problems.push(error));
      for (const word of ["one", "two", "three"]) await stream.write(word, "text");
      const { name, expectedSequenceId } = await nacks.next("nack");
      assert.deepEqual([name, expectedSequenceId], ["InvalidSequenceId", 2]);
      wire.cut(); // this version sends again only then
      await eventually(() => lost === 2, "the fragment is sent again");
      await stream.write("four", "text");
      await stream.end();
      const seen = await inbox.next("stream");
      assert.equal(await within(seen.end, "end", 40_000), "complete");
      assert.deepEqual(seen.fragments.map((f) => f.data), ["one", "two", "three", "four"]);
      assert.deepEqual(problems, []);
    });
  });
}
