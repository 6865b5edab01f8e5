import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ApiError } from "./api";
import { Lost } from "./connection";
import { useChats } from "./stores/chats";
import { useMessages } from "./stores/messages";
import { useNotices } from "./stores/notices";
import { useOutbox } from "./stores/outbox";
import { usePeople } from "./stores/people";
import { useSession } from "./stores/session";
import { useView } from "./stores/view";
import { useSync } from "./sync";
import { bob, chance, me, settle, World, type Room, type WireEvent } from "./test/world";

let world: World;
beforeEach(() => {
  vi.useFakeTimers();
  world = new World();
});
afterEach(() => vi.useRealTimers());

function texts(id: string): string[] {
  return useMessages().lines(id).flatMap((l) => (l.kind === "message" ? [`${l.text}:${l.state}`] : []));
}

/** What the page should show of a room's messages. */
function truth(room: Room): string[] {
  return room.there().map((m) => `${m.text}:sent`);
}

async function opened(room: Room): Promise<void> {
  useView().open(room.id);
  await useMessages().open(room.id);
}

describe("lists", () => {
  it("are in the order of what was said last, also after a reload", async () => {
    const rooms = ["one", "two", "three"].map((id) => world.room(id));
    for (const n of [2, 0, 1]) for (let i = 0; i <= n; i++) rooms[n]?.say(bob.userId, `${n} ${i}`);
    await world.online();
    const order = (): [string, string | undefined, number][] =>
      [...useChats().rooms.values()].sort((a, b) => b.at - a.at).map((c) => [c.id, c.last?.text, c.unread]);
    expect(order()).toEqual([["three", "2 2", 3], ["two", "1 1", 2], ["one", "0 0", 1]]);
    for (let i = 0; i < 9; i++) world.live(rooms[0]?.say(bob.userId, `now ${i}`));
    const live = order();
    expect(live[0]).toEqual(["one", "now 8", 10]);
    world.fresh();
    await world.online();
    expect(order()).toEqual(live);
  });

  it("show what was said before when the last line is deleted, and what it says when it is edited", async () => {
    const room = world.room("river");
    await world.online();
    world.live(room.say(bob.userId, "one"), room.say(bob.userId, "two"), room.edit(2, "two!"));
    expect(useChats().rooms.get("river")?.last?.text).toBe("two!");
    world.live(room.delete(2));
    await settle();
    expect(useChats().rooms.get("river")?.last?.text).toBe("one");
  });

  it("do not bring back what was left while they were on their way", async () => {
    const room = world.room("river");
    await world.online();
    let release = (): void => undefined;
    world.hold = async (what) => (what === "rooms" ? new Promise((resolve) => (release = resolve)) : undefined);
    const reading = useSync().refresh();
    await settle();
    world.live(room.leave(me.userId));
    release();
    await reading;
    expect([useChats().rooms.has("river"), useChats().directory.has("river")]).toEqual([false, true]);
  });

  it("are right again after being away for long, without a reload", async () => {
    for (const id of ["quiet", "busy", "old name", "deleted", "left", "read", "shut"]) world.room(id);
    for (const id of ["open", "open and deleted"]) world.room(id, { mine: "none" });
    const [quiet, busy, read] = ["quiet", "busy", "read"].map((id) => world.rooms.get(id) as Room);
    for (const room of [quiet, busy, read]) room?.say(bob.userId, "before");
    await world.online();
    await opened(world.rooms.get("deleted") as Room);
    await opened(read as Room);
    useView().tabs.push("deleted", "read");
    world.listener.state("reconnecting");
    for (let i = 1; i <= 300; i++) busy?.say(bob.userId, `meanwhile ${i}`);
    world.rooms.get("old name")?.rename("new name");
    world.remove("deleted");
    world.rooms.get("left")?.leave(me.userId);
    read?.say(bob.userId, "read elsewhere");
    read?.read(2);
    read?.say(bob.userId, "and one more");
    world.rooms.get("open")?.rename("open, and renamed");
    world.remove("open and deleted");
    world.room("new").say(bob.userId, "welcome");
    world.room("new and open", { mine: "none" });
    world.asked = [];
    world.listener.state("online");
    await settle();
    const list = [...useChats().rooms.values()].sort((a, b) => b.at - a.at).map((c) => `${c.name}: ${c.unread}, ${c.last?.text}`);
    const truth = [...world.rooms.values()].filter((r) => r.members.has(me.userId)).map((r) => r.wire())
      .sort((a, b) => Date.parse(b.at) - Date.parse(a.at)).map((r) => `${r.name}: ${r.unread}, ${r.last?.text}`);
    expect(list).toEqual(truth);
    expect(list[0]).toBe("busy: 301, meanwhile 300");
    expect([...useChats().directory.values()].map((c) => c.name).sort()).toEqual(["left", "new and open", "open, and renamed"]);
    expect([useView().tabs, texts("read")]).toEqual([["read"], ["before:sent", "read elsewhere:sent", "and one more:sent"]]);
  });

  it("offer no public chat that is gone, however far somebody had read on", async () => {
    for (let i = 0; i < 250; i++) world.room(`open ${i}`, { mine: "none" });
    await world.online();
    await useChats().readMore();
    await useChats().readMore();
    expect(useChats().directory.size).toBe(250);
    useView().tabs.push("open 201", "open 202");
    for (const id of ["open 10", "open 200", "open 201"]) world.remove(id);
    world.rooms.get("open 202")?.rename("another name");
    world.listener.state("reconnecting");
    world.listener.state("online");
    await settle();
    for (const id of ["open 10", "open 200", "open 201"]) expect(useChats().find(id)).toBeUndefined();
    expect([useChats().find("open 202")?.name, useView().tabs]).toEqual(["another name", ["open 202"]]);
    while (useChats().moreRooms !== undefined) await useChats().readMore();
    expect(useChats().directory.size).toBe(247);
  });

  it("begin again when the server's store has been put back", async () => {
    const room = world.room("river");
    const other = world.room("lake");
    for (const r of [room, other]) for (let i = 1; i <= 9; i++) r.say(bob.userId, `${i}`);
    const { revision } = world;
    await world.online();
    await opened(room);
    useChats().read("river", 9);
    room.read(9);
    for (const r of [room, other]) world.live(r.say(bob.userId, "lost"));
    world.room("gone");
    world.listener.state("online");
    await settle();
    for (const r of [room, other]) r.putBack(r.last - 4);
    world.rooms.delete("gone");
    world.revision = revision;
    world.changes.delete("gone");
    world.listener.state("reconnecting");
    world.listener.state("online");
    await settle();
    const shown = (): unknown[] => [...useChats().rooms.values()].map((c) => [c.id, c.lastEvent, c.unread, c.last?.text]).sort();
    expect([shown(), texts("river")]).toEqual([[["lake", other.last, 6, "6"], ["river", room.last, 0, "6"]], truth(room)]);
    for (const r of [room, other]) world.live(r.say(bob.userId, "again"));
    expect([shown(), texts("river")]).toEqual([[["lake", other.last, 7, "again"], ["river", room.last, 1, "again"]], truth(room)]);
  });

  it("forget what is gone, and keep asking while the server is away", async () => {
    world.room("one");
    world.room("two");
    await world.online();
    world.remove("one");
    world.down = new ApiError(503, "away");
    await useSync().refresh();
    expect([useChats().stale, useChats().rooms.size]).toEqual([true, 2]);
    world.down = null;
    await settle(2000);
    expect([useChats().stale, [...useChats().rooms.keys()]]).toEqual([false, ["two"]]);
  });

  it("end the session when the server does not know us any more", async () => {
    world.room("one");
    await world.online();
    world.down = new ApiError(401, "sign in");
    await useSync().refresh();
    expect([useSession().phase, useChats().rooms.size, world.stopped]).toEqual(["signedOut", 0, true]);
  });

  it("count an invitation as something to be seen", async () => {
    world.room("private_x", { kind: "direct", mine: "invited" });
    await world.online();
    expect([world.unread("private_x"), useChats().unread]).toEqual([1, 1]);
  });

  it("show a public chat that is made, joined, left and deleted", async () => {
    await world.online();
    const room = world.room("hike", { name: "Hike", mine: "none" });
    world.server("chatCreated", { id: "hike", name: "Hike", owner: bob.userId, kind: "public", members: { [bob.userId]: bob } });
    expect(useChats().find("hike")?.state).toBe("none");
    room.join(me.userId);
    await useChats().join("hike");
    expect([useChats().rooms.get("hike")?.state, useChats().directory.has("hike"), useChats().rooms.get("hike")?.members]).toEqual(["joined", false, 2]);
    world.live(room.leave(me.userId));
    await settle();
    expect(useChats().find("hike")?.state).toBe("none");
    world.server("chatDeleted", "hike");
    expect(useChats().find("hike")).toBeUndefined();
  });

  it("keep a chat that somebody has put us into again before we heard of having left it", async () => {
    const room = world.room("tea", { kind: "private", name: "Tea" });
    await world.online();
    world.live(room.leave(me.userId), room.join(me.userId));
    await useChats().leave("tea");
    expect(useChats().rooms.get("tea")?.state).toBe("joined");
  });

  it("take in a private chat that somebody is put into, and say so", async () => {
    await world.online();
    const room = world.room("tea", { kind: "private", name: "Tea" });
    world.server("chatCreated", { id: "tea", name: "Tea", owner: bob.userId, kind: "private", members: {} });
    await settle();
    expect([useChats().rooms.get("tea")?.state, useNotices().toasts.map((t) => t.text)]).toEqual(["joined", ["You have been added to “Tea”."]]);
    world.live(room.leave(me.userId));
    world.remove("tea");
    await settle();
    expect(useChats().find("tea")).toBeUndefined();
  });

  it("open a private chat for who asked, and tell who was asked without taking the chat away that is open", async () => {
    await world.online();
    const asking = useChats().talkTo(bob.userId);
    world.room("private_x", { kind: "direct" });
    world.server("joinPrivateChat", { id: "private_x", peer: bob, state: "joined", grabFocus: true });
    await asking;
    await settle();
    expect(useView().active).toBe("private_x");
    world.room("private_y", { kind: "direct", others: ["guest_cid"], mine: "invited" });
    world.server("joinPrivateChat", { id: "private_y", peer: { userId: "guest_cid", userName: "Cid" }, state: "invited" });
    await settle();
    expect([useView().active, useNotices().toasts.at(-1)?.text, world.alerts.at(-1)?.chatId]).toEqual(["private_x", "Cid wants to chat with you.", "private_y"]);
  });

  it("survive malformed messages", async () => {
    await world.online();
    for (const data of ["", "null", "[]", "{", "{}", '{"userId":1}', '{"chatId":"x"}', '{"id":"x"}']) {
      for (const e of ["userOnline", "chatCreated", "joinPrivateChat", "memberJoined", "memberLeft", "chatRead", "blocked", "chatDeleted", "nonsense"]) world.server(e, data);
    }
    await settle();
    expect([usePeople().online.size, useChats().rooms.size]).toEqual([1, 0]);
  });
});

