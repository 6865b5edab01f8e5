import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { bob, me, settle, World } from "../test/world";
import { useTyping } from "./typing";

let world: World;
beforeEach(async () => {
  vi.useFakeTimers();
  world = new World();
  world.room("river");
  await world.online();
});
afterEach(() => vi.useRealTimers());

it("tells where we look, again on a new connection, and that we do not any more", async () => {
  useTyping().look("river");
  await settle();
  world.listener.state("reconnecting");
  world.listener.state("online");
  await settle();
  useTyping().look(undefined);
  await settle();
  expect(world.sent).toEqual([true, true, false].map((looking) => ["lookAt", { chatId: "river", looking }]));
});

it("shows who is typing in the room in view, until they stop, say it, or nothing more is heard", async () => {
  const typing = useTyping();
  typing.look("river");
  world.listener.typing("river", bob.userId, true);
  world.listener.typing("elsewhere", "guest_cid", true);
  world.listener.typing("river", me.userId, true);
  expect(typing.some()).toEqual([bob.userId]);
  world.listener.typing("river", bob.userId, false);
  expect(typing.some()).toEqual([]);
  world.listener.typing("river", bob.userId, true);
  world.live(world.rooms.get("river")?.say(bob.userId, "done"));
  expect(typing.some()).toEqual([]);
  for (const id of ["a", "b", "c", "d"]) world.listener.typing("river", id, true);
  expect(typing.some()).toEqual(["a", "b", "c"]);
  await settle(6000);
  expect(typing.some()).toEqual([]);
  world.listener.typing("river", bob.userId, true);
  typing.look(undefined);
  expect(typing.some()).toEqual([]);
});

it("says that we type every few seconds, and once that we do not any more", async () => {
  const typing = useTyping();
  typing.look("river");
  await settle();
  world.sent = [];
  for (let n = 0; n < 40; n++) {
    typing.typed();
    await settle(100);
  }
  await settle(10_000);
  typing.stop();
  expect(world.sent).toEqual([["typing.river", { typing: true }], ["typing.river", { typing: true }], ["typing.river", { typing: false }]]);
});
