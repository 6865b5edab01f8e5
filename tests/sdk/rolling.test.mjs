// Reliable clients of both versions, over JSON and protobuf, through a rolling deploy: everybody sends numbered messages to
// everybody, and each message that was acknowledged arrives once, in its sender's order, at each.
//
// A POST to $CHATR_DEPLOY replaces all gateways, one after the other, and is answered when that is done.

import assert from "node:assert/strict";
import { test } from "node:test";
import * as v1_0 from "web-pubsub-client-1.0";
import * as v1_1 from "web-pubsub-client-1.1";
import { endpoints, eventually, required, serviceClient, within } from "./lib.mjs";
import { WebPubSubProtobufReliableProtocol } from "./protobuf-protocol.mjs";

const PACE = 10; // milliseconds between an ack and the next message, so that a busy machine keeps up

// Talker is a client that sends what nobody has sent before, and notes what it gets.
class Talker {
  sent = 0;
  retried = 0;
  acked = new Set();
  got = new Map(); // by sender, in order of arrival
  interruptions = 0;

  constructor(name, client) {
    this.name = name;
    this.client = client;
    client.on("disconnected", () => this.interruptions++); // the connection was lost, and not only its socket
    client.on("group-message", ({ message }) => {
      const { from, n } = message.data;
      if (!this.got.has(from)) this.got.set(from, []);
      this.got.get(from).push(n);
    });
  }

  // say sends one message until it is acknowledged, with one ackId, as an application does that wants it delivered once.
  async say(group) {
    const n = this.sent++;
    for (const options = { ackId: n + 1 }; ; this.retried++) {
      try {
        await this.client.sendToGroup(group, { from: this.name, n }, "json", options);
        this.acked.add(n);
        return;
      } catch (error) {
        assert.equal(error.name, "SendMessageError", `${error}`);
        await new Promise((resolve) => setTimeout(resolve, PACE));
      }
    }
  }
}

// checklist:C17 C18 O06
test("a rolling deploy loses and doubles nothing", { timeout: 600_000 }, async () => {
  const service = serviceClient(endpoints.http, "rolling");
  const group = "everybody";
  const talkers = [];
  for (const [version, sdk] of Object.entries({ "1.0": v1_0, "1.1": v1_1 })) {
    for (const [name, protocol] of Object.entries({ json: sdk.WebPubSubJsonReliableProtocol(), protobuf: WebPubSubProtobufReliableProtocol() })) {
      const getClientAccessUrl = async () =>
        (await service.getClientAccessToken({ userId: name, groups: [group], roles: ["webpubsub.sendToGroup"] })).url;
      const talker = new Talker(`${name} ${version}`, new sdk.WebPubSubClient({ getClientAccessUrl }, { protocol }));
      await within(talker.client.start(), "start");
      talkers.push(talker);
    }
  }
  let deployed = false;
  const talking = talkers.map(async (talker) => {
    while (!deployed) {
      await talker.say(group);
      await new Promise((resolve) => setTimeout(resolve, PACE));
    }
    await talker.say(group); // on what was deployed
  });
  await eventually(() => talkers.every(({ acked }) => acked.size >= 20), "everybody talks");
  const before = talkers.reduce((sum, { sent }) => sum + sent, 0);
  const response = await fetch(required("CHATR_DEPLOY"), { method: "POST" });
  deployed = true;
  assert.equal(response.status, 200, await response.text());
  await within(Promise.all(talking), "everybody's last message is acknowledged", 120_000);

  const arrived = (to) => talkers.every((from) => (to.got.get(from.name) ?? []).at(-1) === from.sent - 1);
  await eventually(() => talkers.every(arrived), "everybody's last message is everywhere").catch(() => {}); // is lost, then
  let [lost, doubled, disordered, delivered] = [0, 0, 0, 0];
  for (const to of talkers) {
    for (const from of talkers) {
      const got = to.got.get(from.name);
      const once = new Set(got);
      delivered += got.length;
      doubled += got.length - once.size;
      const missing = [...from.acked].filter((n) => !once.has(n));
      lost += missing.length;
      if (missing.length > 0) console.log(`${to.name} did not get ${missing} of ${from.name}`);
      disordered += got.filter((n, i) => i > 0 && n < got[i - 1]).length;
    }
  }
  const count = (of) => talkers.reduce((sum, talker) => sum + of(talker), 0);
  const [sent, acked, retried] = [count(({ sent }) => sent), count(({ acked }) => acked.size), count(({ retried }) => retried)];
  console.log(`${sent} sent, ${sent - before} of them while gateways were replaced; ${acked} acknowledged, after ${retried} further attempts; ` +
    `${delivered} delivered, ${lost} lost, ${doubled} doubled, ${disordered} out of order`);
  assert.deepEqual({ lost, doubled, disordered, delivered }, { lost: 0, doubled: 0, disordered: 0, delivered: sent * talkers.length });
  assert.equal(count(({ interruptions }) => interruptions), 0, "the applications saw nothing of it");
  for (const { client } of talkers) client.stop();
});