describe("unread", () => {
  it("does not count what has been deleted, nor our own words, live and after a reload", async () => {
    const room = world.room("river");
    await world.online();
    world.live(room.say(bob.userId, "one"), room.say(bob.userId, "two"), room.say(bob.userId, "three"));
    expect(world.unread("river")).toBe(3);
    world.live(room.delete(2));
    expect(world.unread("river")).toBe(2);
    world.live(room.say(me.userId, "mine, from elsewhere"));
    expect(world.unread("river")).toBe(2);
    world.fresh();
    await world.online();
    expect(world.unread("river")).toBe(2);
    useChats().read("river", 4);
    world.live(room.say(me.userId, "one more"));
    expect(useChats().rooms.get("river")?.readSeq).toBe(5); // nobody has to read their own words
  });

  it("goes with what is seen, and the server is told once, at once", async () => {
    const room = world.room("river");
    await world.online();
    for (let i = 1; i <= 3; i++) world.live(room.say(bob.userId, `m${i}`));
    useChats().read("river", 2);
    expect(world.unread("river")).toBe(1);
    useChats().read("river", 3);
    useChats().read("river", 1);
    await settle();
    expect([world.unread("river"), world.sent]).toEqual([0, [["markRead", { chatId: "river", seq: 2 }], ["markRead", { chatId: "river", seq: 3 }]]]);
  });

  it("tells the server what was seen while it was away", async () => {
    const room = world.room("river");
    await world.online();
    world.live(room.say(bob.userId, "m1"));
    world.listener.state("reconnecting");
    useChats().read("river", 1);
    await settle();
    expect(world.sent).toEqual([]);
    world.listener.state("online");
    await settle();
    expect([world.sent, world.unread("river")]).toEqual([[["markRead", { chatId: "river", seq: 1 }]], 0]);
  });

  it("goes when another of our pages has read it", async () => {
    const room = world.room("river");
    await world.online();
    world.live(room.say(bob.userId, "m1"));
    world.server("chatRead", { chatId: "river", seq: 1 });
    expect([world.unread("river"), world.sent]).toEqual([0, []]);
  });
});

