// The live trace, watched with the official SignalR client.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { HttpTransportType, HubConnectionBuilder, LogLevel } from "@microsoft/signalr";
import { createHmac } from "node:crypto";
import { endpoints, Inbox, JSON_PROTOCOL, RawSocket, serviceClient, within } from "./lib.mjs";

const encode = (value) => Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");

function token(connectionString, path) {
  const { endpoint, key } = /^Endpoint=(?<endpoint>[^;]+);AccessKey=(?<key>[^;]+)/.exec(connectionString).groups;
  const url = new URL(path, endpoint).toString();
  const now = Math.floor(Date.now() / 1000);
  const body = `${encode({ alg: "HS256", typ: "JWT" })}.${encode({ aud: url, iat: now, exp: now + 3600 })}`;
  return { url, token: `${body}.${createHmac("sha256", key).update(body).digest("base64url")}` };
}

for (const [scheme, connectionString] of Object.entries(endpoints)) {
  // checklist:O08
  test(`a SignalR client watches over ${scheme}`, { timeout: 600_000 }, async () => {
    const trace = token(connectionString, "/livetrace");
    const connection = new HubConnectionBuilder()
      .withUrl(trace.url, { skipNegotiation: true, transport: HttpTransportType.WebSockets, accessTokenFactory: () => trace.token })
      .configureLogging(LogLevel.None)
      .build();
    after(() => connection.stop());
    const events = new Inbox();
    const properties = new Inbox();
    connection.on("logEvent", (event) => events.put(event));
    connection.on("LogProperty", (property) => properties.put(property));
    await within(connection.start(), "start");
    await within(connection.invoke("startListeningToLogEvents"), "listening");

    const service = serviceClient(connectionString, `trace_${scheme}`);
    const started = async () => {
      for (;;) { // until the node that the socket is on knows that somebody watches
        const { url } = await service.getClientAccessToken({ userId: "ana" });
        const socket = await RawSocket.open(url, JSON_PROTOCOL);
        await socket.close();
        while (events.size > 0) {
          const event = await events.next();
          if (event.logContext.userId === "ana" && event.eventId === 1) return event;
        }
      }
    };
    const event = await within(started(), "a connection is told");
    assert.equal(event.logContext.hub, `trace_${scheme}`);
    assert.deepEqual(event.values, []);
    assert.equal(event.exceptionMessage, null);
    assert.ok(Math.abs(Date.parse(event.time) - Date.now()) < 60_000);

    await connection.send("LogProperty", event.eventId);
    assert.deepEqual(await properties.next("property"), { eventId: 1, eventName: "ConnectionStarted", template: "Connection started.", logLevel: 2 });
    await assert.rejects(connection.invoke("nothing"), /no method/);
  });
}
