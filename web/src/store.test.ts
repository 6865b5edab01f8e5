import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ApiError, type Api, type WireChat, type WireMessage, type WirePerson } from "./api";
import { Lost, Refused, type Link, type Listener } from "./connection";
import { Store, type Alert } from "./store";

const me = { userId: "guest_me", userName: "Ada", provider: "guest" };

// The services as far as the store can see them.
class World {
  chats: WireChat[] = [];
  users: [string, WirePerson][] = [[me.userId, { userName: "Ada", userProvider: "guest", idle: false }]];
  messages: Record<string, WireMessage[]> = {};
  alerts: Alert[] = [];
  sent: unknown[] = [];
  refuse: Error | null = null;
  down: Error | null = null;
  hold: Promise<void> = Promise.resolve();
  listener!: Listener;
  stopped = false;
  saved = new Map<string, string>();
  kept = new Map<string, string>(); // with the tab

  readonly store = new Store({
    api: {
      config: async () => ({ idleAfterSeconds: 60, providers: ["guest"], limits: { name: 64, title: 100, text: 8000, page: 200 } }),
      me: async () => me,
      signInAsGuest: async () => me,
      chats: () => this.#answer(() => structuredClone(this.chats)),
      chat: (id) => this.#answer(() => structuredClone(this.chats.find((c) => c.id === id) as WireChat)),
      users: () => this.#answer(() => structuredClone(this.users)),
      blocked: () => this.#answer(() => []),
      messages: (id, before = Infinity, limit = 50) =>
        this.#answer(() => {
          const all = (this.messages[id] ?? []).filter((m) => m.seq < before);
          const page = all.slice(-limit);
          return { messages: structuredClone(page), next: page.length < all.length ? page[0]?.seq : undefined };
        }),
      negotiate: async () => "ws://nowhere",
    } satisfies Api,
    openLink: (_negotiate, listener) => {
      this.listener = listener;
      return {
        start: () => undefined,
        stop: () => (this.stopped = true),
        sendEvent: async (name, data) => {
          this.sent.push([name, data]);
          if (this.refuse) throw this.refuse;
        },
        sendText: async (chatId, text, key) => {
          this.sent.push(["text", chatId, text, key]);
          if (this.refuse) throw this.refuse;
        },
      } satisfies Link;
    },
    storage: { getItem: (k) => this.saved.get(k) ?? null, setItem: (k, v) => void this.saved.set(k, v) },
    tabStorage: { getItem: (k) => this.kept.get(k) ?? null, setItem: (k, v) => void this.kept.set(k, v) },
    alert: (a) => this.alerts.push(a),
  });

  async #answer<T>(value: () => T): Promise<T> {
    const answer = this.down ? null : value(); // as it is when asked, like a database
    await this.hold;
    if (this.down) throw this.down;
    return answer as T;
  }

  chat(id: string, more: Partial<WireChat> = {}): void {
    this.chats.push({
      id, name: id, owner: "guest_bob", kind: "public", state: "joined", lastSeq: 0, readSeq: 0,
      members: { guest_bob: { userId: "guest_bob", userName: "Bob", state: "joined" }, [me.userId]: { ...me, state: "joined" } },
      ...more,
    });
  }

  async online(): Promise<void> {
    await this.store.start();
    this.listener.state("online");
    await settle();
  }

  server(event: string, data: unknown): void {
    this.listener.server(event, typeof data === "string" ? data : JSON.stringify(data));
  }

  unread(id: string): number {
    const chat = this.store.state.chats.get(id);
    return chat ? this.store.unread(chat) : -1;
  }

  texts(id: string): string[] {
    return this.store.timeline(id).messages().map((m) => `${m.text}:${m.state}`);
  }
}

async function settle(): Promise<void> {
  await vi.advanceTimersByTimeAsync(0);
}

function line(seq: number, text: string, key = `k${seq}`, userId = "guest_bob"): WireMessage {
  return { seq, userId, userName: "Bob", text, key, sentAt: new Date().toISOString() };
}