describe("sending", () => {
  it("shows the message at once, and where the server has put it", async () => {
    const room = world.room("river");
    await world.online();
    await opened(room);
    room.say(bob.userId, "just before"); // not heard yet
    useOutbox().send("river", "hello");
    expect(texts("river")).toEqual(["hello:sending"]);
    await settle();
    expect(texts("river")).toEqual(["hello:sent"]); // acked, its place not yet reached
    world.live(room.events.at(-2));
    expect([texts("river"), useOutbox().entries.length]).toEqual([["just before:sent", "hello:sent"], 0]);
    expect(world.asked.filter((a) => a.startsWith("events"))).toEqual([]); // nothing was missing for long
  });

  it("keeps a refused message, and tries again with the same key", async () => {
    const room = world.room("river");
    await world.online();
    await opened(room);
    const { Refused } = await import("./connection");
    world.refuse = new Refused("the text is too long");
    useOutbox().send("river", "hello");
    await settle();
    expect([texts("river"), useOutbox().entries[0]?.reason]).toEqual([["hello:failed"], "The text is too long."]);
    world.refuse = null;
    useOutbox().retry(useOutbox().entries[0]?.key ?? "");
    await settle();
    expect([texts("river"), room.there().length]).toEqual([["hello:sent"], 1]);
    const keys = world.sent.map((s) => ((s as unknown[])[1] as { key: string }).key);
    expect(new Set(keys).size).toBe(1);
  });

  it("sends what was lost again when the connection is back, and it is the same message", async () => {
    const room = world.room("river");
    await world.online();
    await opened(room);
    world.lost = new Lost("gone");
    useOutbox().send("river", "hello");
    world.listener.state("reconnecting");
    await settle();
    expect(texts("river")).toEqual(["hello:sending"]);
    world.lost = null;
    world.listener.state("online");
    await settle();
    expect([texts("river"), room.there().length, useOutbox().entries.length]).toEqual([["hello:sent"], 1, 0]);
  });

  it("believes what everybody is told before the answer", async () => {
    const room = world.room("river");
    await world.online();
    await opened(room);
    let release = (): void => undefined;
    world.hold = () => new Promise((resolve) => (release = resolve));
    useOutbox().send("river", "hello");
    world.live(room.say(me.userId, "hello", useOutbox().entries[0]?.key));
    expect([texts("river"), useOutbox().entries.length]).toEqual([["hello:sent"], 0]);
    release();
    await settle();
    expect(texts("river")).toEqual(["hello:sent"]);
  });
});

