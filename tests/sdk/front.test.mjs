// The service SDK and a client, through a reverse proxy that rewrites the host and ends TLS.

import assert from "node:assert/strict";
import https from "node:https";
import { once } from "node:events";
import { test } from "node:test";
import { WebPubSubServiceClient } from "@azure/web-pubsub";
import { WebPubSubClient } from "web-pubsub-client-1.1";
import WebSocket from "ws";
import { endpoints, JSON_PROTOCOL, RawSocket, required, within } from "./lib.mjs";

const publicName = required("CHATR_PUBLIC");
const hub = "chat";

// request makes one of a client at another address of this machine.
async function request(method, path, { from = "127.0.0.1", headers = {} } = {}) {
  const req = https.request(publicName + path, { method, headers, localAddress: from, family: 4, agent: false });
  req.end();
  const [response] = await within(once(req, "response"), `${method} ${path}`);
  let body = "";
  for await (const chunk of response) body += chunk;
  return { status: response.statusCode, body };
}

// checklist:O09 A03 R14
test("applications use the public name, or the service's own with the proxy in front", async () => {
  const ways = [
    new WebPubSubServiceClient(endpoints.https, hub),
    new WebPubSubServiceClient(endpoints.http, hub, { reverseProxyEndpoint: publicName }),
  ];
  for (const service of ways) {
    const { token } = await service.getClientAccessToken({ userId: "ana", groups: ["g", "a/b"] });
    const url = `${publicName.replace("https", "wss")}/client/hubs/${hub}?access_token=${token}`;
    const clients = [await RawSocket.open(url, JSON_PROTOCOL), await RawSocket.open(url, JSON_PROTOCOL)];
    await service.group("a/b").sendToAll("hi", { contentType: "text/plain" });
    for (const client of clients) {
      assert.deepEqual(JSON.parse(await client.frame()), { type: "message", from: "group", group: "a/b", dataType: "text", data: "hi" });
    }
    const seen = [];
    for await (const member of await service.group("g").listConnections({ maxPageSize: 1 })) seen.push(member.connectionId);
    assert.deepEqual(seen.sort(), clients.map((c) => c.id).sort()); // the second page's link leads through the proxy
    for (const client of clients) await client.close();
  }
});

// checklist:O09 A02
test("the client SDK connects, joins and sends under the public name", async () => {
  const service = new WebPubSubServiceClient(endpoints.https, hub);
  const client = new WebPubSubClient({ getClientAccessUrl: async () => (await service.getClientAccessToken({ userId: "ben", roles: ["webpubsub.sendToGroup", "webpubsub.joinLeaveGroup"] })).url });
  const heard = new Promise((resolve) => client.on("group-message", resolve));
  await within(client.start(), "start");
  await within(client.joinGroup("g"), "join");
  await within(client.sendToGroup("g", "hello", "text"), "send");
  assert.equal((await within(heard, "message")).message.data, "hello");
  client.stop();
});

// checklist:O07 R01
test("health probes get through, the root is forbidden", async () => {
  for (const [method, path] of [["HEAD", "/api/health"], ["GET", "/api/health"], ["HEAD", "/api/v1/health"], ["GET", "/api/v1/health"]]) {
    assert.equal((await request(method, path, { from: "127.0.0.9" })).status, 200, `${method} ${path}`);
  }
  assert.equal((await request("GET", "/")).status, 403);
});

// checklist:O04
test("what is allowed depends on where a request really comes from", async () => {
  const service = new WebPubSubServiceClient(endpoints.https, hub);
  const { token } = await service.getClientAccessToken();
  const exists = (from, forged) => request("HEAD", `/api/hubs/${hub}/groups/g`, { from, headers: { ...(forged && { "x-forwarded-for": forged }) } });
  assert.equal((await exists("127.0.0.1")).status, 401); // allowed, without a token
  assert.equal((await exists("127.0.0.5")).status, 403);
  assert.equal((await exists("127.0.0.5", "127.0.0.1")).status, 403); // what it says of itself does not count
  const connect = async (from) => {
    const socket = new WebSocket(`${publicName.replace("https", "wss")}/client/hubs/${hub}?access_token=${token}`, { localAddress: from, family: 4 });
    socket.on("error", () => {});
    const status = await within(Promise.race([once(socket, "open").then(() => 101), once(socket, "unexpected-response").then(([, r]) => r.statusCode)]), "answer");
    socket.terminate();
    return status;
  };
  assert.equal(await connect("127.0.0.5"), 101);
  assert.equal(await connect("127.0.0.9"), 403);
});