let world: World;
beforeEach(() => {
  vi.useFakeTimers();
  world = new World();
});
afterEach(() => vi.useRealTimers());

describe("a private chat that somebody has been put into", () => {
  it("appears with its history's length, says so, and disappears when its members take one out", async () => {
    await world.online();
    world.chat("r1", { name: "Tea", kind: "private", lastSeq: 3, readSeq: 3 });
    const { members } = world.chats.at(-1) as WireChat;
    world.server("chatCreated", { id: "r1", name: "Tea", owner: "guest_bob", kind: "private", members });
    await settle();
    const chat = world.store.state.chats.get("r1");
    expect([chat?.kind, chat?.state, chat?.lastSeq, world.unread("r1")]).toEqual(["private", "joined", 3, 0]);
    expect(world.store.state.toasts.map((t) => t.text)).toEqual(["You have been added to “Tea”."]);
    world.server("memberLeft", { chatId: "r1", userId: me.userId });
    expect(world.store.state.chats.has("r1")).toBe(false);
  });
});

describe("presence", () => {
  it("follows people coming, going and idling, and ignores unknown ids", async () => {
    await world.online();
    const { people } = world.store.state;
    world.server("userOnline", { userId: "guest_bob", userName: "Bob", userProvider: "guest", idle: false });
    world.server("userIsIdle", "guest_bob");
    world.server("userIsIdle", "guest_ghost");
    expect([...people.values()].map((p) => [p.userName, p.idle])).toEqual([["Ada", false], ["Bob", true]]);
    world.server("userOffline", "guest_bob");
    expect([...people.keys()]).toEqual([me.userId]);
  });

  it("survives malformed messages", async () => {
    await world.online();
    for (const data of ["", "null", "[]", "{", "{}", '{"userId":1}', '{"chatId":"x"}']) {
      for (const e of ["userOnline", "chatCreated", "joinPrivateChat", "memberJoined", "memberLeft", "chatRead", "chatDeleted", "nonsense"]) {
        world.server(e, data);
      }
    }
    expect(world.store.state.people.size).toBe(1);
    expect(world.store.state.chats.size).toBe(0);
  });

  it("does not let an older list overwrite newer news", async () => {
    await world.store.start();
    let release = (): void => undefined;
    world.hold = new Promise((resolve) => (release = resolve));
    world.listener.state("online"); // asks for the lists, in which Bob is not
    world.server("userOnline", { userId: "guest_bob", userName: "Bob", userProvider: "guest", idle: false });
    release();
    await settle();
    expect([...world.store.state.people.keys()]).toEqual([me.userId, "guest_bob"]);
  });

  it("says again that nobody is here when a new connection starts out in use", async () => {
    await world.online();
    world.store.setIdle(true);
    world.listener.state("reconnecting");
    world.listener.state("online");
    await settle();
    expect(world.sent).toEqual([["userEnterIdle", me.userId], ["userEnterIdle", me.userId]]);
  });
});

describe("idle", () => {
  it("tells of a return that happened while the connection was away", async () => {
    await world.online();
    world.store.setIdle(true);
    await settle();
    world.listener.state("reconnecting");
    world.store.setIdle(false);
    world.listener.state("online"); // recovered: the server still has us idle
    await settle();
    expect(world.sent).toEqual([["userEnterIdle", me.userId], ["userExitIdle", me.userId]]);
  });
});