describe("an open room", () => {
  it("reads what it has missed, and only what stays away", async () => {
    const room = world.room("river");
    await world.online();
    await opened(room);
    room.say(bob.userId, "missed");
    world.live(room.say(bob.userId, "heard"));
    expect(texts("river")).toEqual([]);
    await settle(1000);
    expect(texts("river")).toEqual(["missed:sent", "heard:sent"]);
  });

  it("catches up after a gap, and begins again where that would be too much", async () => {
    const room = world.room("river");
    await world.online();
    await opened(room);
    for (let i = 1; i <= 20; i++) room.say(bob.userId, `m${i}`);
    world.listener.state("reconnecting");
    world.listener.state("online");
    await settle();
    expect(texts("river")).toEqual(truth(room));
    for (let i = 1; i <= 600; i++) room.say(bob.userId, `much ${i}`);
    world.asked = [];
    world.listener.state("online");
    await settle();
    expect([texts("river"), world.asked.filter((a) => a.startsWith("events"))]).toEqual([truth(room).slice(-50), []]);
    for (let i = 1; i <= 30; i++) room.say(bob.userId, `n${i}`);
    room.kept = room.last; // the server keeps none of it as events
    world.listener.state("online");
    await settle();
    expect(texts("river")).toEqual(truth(room).slice(-50));
  });

  it("stays where somebody reads, also when it has to begin again", async () => {
    const room = world.room("river");
    for (let i = 1; i <= 300; i++) room.say(bob.userId, `m${i}`);
    await world.online();
    useView().open("river");
    await useMessages().open("river", 100);
    useMessages().reads("river", 100);
    for (let i = 1; i <= 600; i++) room.say(bob.userId, `n${i}`);
    world.listener.state("online");
    await settle();
    const log = useMessages().log("river");
    expect([log.covers(100), log.newer, log.events.behind]).toEqual([true, true, false]);
  });

  it("does not take an answer that is older than another", async () => {
    const room = world.room("river");
    room.say(bob.userId, "one");
    await world.online();
    const releases: (() => void)[] = [];
    world.hold = () => new Promise((resolve) => releases.push(resolve));
    const first = useMessages().open("river");
    room.say(bob.userId, "two");
    room.delete(1);
    const second = useMessages().open("river");
    world.hold = async () => undefined;
    releases[1]?.();
    await second;
    releases[0]?.();
    await first;
    expect(texts("river")).toEqual(["two:sent"]);
  });
});

