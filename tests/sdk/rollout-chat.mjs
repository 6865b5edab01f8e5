// One room of the chat, spoken in while somebody replaces the pods: by clients of the chat protocol, and by pages as they were
// before messages had numbers, which say to the room's group what they say.

import { WebPubSubClient, WebPubSubJsonReliableProtocol } from "web-pubsub-client-1.1";
import * as sdk from "web-pubsub-client-1.1";
import { ChatClient } from "./chat-client.mjs";
import { eventually, within } from "./lib.mjs";

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const run = Date.now(); // one run's people are not another's

// Speaker says "name 0", "name 1" … until each is acknowledged, and keeps what it has heard.
class Speaker {
  said = 0;
  failed = 0;
  refused = new Map(); // the last thing that was wrong, and how often
  heard = [];

  constructor(name) {
    this.name = name;
    this.userId = `${name}-${run}`;
  }

  text(n) {
    return `${this.name} ${n}`;
  }

  async say(pace) {
    const n = this.said++;
    for (;;) {
      try {
        return await this.send(n);
      } catch (error) {
        this.failed++;
        const reason = String(error.errorDetail?.name ?? error.code ?? error.name);
        this.refused.set(reason, (this.refused.get(reason) ?? 0) + 1);
        await pause(pace);
      }
    }
  }
}

class Page extends Speaker {
  constructor(name, url) {
    super(name);
    this.client = new WebPubSubClient({ getClientAccessUrl: () => url(this.userId) }, { protocol: WebPubSubJsonReliableProtocol() });
    this.client.on("group-message", ({ message: { data } }) => {
      if (typeof data.message === "string" && typeof data.key === "string") this.heard.push(data.message); // no notice
    });
  }

  start() {
    return this.client.start();
  }

  send(n) {
    const key = `${this.userId}-${n}`;
    return this.client.sendToGroup(this.room, { message: this.text(n), fromUserId: this.userId, fromUserName: this.name, key }, "json");
  }

  stop() {
    this.client.stop();
  }
}

class Client extends Speaker {
  constructor(name, url) {
    super(name);
    this.chat = new ChatClient(sdk, () => url(this.userId));
    this.chat.on("MessageCreated", ({ message }) => this.heard.push(message.content.text));
  }

  start() {
    return this.chat.start();
  }

  send(n) {
    return this.chat.send(this.room, this.text(n));
  }

  stop() {
    return this.chat.stop();
  }
}

// talk begins and returns what ends it: a function that returns the tally, with what is wrong in words.
export async function talk(service, count, pace) {
  const url = async (userId) => {
    for (;;) {
      try {
        return (await service.getClientAccessToken({ userId })).url;
      } catch {
        await pause(pace); // the call is made to the deployment, which may be between two pods
      }
    }
  };
  const clients = Array.from({ length: count }, (_, i) => new Client(`client${i}`, url));
  const pages = Array.from({ length: count }, (_, i) => new Page(`page${i}`, url));
  const speakers = [...clients, ...pages];
  await Promise.all(speakers.map((s) => within(s.start(), `start of ${s.name}`)));
  const { roomId } = await clients[0].chat.createRoom("rollout", speakers.map((s) => s.userId));
  for (const s of speakers) s.room = roomId;
  await eventually(() => clients.every((c) => c.chat.rooms.has(roomId)), "everybody is in the room");

  let over = false;
  const talking = speakers.map(async (s) => {
    for (; !over; await pause(pace)) await s.say(pace);
    await s.say(pace);
  });
  await eventually(() => speakers.every((to) => speakers.every((from) => to.heard.includes(from.text(0)))), "all hear all in the chat");

  return async () => {
    over = true;
    await within(Promise.all(talking), "the last messages of the chat are acknowledged");
    const last = (to) => speakers.every((from) => to.heard.includes(from.text(from.said - 1)));
    await eventually(() => speakers.every(last), "the last messages of the chat are everywhere", 20_000).catch(() => {}); // they are lost, then
    const stored = [];
    for await (const page of clients[0].chat.pages(roomId)) stored.push(...page.map((m) => m.content.text));

    const tally = { said: 0, failed: 0, refused: {}, stored: stored.length, notStored: 0, storedTwice: 0, notHeard: 0, heardTwice: 0, repeated: 0 };
    const wrong = [];
    const more = (list, text) => list.filter((one) => one === text).length - 1;
    for (const from of speakers) {
      tally.said += from.said;
      tally.failed += from.failed;
      for (const [reason, n] of from.refused) tally.refused[reason] = (tally.refused[reason] ?? 0) + n;
      for (let n = 0; n < from.said; n++) {
        const text = from.text(n);
        const note = (kind, whom = "") => wrong.push(`${kind}: ${text}${whom}`) && tally[kind]++;
        const twice = more(stored, text);
        if (twice < 0) note("notStored");
        // Whoever asks again by an invocation has no key for it: what was done and not answered is done twice.
        if (twice > 0 && from instanceof Client) tally.repeated += twice;
        else if (twice > 0) note("storedTwice");
        for (const to of speakers) {
          const again = more(to.heard, text);
          if (again < 0) note("notHeard", `, by ${to.name}`);
          if (again > Math.max(twice, 0)) note("heardTwice", `, by ${to.name}`);
        }
      }
    }
    for (const s of speakers) await s.stop();
    return { tally, wrong };
  };
}