describe("unread", () => {
  it("counts on with live messages, and tells the server a moment after they were seen", async () => {
    world.chat("hike", { lastSeq: 12, readSeq: 10 });
    await world.online();
    world.listener.said("hike", "guest_bob", "hi", "x");
    world.listener.said("hike", "guest_bob", "hi", "x"); // sent twice
    expect(world.unread("hike")).toBe(3);
    expect(world.store.state.tabs).toEqual(["hike"]);

    world.store.seen("hike");
    expect(world.unread("hike")).toBe(0);
    expect(world.sent).toEqual([]);
    await vi.advanceTimersByTimeAsync(1000);
    expect(world.sent).toEqual([["markRead", { chatId: "hike", seq: 13 }]]);
  });

  it("says again what is read, for what was not stored yet, and when the lists do not know", async () => {
    const told = ["markRead", { chatId: "hike", seq: 1 }];
    world.chat("hike");
    await world.online();
    await vi.advanceTimersByTimeAsync(20_000); // the lists are not read again after that
    world.listener.said("hike", "guest_bob", "hi", "x");
    world.store.seen("hike");
    await vi.advanceTimersByTimeAsync(12_000);
    expect(world.sent).toEqual([told, told]);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(world.sent).toEqual([told, told]);

    Object.assign(world.chats[0] ?? {}, { lastSeq: 1, readSeq: 0 });
    await world.store.refresh();
    await vi.advanceTimersByTimeAsync(1000);
    expect(world.sent).toEqual([told, told, told]);
  });

  it("goes when another of our pages has read it", async () => {
    world.chat("hike", { lastSeq: 5, readSeq: 1 });
    await world.online();
    world.server("chatRead", { chatId: "hike", seq: 5 });
    expect(world.unread("hike")).toBe(0);
  });

  it("does not count our own words", async () => {
    world.chat("hike");
    await world.online();
    world.listener.said("hike", me.userId, "from my other page", "x");
    expect(world.unread("hike")).toBe(0);
  });

  it("asks for attention with the name we know, not one from a payload", async () => {
    world.chat("hike");
    await world.online();
    world.listener.said("hike", "guest_bob", "hello", "x");
    expect(world.alerts).toEqual([{ title: "Bob in hike", body: "hello", chatId: "hike" }]);
  });
});

describe("sending", () => {
  beforeEach(async () => {
    world.chat("hike");
    await world.online();
    world.store.open("hike");
    await settle();
  });

  it("shows the message at once and as sent when the server has it", async () => {
    world.store.send("hike", "hello");
    expect(world.texts("hike")).toEqual(["hello:sending"]);
    await settle();
    expect(world.texts("hike")).toEqual(["hello:sent"]);
  });

  it("keeps a refused message, and tries again with the same key", async () => {
    world.refuse = new Refused("no");
    world.store.send("hike", "hello");
    await settle();
    expect(world.texts("hike")).toEqual(["hello:failed"]);

    world.refuse = null;
    world.store.retry("hike", world.store.timeline("hike").messages()[0]?.id ?? "");
    await settle();
    expect(world.texts("hike")).toEqual(["hello:sent"]);
    const keys = world.sent.map((s) => (s as string[])[3]);
    expect(keys[0]).toBe(keys[1]);
  });

  it("sends what was lost again when the connection is back, with the same key", async () => {
    world.refuse = new Lost("gone");
    world.listener.state("reconnecting");
    world.store.send("hike", "written in a tunnel");
    await settle();
    expect(world.texts("hike")).toEqual(["written in a tunnel:sending"]);
    expect(world.sent).toEqual([]);

    world.refuse = null;
    world.listener.state("online");
    await settle();
    expect(world.texts("hike")).toEqual(["written in a tunnel:sent"]);
    expect(world.sent).toHaveLength(1);
  });

  it("waits for the network, however long the socket takes to notice", async () => {
    world.refuse = new Lost("gone");
    world.store.send("hike", "sent as it went");
    world.store.setOffline(true);
    world.store.send("hike", "sent while away");
    await settle();
    expect(world.texts("hike")).toEqual(["sent as it went:sending", "sent while away:sending"]);

    world.refuse = null;
    world.store.setOffline(false);
    await settle();
    expect(world.texts("hike")).toEqual(["sent as it went:sent", "sent while away:sent"]);
  });

  it("believes the echo before the acknowledgement", async () => {
    world.refuse = new Refused("no");
    world.store.send("hike", "hello");
    const key = (world.sent[0] as string[])[3];
    world.listener.said("hike", me.userId, "hello", key);
    await settle();
    expect(world.texts("hike")).toEqual(["hello:sent"]);
  });
});

