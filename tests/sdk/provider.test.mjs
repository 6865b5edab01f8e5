// Tokens of a real OpenID Connect provider, which runs here, in place of an access key.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { once } from "node:events";
import { generateKeyPairSync } from "node:crypto";
import { after, before, test } from "node:test";
import { Provider } from "oidc-provider";
import { WebPubSubServiceClient } from "@azure/web-pubsub";
import { endpoints, JSON_PROTOCOL, RawSocket, refusal, required } from "./lib.mjs";

const AUDIENCE = "https://webpubsub.azure.com"; // what SDKs ask for
const issuer = `http://localhost:${required("CHATR_ISSUER_PORT")}`;
const endpoint = /Endpoint=([^;]+);/.exec(endpoints.https)[1];
const clients = { sender: "chat.send", reader: "chat.read" };

function key(kid, alg) {
  const { privateKey } = alg === "RS256" ? generateKeyPairSync("rsa", { modulusLength: 2048 }) : generateKeyPairSync("ec", { namedCurve: "P-256" });
  return { ...privateKey.export({ format: "jwk" }), kid, alg, use: "sig" };
}

// provider starts one with keys of its own; the issuer stays the same.
async function provider(...keys) {
  const oidc = new Provider(issuer, {
    jwks: { keys },
    clients: Object.entries(clients).map(([id, scope]) => ({
      client_id: id, client_secret: `the secret of ${id}`, grant_types: ["client_credentials"], response_types: [], redirect_uris: [], scope,
    })),
    scopes: Object.values(clients),
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_, resource) => ({
          scope: Object.values(clients).join(" "), audience: resource, accessTokenFormat: "jwt", accessTokenTTL: 600,
          jwt: { sign: { alg: keys[0].alg } },
        }),
      },
    },
  });
  const server = createServer(oidc.callback());
  server.listen(Number(required("CHATR_ISSUER_PORT")), "localhost");
  await once(server, "listening");
  return server;
}

async function token(client, resource = AUDIENCE) {
  const answer = await fetch(`${issuer}/token`, {
    method: "POST",
    headers: { authorization: `Basic ${Buffer.from(`${client}:${encodeURIComponent(`the secret of ${client}`)}`).toString("base64")}` },
    body: new URLSearchParams({ grant_type: "client_credentials", resource, scope: clients[client] }),
  });
  const body = await answer.json();
  assert.ok(body.access_token, JSON.stringify(body));
  return body.access_token;
}

// service is the official SDK with a token credential.
function service(client, resource) {
  const credential = { getToken: async () => ({ token: await token(client, resource), expiresOnTimestamp: Date.now() + 600_000 }) };
  return new WebPubSubServiceClient(endpoint, credential, "chat", { retryOptions: { maxRetries: 0 } });
}

let server;
before(async () => {
  server = await provider(key("first", "RS256"));
});
after(() => server.close());

// checklist:A06 R04
test("the SDK with a token credential sends, and gets tokens for clients", async () => {
  const sdk = service("sender");
  const { url, token: made } = await sdk.getClientAccessToken({ userId: "ana", roles: ["webpubsub.sendToGroup.g"], groups: ["g"], expirationTimeInMinutes: 5 });
  assert.match(url, /^wss:/);
  const claims = JSON.parse(Buffer.from(made.split(".")[1], "base64url"));
  assert.equal(claims.aud, `${endpoint.replace(/\/$/, "")}/client/hubs/chat`);
  assert.equal(claims.exp - claims.iat, 300);
  const ana = await RawSocket.open(url, JSON_PROTOCOL);
  assert.equal(ana.connected.userId, "ana");
  await sdk.sendToUser("ana", { hello: 1 });
  assert.deepEqual(JSON.parse(await ana.frame()).data, { hello: 1 });
  assert.equal(await sdk.groupExists("g"), true);
  assert.equal(await sdk.hasPermission(ana.id, "sendToGroup", { targetName: "g" }), true);
  await ana.close();
});

// checklist:A06
test("who has no scope of the service's is forbidden, other tokens are not known", async () => {
  const status = (client, resource) => service(client, resource).sendToAll("x").then(() => 202, (error) => error.statusCode);
  assert.equal(await status("reader"), 403);
  assert.equal(await status("sender", "https://other.example"), 401);
  assert.equal((await refusal(`${endpoint.replace("http", "ws").replace(/\/$/, "")}/client/hubs/chat?access_token=${await token("sender")}`, JSON_PROTOCOL)).status, 401);
});

// checklist:A06
test("while the provider is away its tokens go on, and the access key works beside them", async () => {
  const before = await token("sender");
  const old = service("sender");
  await old.sendToAll("x"); // the SDK keeps its token
  await new Promise((resolve) => { server.close(resolve); server.closeAllConnections(); });
  await old.sendToAll("x");
  assert.ok(before);
  await new WebPubSubServiceClient(endpoints.https, "chat").sendToAll("x");
  server = await provider(key("first", "RS256"));
});
