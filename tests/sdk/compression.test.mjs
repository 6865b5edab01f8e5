// permessage-deflate, as the WebSocket library of Node does it, which Azure's SDKs bring: on a hub that has it, in one group
// with clients that do not.

import assert from "node:assert/strict";
import { once } from "node:events";
import { after, describe, test } from "node:test";
import { WebPubSubClient, WebPubSubJsonProtocol, WebPubSubJsonReliableProtocol } from "web-pubsub-client-1.1";
import WebSocket from "ws";
import { endpoints, Inbox, JSON_PROTOCOL, serviceClient, within } from "./lib.mjs";

const RELIABLE = "json.reliable.webpubsub.azure.v1";
const ROLES = ["webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"];

for (const [scheme, connectionString] of Object.entries(endpoints)) {
  describe(`compression over ${scheme}`, { timeout: 600_000 }, () => {
    const service = serviceClient(connectionString, "compressed");
    const ends = [];
    after(() => ends.forEach((end) => end()));

    async function url(userId, in_ = service) {
      return (await in_.getClientAccessToken({ userId, roles: ROLES, groups: ["mixed"] })).url;
    }

    // open returns a receiver of texts; what it has read off the network is counted.
    async function open(protocol, perMessageDeflate) {
      const ws = new WebSocket(await url("raw"), protocol ? [protocol] : [], { perMessageDeflate });
      const inbox = new Inbox();
      ws.on("message", (data) => {
        const message = protocol ? JSON.parse(data) : { type: "message", data: data.toString() };
        if (message.type === "message") inbox.put(message.data);
      });
      await within(once(ws, "open"), "handshake");
      ends.push(() => ws.terminate());
      assert.equal(ws.extensions.includes("permessage-deflate"), Boolean(perMessageDeflate), ws.extensions);
      return { name: `${protocol || "simple"}, ${JSON.stringify(perMessageDeflate)}`, inbox, bytes: () => ws._socket.bytesRead, compressed: Boolean(perMessageDeflate), ws };
    }

    async function start(name, protocol) {
      const client = new WebPubSubClient({ getClientAccessUrl: () => url(name) }, { protocol });
      const inbox = new Inbox();
      client.on("group-message", (e) => inbox.put(e.message.data));
      await within(client.start(), "start");
      ends.push(() => client.stop());
      return { name, inbox, client };
    }

    test("everybody in a mixed group gets the same texts", async () => {
      const raw = [];
      for (const protocol of ["", JSON_PROTOCOL, RELIABLE]) {
        for (const deflate of [false, true, { threshold: 0 }, { clientMaxWindowBits: 9, threshold: 0 }, { serverNoContextTakeover: true, clientNoContextTakeover: true, threshold: 0 }]) {
          raw.push(await open(protocol, deflate));
        }
      }
      const sdk = [await start("plain", WebPubSubJsonProtocol()), await start("reliable", WebPubSubJsonReliableProtocol())];
      const senders = raw.filter((r) => r.ws.protocol === JSON_PROTOCOL);
      const texts = [];
      for (let n = 0; n < 40; n++) {
        texts.push(`<${n}> ${"Ein Satz, der sich lohnt, und noch einer: ☃. ".repeat(n * 3)}`);
        const via = n % (senders.length + 2);
        if (via < senders.length) {
          senders[via].ws.send(JSON.stringify({ type: "sendToGroup", group: "mixed", dataType: "text", data: texts[n] }));
        } else {
          await sdk[via - senders.length].client.sendToGroup("mixed", texts[n], "text");
        }
        for (const { name, inbox } of [...raw, ...sdk]) assert.equal(await inbox.next(`text ${n} for ${name}`), texts[n], name);
      }
      if (scheme === "https") return; // the socket's count is of what TLS has decrypted
      const size = Buffer.byteLength(texts.join(""));
      for (const { name, bytes, compressed } of raw) {
        if (compressed) assert.ok(bytes() < size / 4, `${name} has read ${bytes()} bytes for ${size} of text`);
        else assert.ok(bytes() > size, `${name} has read ${bytes()} bytes for ${size} of text`);
      }
    });

    test("an offer of a smaller window of ours is declined, and so is any offer for other hubs", async () => {
      for (const [hub, deflate] of [["compressed", { serverMaxWindowBits: 10 }], ["plain", true]]) {
        const ws = new WebSocket(await url("ana", serviceClient(connectionString, hub)), { perMessageDeflate: deflate });
        await within(once(ws, "open"), "handshake");
        assert.equal(ws.extensions, "", hub);
        ws.terminate();
      }
    });

    test("data that cannot be decompressed ends the connection with 1007", async () => {
      const { ws } = await open(JSON_PROTOCOL, true);
      ws._sender.sendFrame([Buffer.from([0xc1, 0x83, 0, 0, 0, 0, 0xff, 0xff, 0xff])]);
      const [code] = await within(once(ws, "close"), "close");
      assert.equal(code, 1007);
    });
  });
}