it("says who said what, by what the server says, to people who look elsewhere", async () => {
  const room = world.room("river", { name: "River" });
  await world.online();
  world.live(room.say(bob.userId, "hi"), room.events.at(-1));
  expect(world.alerts).toEqual([{ title: "Bob in River", body: "hi", chatId: "river" }]);
  expect([useNotices().said, useView().tabs]).toEqual(["New message from Bob in River", ["river"]]);
  world.live(room.say(me.userId, "me too"));
  expect(world.alerts.length).toBe(1);
});

it("finds nothing of the person before, not even an answer that was on its way", async () => {
  const room = world.room("river");
  await world.online();
  await opened(room);
  const releases: (() => void)[] = [];
  world.hold = () => new Promise((resolve) => releases.push(resolve));
  const reading = useSync().refresh();
  await settle();
  world.listener.ended();
  world.hold = async () => undefined;
  world.rooms.clear();
  await world.online();
  for (const release of releases) release();
  await reading;
  await settle();
  expect([useChats().rooms.size, useMessages().logs.size, useView().tabs]).toEqual([0, 0, []]);
});

// Everything at once: people talk, edit, delete, come and go; the wire loses, doubles and overtakes, connections break, answers
// come late. When all is still again, the page shows what the server has.
it("ends as the server is, whatever happens on the way", async () => {
  for (let seed = 1; seed <= 60; seed++) {
    world = new World();
    const { below, of } = chance(seed);
    const rooms = ["r0", "r1", "r2"].map((id) => world.room(id));
    for (const room of rooms) for (let i = 0; i < below(80); i++) room.say(bob.userId, `old ${i}`);
    const late: (() => void)[] = [];
    world.hold = () => (below(2) ? Promise.resolve() : new Promise((resolve) => late.push(resolve)));
    await useSession().start();
    world.listener.state("online");
    let wire: WireEvent[] = [];
    const happen = (room: Room): WireEvent | undefined => {
      const some = 1 + below(room.messages.length + 1);
      const cid = "guest_cid";
      return of(
        () => room.say(of(bob.userId, me.userId), `s${room.last}`), () => room.say(bob.userId, `s${room.last}`), () => room.edit(some, `e${room.last}`),
        () => room.delete(some), () => (room.members.has(cid) ? room.leave(cid) : room.join(cid)), () => room.rename(`${room.id} ${room.last}`),
      )();
    };
    for (let step = 0; step < 120; step++) {
      const room = of(...rooms);
      const event = happen(room);
      if (event && below(12)) wire.splice(below(4) ? wire.length : below(wire.length + 1), 0, ...(below(8) ? [event] : [event, event]));
      await of(
        async () => world.live(wire.shift()), async () => world.live(...wire.splice(0, 3)), async () => late.splice(below(late.length || 1), 1)[0]?.(),
        async () => void useMessages().older(room.id), async () => void useMessages().newer(room.id), async () => settle(200),
        async () => {
          useView().open(room.id);
          void useMessages().open(room.id, of(undefined, undefined, 1 + below(room.messages.length + 1)));
        },
        async () => useOutbox().send(room.id, `mine ${step}`),
        async () => useChats().read(room.id, below(room.messages.length + 1)),
        async () => {
          if (below(4)) return;
          world.listener.state("reconnecting");
          world.lost = new Lost("cut");
          wire = []; // what was on its way is lost with the connection
          await settle(below(500));
          world.lost = null;
          world.listener.state("online");
        },
      )();
      await settle();
    }
    // All is still: what was on its way arrives, and the connection tells that it is there.
    world.hold = async () => undefined;
    for (let more = true; more; more = late.length > 0) {
      for (const answer of late.splice(0)) answer();
      await settle();
    }
    world.live(...wire);
    world.listener.state("reconnecting");
    world.listener.state("online");
    await settle(60_000);
    for (const room of rooms) {
      useView().open(room.id);
      await useMessages().open(room.id);
      for (let log = useMessages().log(room.id); log.older;) await useMessages().older(room.id);
      await settle();
      expect(texts(room.id), `seed ${seed} ${room.id}`).toEqual(truth(room));
      const { lastEvent, lastSeq, name, members, last } = useChats().rooms.get(room.id) ?? {};
      const now = room.wire();
      expect([lastEvent, lastSeq, name, members, last?.text], `seed ${seed} ${room.id}`).toEqual([now.lastEvent, now.lastSeq, now.name, now.members, now.last?.text]);
      useChats().read(room.id, room.messages.length);
      expect(world.unread(room.id)).toBe(0);
    }
    expect(useOutbox().entries, `seed ${seed}`).toEqual([]);
    const keys = rooms.flatMap((r) => r.there().map((m) => `${m.userId} ${m.key}`));
    expect(new Set(keys.map((k, i) => `${i} ${k}`)).size).toBe(keys.length);
    useSession().end();
  }
});