describe("a reload", () => {
  // The page again, on what the server and the tab know.
  function reloaded(): World {
    const again = new World();
    Object.assign(again, { kept: world.kept, chats: world.chats, messages: world.messages });
    return again;
  }
  const keys = (w: World) => w.sent.map((s) => (s as string[])[3]);

  beforeEach(async () => {
    world.chat("hike");
    await world.online();
    world.store.open("hike");
    await settle();
  });

  it("keeps what was being written, until it is sent or somebody signs out", async () => {
    world.store.setDraft("hike", "half a sent");
    const again = reloaded();
    await again.online();
    expect(again.store.draft("hike")).toBe("half a sent");
    again.store.setDraft("hike", "");
    expect(again.store.draft("hike")).toBe("");
    again.store.setDraft("hike", "private");
    again.store.signOut();
    expect([...again.kept.values()].join()).not.toContain("private");
  });

  it("sends what was waiting, as the same message, and not what has arrived", async () => {
    world.refuse = new Lost("gone");
    world.store.send("hike", "arrived, and its ack did not");
    world.listener.state("reconnecting");
    world.store.send("hike", "in a tunnel");
    await settle();
    const first = JSON.parse(world.kept.get(`chatr.unsent.${me.userId}`) ?? "").waiting.map((w: { key: string }) => w.key);
    world.messages.hike = [line(1, "arrived, and its ack did not", first[0], me.userId)];

    const again = reloaded();
    await again.store.start();
    expect(again.texts("hike")).toEqual(["arrived, and its ack did not:sending", "in a tunnel:sending"]);
    again.store.state.active = "hike";
    again.listener.state("online");
    await settle();
    expect(again.texts("hike")).toEqual(["arrived, and its ack did not:sent", "in a tunnel:sent"]);
    expect(keys(again)).toEqual(first);
    expect(JSON.parse(again.kept.get(`chatr.unsent.${me.userId}`) ?? "").waiting).toEqual([]);
  });

  it("forgets what was waiting for a chat that is gone", async () => {
    world.listener.state("reconnecting");
    world.store.send("hike", "too late");
    world.chats = [];
    const again = reloaded();
    await again.online();
    expect(again.store.state.timelines.size).toBe(0);
  });

  it("begins anew when what is kept cannot be read", async () => {
    world.kept.set(`chatr.unsent.${me.userId}`, "{");
    const again = reloaded();
    await again.online();
    expect(again.store.draft("hike")).toBe("");
  });
});

