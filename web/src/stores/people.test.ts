import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { bob, me, settle, World } from "../test/world";
import { useSync } from "../sync";
import { useLink } from "./link";
import { usePeople } from "./people";

let world: World;
beforeEach(() => {
  vi.useFakeTimers();
  world = new World();
});
afterEach(() => vi.useRealTimers());

it("follows people coming, going and idling, and ignores unknown ids", async () => {
  await world.online();
  world.server("userOnline", { ...bob, userProvider: "guest", idle: false });
  world.server("userIsIdle", bob.userId);
  world.server("userIsIdle", "guest_ghost");
  expect([...usePeople().online.values()].map((p) => [p.userName, p.idle])).toEqual([["Ada", false], ["Bob", true]]);
  world.server("userOffline", bob.userId);
  expect([[...usePeople().online.keys()], usePeople().nameOf(bob.userId)]).toEqual([[me.userId], "Bob"]);
});

it("does not let an older list overwrite newer news", async () => {
  await world.online();
  const releases: (() => void)[] = [];
  world.hold = () => new Promise((resolve) => releases.push(resolve));
  void useSync().refresh();
  await settle();
  world.server("userOnline", { ...bob, idle: false });
  world.blocked = ["guest_eve"];
  world.server("userBlocked", "guest_eve");
  world.hold = async () => undefined;
  for (const release of releases) release();
  await settle();
  expect([usePeople().online.has(bob.userId), usePeople().blocked.has("guest_eve")]).toEqual([true, true]);
});

it("takes whom we block from what the server says of all of them, and asks when it says something of one", async () => {
  world.blocked = ["guest_eve"];
  await world.online();
  const blocked = (): string[] => [...usePeople().blocked];
  world.server("blocked", ["guest_bob", "guest_cid"]);
  expect(blocked()).toEqual(["guest_bob", "guest_cid"]);
  world.blocked = ["guest_cid"];
  world.server("userUnblocked", "guest_bob");
  await settle();
  for (const data of ["", "{}", "null"]) world.server("blocked", data);
  expect(blocked()).toEqual(["guest_cid"]);
  let release = (): void => undefined;
  world.hold = () => new Promise((resolve) => (release = resolve));
  world.server("userBlocked", "guest_bob"); // what is asked now is older than what is told then
  world.server("blocked", []);
  release();
  await settle();
  expect(blocked()).toEqual([]);
});

it("tells of a return that happened while the connection was away, and again that nobody is here", async () => {
  await world.online();
  const told = (): unknown[] => world.sent.map((s) => (s as unknown[])[0]);
  useLink().setIdle(true);
  await settle();
  world.listener.state("reconnecting");
  useLink().setIdle(false);
  await settle();
  world.listener.state("online");
  await settle();
  expect(told()).toEqual(["userEnterIdle", "userExitIdle"]);
  useLink().setIdle(true);
  await settle();
  world.listener.state("reconnecting");
  world.listener.state("online");
  await settle();
  expect(told()).toEqual(["userEnterIdle", "userExitIdle", "userEnterIdle", "userEnterIdle"]);
});

it("does not take an answer for newer than what was told before it", async () => {
  await world.online();
  world.server("userBlocked", bob.userId);
  world.server("userUnblocked", bob.userId); // by another page of ours
  await usePeople().block(bob.userId);
  expect(usePeople().blocked.has(bob.userId)).toBe(false);
});
