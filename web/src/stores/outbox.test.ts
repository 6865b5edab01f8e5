import { IDBFactory as Database } from "fake-indexeddb";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { me, settle, World } from "../test/world";
import { useDrafts } from "./drafts";
import { useMessages } from "./messages";
import { sendable, useOutbox } from "./outbox";
import { useSession } from "./session";

let world: World;
beforeEach(() => {
  vi.useFakeTimers();
  world = new World();
});
afterEach(() => vi.useRealTimers());

const tick = (): Promise<void> => settle(50); // the database answers in tasks of its own

async function reload(): Promise<void> {
  world.fresh();
  await useSession().start();
  await tick();
}

it("keeps what waits over a reload, and sends it as the same message, once", async () => {
  world.database = new Database();
  world.fresh();
  const room = world.room("river");
  await world.online();
  world.listener.state("reconnecting");
  useOutbox().send("river", "one");
  useOutbox().send("river", "two");
  await tick();
  const keys = useOutbox().entries.map((p) => p.key);
  await reload();
  expect(useOutbox().entries.map((p) => [p.text, p.state])).toEqual([["one", "sending"], ["two", "sending"]]);
  world.listener.state("online");
  await tick();
  expect([room.there().map((m) => m.text), room.there().map((m) => m.key), useOutbox().entries]).toEqual([["one", "two"], keys, []]);
  await reload();
  expect(useOutbox().entries).toEqual([]);
});

it("gives up what waits for a room that is gone, and everything when somebody signs out", async () => {
  world.database = new Database();
  world.fresh();
  world.room("river");
  world.room("gone");
  await world.online();
  world.listener.state("reconnecting");
  useOutbox().send("gone", "one");
  useOutbox().send("river", "two");
  await tick();
  world.rooms.delete("gone");
  world.refuse = new Error("no");
  await reload();
  world.listener.state("online");
  await tick();
  expect(useOutbox().entries.map((p) => p.text)).toEqual(["two"]);
  useSession().signOut();
  await tick();
  await reload();
  expect(useOutbox().entries).toEqual([]);
});

it("shows nobody what another person of this browser was about to say", async () => {
  world.database = new Database();
  world.fresh();
  world.room("river");
  await world.online();
  world.listener.state("reconnecting");
  useOutbox().send("river", "mine");
  await tick();
  world.fresh();
  world.api.me = async () => ({ ...me, userId: "guest_other" });
  await useSession().start();
  await tick();
  expect(useOutbox().entries).toEqual([]);
});

it.each([
  ["lacks", undefined],
  ["throws", { open: () => { throw new Error("denied"); } }],
  ["never opens", { open: () => ({}) }],
])("does without a database that %s", async (_, database) => {
  world.database = database as unknown as IDBFactory;
  world.fresh();
  const room = world.room("river");
  await world.online();
  await useMessages().open("river");
  useOutbox().send("river", "hello");
  await settle(10_000);
  expect([room.there().length, useOutbox().entries.length]).toEqual([1, 0]);
});

it("keeps what is being written in each room, until it is sent or somebody signs out", async () => {
  await world.online();
  useDrafts().set("river", "half a thought");
  useDrafts().set("hike", "another");
  useDrafts().set("hike", "");
  await reload();
  expect([useDrafts().of("river"), useDrafts().of("hike")]).toEqual(["half a thought", ""]);
  useSession().signOut();
  await reload();
  expect(useDrafts().of("river")).toBe("");
  world.kept.set(`chatr.drafts.${me.userId}`, "{");
  await reload();
  expect(useDrafts().of("river")).toBe("");
});

it("sends what cannot be kept as the character that stands for it", () => {
  expect(sendable("a\ud800b\0c\udc00 😀")).toBe("a\uFFFDb\uFFFDc\uFFFD 😀");
});