describe("after a gap", () => {
  it("merges what history has with what is here, without doubles", async () => {
    world.chat("hike", { lastSeq: 1 });
    world.messages.hike = [line(1, "one")];
    await world.online();
    world.store.open("hike");
    await settle();
    world.listener.said("hike", "guest_bob", "two", "k2");
    world.listener.state("reconnecting");
    world.messages.hike.push(line(2, "two"), line(3, "three"));
    Object.assign(world.chats[0] ?? {}, { lastSeq: 3 });
    world.listener.state("online");
    await settle();
    expect(world.texts("hike")).toEqual(["one:sent", "two:sent", "three:sent"]);
    expect(world.store.state.chats.get("hike")?.lastSeq).toBe(3);
  });

  it("reads again when the answer on its way may be older than the connection", async () => {
    world.chat("hike");
    await world.online();
    let release = (): void => undefined;
    world.hold = new Promise((resolve) => (release = resolve));
    world.store.open("hike"); // asks, and is answered "nothing yet", slowly
    world.listener.state("reconnecting");
    world.messages.hike = [line(1, "meanwhile")];
    world.listener.state("online");
    release();
    await settle();
    expect(world.texts("hike")).toEqual(["meanwhile:sent"]);
  });

  it("finds what was delivered before the connection and stored after it", async () => {
    world.chat("hike");
    await world.online();
    world.store.open("hike");
    await settle();
    world.messages.hike = [line(1, "just missed")];
    await vi.advanceTimersByTimeAsync(3000);
    expect(world.texts("hike")).toEqual(["just missed:sent"]);
    world.messages.hike.push(line(2, "and after a restart"));
    await vi.advanceTimersByTimeAsync(19_000);
    expect(world.texts("hike")).toEqual(["just missed:sent", "and after a restart:sent"]);
  });

  it("forgets chats that are gone and shows none in their place", async () => {
    world.chat("hike");
    await world.online();
    world.store.open("hike");
    world.chats = [];
    world.listener.state("online");
    await settle();
    expect(world.store.state.active).toBeNull();
    expect(world.store.state.tabs).toEqual([]);
  });

  it("keeps asking for the lists while the server is away", async () => {
    world.down = new ApiError(503, "away");
    await world.online();
    expect(world.store.state.stale).toBe(true);
    world.down = null;
    await vi.advanceTimersByTimeAsync(1000);
    expect([world.store.state.stale, world.store.state.loaded]).toEqual([false, true]);
  });

  it("signs out when the session is over", async () => {
    await world.online();
    world.down = new ApiError(401, "sign in");
    await world.store.refresh();
    expect(world.store.state.phase).toBe("signedOut");
    expect(world.stopped).toBe(true);
  });
});

describe("another person on the same page", () => {
  it("finds nothing of the one before, not even an answer that was on its way", async () => {
    world.chat("hike", { lastSeq: 3 });
    await world.online();
    world.store.seen("hike");
    await vi.advanceTimersByTimeAsync(1000);
    let release = (): void => undefined;
    world.hold = new Promise((resolve) => (release = resolve));
    void world.store.refresh();
    world.listener.ended();
    world.chats = [];
    world.chat("club", { lastSeq: 3 });
    await world.store.signIn("Eve");
    world.listener.state("online");
    release();
    await settle();
    expect([...world.store.state.chats.keys()]).toEqual(["club"]);
    expect(world.store.state.signedOutBecause).toBe("");
  });
});

