// Official clients that talk to each other through a deployment while somebody replaces its pods; scripts/test-rollout runs it.
//
//   CHATR_HTTP   connection string
//   PAIRS        how many reliable and how many plain clients there are (default 20)
//   PACE         milliseconds from a client's ack to its next message (default 100)
//   SPEAKERS     how many pages of the version before and how many clients of the chat protocol talk in a room (default 3)
//
// Everybody sends numbered messages to everybody. Prints "ready" when all are connected and have been heard; a line on
// standard input ends the talk. Then prints, as one JSON object, what was sent, acknowledged, delivered, lost, doubled and out of
// order, for reliable and for plain clients. What a plain client misses while it reconnects is counted as lost, too. What a plain
// client has had no ack for when its connection ends, the client library sends again: it is counted as repeated, not as doubled,
// since the service has nothing to know it by.
// Exits with 1 if a reliable client has missed an acknowledged message, got one twice or out of order, or a connection of
// one was replaced; or if what was said in the chat is not in its history, once, or was not heard by everybody there.

import { createInterface } from "node:readline";
import { WebPubSubClient, WebPubSubJsonProtocol, WebPubSubJsonReliableProtocol } from "web-pubsub-client-1.1";
import { eventually, endpoints, serviceClient, within } from "./lib.mjs";
import { talk } from "./rollout-chat.mjs";

const pairs = Number(process.env.PAIRS ?? 20);
const pace = Number(process.env.PACE ?? 100);
const group = "everybody";
const service = serviceClient(endpoints.http, "rollout");
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

class Talker {
  sent = 0;
  failed = 0; // sends that were not acknowledged at the first attempt
  acked = new Set();
  got = new Map(); // by sender, in order of arrival
  replaced = 0;
  again = new Set(); // what a plain client has sent more than once, for which the first of them is in got

  constructor(name, reliable) {
    this.name = name;
    this.reliable = reliable;
    this.client = new WebPubSubClient(
      { getClientAccessUrl: () => this.url() },
      { protocol: reliable ? WebPubSubJsonReliableProtocol() : WebPubSubJsonProtocol() },
    );
    this.client.on("disconnected", () => this.replaced++);
    this.client.on("group-message", ({ message }) => {
      const { from, n, attempt } = message.data;
      if (!this.got.has(from)) this.got.set(from, []);
      const again = `${from} ${n} ${attempt}`;
      if (attempt > 1 && from.startsWith("plain") && this.got.get(from).includes(n) && !this.again.has(again)) this.again.add(again);
      else this.got.get(from).push(n);
    });
  }

  async url() {
    for (;;) {
      try {
        return (await service.getClientAccessToken({ userId: this.name, groups: [group], roles: ["webpubsub.sendToGroup"] })).url;
      } catch {
        await pause(pace); // the call is made to the deployment, which may be between two pods
      }
    }
  }

  async say() {
    const n = this.sent++;
    let attempts = 0; // of the client library as well, which writes the message anew each time
    const data = { from: this.name, n, get attempt() { return ++attempts; } };
    for (;;) {
      try {
        await this.client.sendToGroup(group, data, "json", { ackId: n + 1 });
        this.acked.add(n);
        return;
      } catch {
        this.failed++;
        await pause(pace);
      }
    }
  }
}

const talkers = [];
for (let i = 0; i < pairs; i++) talkers.push(new Talker(`reliable${i}`, true), new Talker(`plain${i}`, false));
for (const talker of talkers) await within(talker.client.start(), `start of ${talker.name}`, 60_000);

let over = false;
const rest = { sent: 0, failed: 0, reasons: {} };
const talking = talkers.map(async (talker) => {
  while (!over) {
    await talker.say();
    await pause(pace);
  }
  await talker.say();
});
talking.push((async () => {
  for (; !over; await pause(pace)) {
    rest.sent++;
    await service.group("nobody").sendToAll("over REST", { contentType: "text/plain" }).catch((error) => {
      rest.failed++;
      const reason = String(error.statusCode ?? error.code ?? error.name);
      rest.reasons[reason] = (rest.reasons[reason] ?? 0) + 1;
    });
  }
})());
await eventually(() => talkers.every((to) => talkers.every((from) => to.got.has(from.name))), "everybody is heard by everybody", 60_000);
const endOfChat = await talk(serviceClient(endpoints.http, "chat"), Number(process.env.SPEAKERS ?? 3), pace);
console.log("ready");
await new Promise((resolve) => createInterface({ input: process.stdin }).once("line", resolve));
over = true;
const chat = await endOfChat();
await within(Promise.all(talking), "the last messages are acknowledged", 60_000);
const complete = (to) => talkers.every((from) => to.got.get(from.name)?.at(-1) === from.sent - 1);
await eventually(() => talkers.every(complete), "the last messages are everywhere", 20_000).catch(() => {}); // they are lost, then

const tally = { rest, chat: chat.tally };
const wrong = new Map(); // what reliable clients missed or got twice: how many of them, by kind, sender and number
const note = (kind, from, n) => wrong.set(`${kind}: ${from.name} ${n}`, (wrong.get(`${kind}: ${from.name} ${n}`) ?? 0) + 1);
for (const reliable of [true, false]) {
  const sum = { sent: 0, acked: 0, retried: 0, delivered: 0, lost: 0, doubled: 0, repeated: 0, disordered: 0, replaced: 0 };
  for (const to of talkers.filter((t) => t.reliable === reliable)) {
    sum.sent += to.sent;
    sum.acked += to.acked.size;
    sum.retried += to.failed;
    sum.replaced += to.replaced;
    sum.repeated += to.again.size;
    for (const from of talkers) {
      const got = to.got.get(from.name) ?? [];
      const once = new Set(got);
      sum.delivered += got.length;
      sum.doubled += got.length - once.size;
      sum.lost += [...from.acked].filter((n) => !once.has(n)).length;
      sum.disordered += got.filter((n, i) => i > 0 && n < got[i - 1]).length;
      if (!reliable) continue;
      for (const n of from.acked) if (!once.has(n)) note("lost", from, n);
      for (const n of got.filter((n, i) => got.indexOf(n) < i)) note("doubled", from, n);
    }
  }
  tally[reliable ? "reliable" : "plain"] = sum;
}
console.log(JSON.stringify(tally));
for (const [what, receivers] of [...wrong].slice(0, 20)) console.error(`${what}, by ${receivers} reliable clients`);
for (const what of chat.wrong.slice(0, 20)) console.error(what);
for (const { client } of talkers) client.stop();
const { lost, doubled, disordered, replaced } = tally.reliable;
process.exit(lost + doubled + disordered + replaced + chat.wrong.length > 0 ? 1 : 0);