describe("chats", () => {
  it("keeps what we do while lists are on their way that were asked for before", async () => {
    world.chat("club");
    world.chat("park", { owner: me.userId });
    await world.online();
    let release = (): void => undefined;
    world.hold = new Promise((resolve) => (release = resolve));
    void world.store.refresh();
    const { store } = world;
    const id = await store.createChat("Hike");
    store.open(id);
    await store.leave("club");
    await store.deleteChat("park");
    await store.block("guest_bob");
    release();
    await settle();
    expect(store.state.active).toBe(id);
    expect([...store.state.chats.values()].map((c) => [c.name, c.state])).toEqual([["club", "none"], ["Hike", "joined"]]);
    expect([...store.state.blocked]).toEqual(["guest_bob"]);
    world.chats = world.chats.filter((c) => c.id === "club"); // lists asked for later are believed
    await store.refresh();
    expect([...store.state.chats.keys()]).toEqual(["club"]);
  });

  it("shows a chat that we create, and its refusal in words", async () => {
    await world.online();
    const id = await world.store.createChat("Hike");
    expect(world.store.state.chats.has(id)).toBe(true);
    expect([...world.store.state.chats.values()].map((c) => [c.name, c.state, c.owner])).toEqual([["Hike", "joined", me.userId]]);
    world.refuse = new Refused("the title is too long");
    await expect(world.store.createChat("x")).rejects.toThrow("the title is too long");
  });

  it("shows who is in a chat at the door and after joining, also those who came before", async () => {
    const eve = { userId: "guest_eve", userName: "Eve", state: "joined" } as const;
    const dan = { userId: "guest_dan", userName: "Dan", state: "joined" } as const;
    const ids = () => [...(world.store.state.chats.get("hike")?.members.keys() ?? [])].sort();
    world.chat("hike", { state: "none", members: {} });
    await world.online();
    Object.assign(world.chats[0] ?? {}, { members: { [eve.userId]: eve } });
    world.store.open("hike");
    await settle();
    expect(ids()).toEqual(["guest_eve"]);

    Object.assign(world.chats[0] ?? {}, { state: "joined", members: { [dan.userId]: dan, [eve.userId]: eve, [me.userId]: { ...me, state: "joined" } } });
    let release = (): void => undefined;
    world.hold = new Promise((resolve) => (release = resolve));
    await world.store.join("hike");
    world.server("memberLeft", { chatId: "hike", userId: "guest_eve" }); // after the answer was made, before it is here
    release();
    await settle();
    expect(ids()).toEqual(["guest_dan", me.userId]);
  });

  it("leaves a chat: its tab goes, the chat stays", async () => {
    world.chat("hike");
    world.chat("club");
    await world.online();
    world.store.open("club");
    world.store.open("hike");
    await world.store.leave("hike");
    expect(world.store.state.chats.get("hike")?.state).toBe("none");
    expect(world.store.state.tabs).toEqual(["club"]);
    expect(world.store.state.active).toBe("club");
  });

  it("tells members of a chat that it was deleted", async () => {
    world.chat("hike");
    await world.online();
    world.store.open("hike");
    world.server("chatDeleted", "hike");
    expect(world.store.state.chats.has("hike")).toBe(false);
    expect(world.store.state.toasts.map((t) => t.text)).toEqual(["“hike” was deleted by Bob."]);
  });

  it("notes who joined, once", async () => {
    world.chat("hike");
    await world.online();
    const joined = { chatId: "hike", userId: "guest_eve", userName: "Eve", state: "joined" };
    world.server("memberJoined", joined);
    world.server("memberJoined", joined);
    expect(world.store.timeline("hike").lines.map((l) => l.kind === "note" && [l.userId, l.what])).toEqual([["guest_eve", "joined"]]);
  });

  it("remembers the open tabs", async () => {
    world.chat("hike");
    await world.online();
    world.store.open("hike");
    const again = new World();
    again.saved = world.saved;
    again.chat("hike");
    await again.online();
    expect(again.store.state.tabs).toEqual(["hike"]);
  });
});

describe("private chats", () => {
  const invitation = {
    id: "private_1", name: "Chat with Bob", kind: "direct", peer: { userId: "guest_bob", userName: "Bob" },
  };

  it("invites: opens for who asked, pending until accepted", async () => {
    await world.online();
    await world.store.talkTo("guest_bob");
    world.server("joinPrivateChat", { ...invitation, grabFocus: true, state: "joined" });
    const chat = world.store.state.chats.get("private_1");
    expect(world.store.state.active).toBe("private_1");
    expect(chat && world.store.peerOf(chat)?.state).toBe("invited");
    world.server("memberJoined", { chatId: "private_1", userId: "guest_bob", userName: "Bob", state: "joined" });
    expect(chat && world.store.peerOf(chat)?.state).toBe("joined");
  });

  it("is invited: is told, without losing the chat that is open", async () => {
    world.chat("hike");
    await world.online();
    world.store.open("hike");
    world.server("joinPrivateChat", { ...invitation, grabFocus: false, state: "invited" });
    expect(world.store.state.active).toBe("hike");
    expect(world.store.state.tabs).toEqual(["hike", "private_1"]);
    expect(world.store.state.toasts.map((t) => [t.text, t.chatId])).toEqual([["Bob wants to chat with you.", "private_1"]]);
    await world.store.accept("private_1");
    expect(world.store.state.chats.get("private_1")?.state).toBe("joined");
  });

  it("does not grab the focus of a page that did not ask", async () => {
    await world.online();
    world.server("joinPrivateChat", { ...invitation, grabFocus: true, state: "joined" });
    expect(world.store.state.active).toBeNull();
  });
});
