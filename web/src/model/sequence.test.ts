import { expect, it } from "vitest";
import { chance } from "../test/world";
import type { RoomEvent } from "../wire";
import { Sequence } from "./sequence";

function event(number: number): RoomEvent {
  return { roomId: "r", number, kind: "message", userId: "", userName: "", seq: number, key: "", title: "", at: 0 };
}

it("brings events into their order, each once, however they come", () => {
  for (let seed = 1; seed <= 200; seed++) {
    const { below } = chance(seed);
    const s = new Sequence(below(3));
    const begun = s.number;
    const taken: number[] = [];
    for (let n = 0; n < 200; n++) taken.push(...s.take(event(1 + below(30))).map((e) => e.number));
    for (let n = 1; n <= 30; n++) taken.push(...s.take(event(n)).map((e) => e.number));
    expect(taken).toEqual(Array.from({ length: 30 - begun }, (_, i) => begun + i + 1));
    expect([s.number, s.known, s.behind]).toEqual([30, 30, false]);
  }
});

it("knows what is missing, and goes on when it was read otherwise", () => {
  const s = new Sequence(4);
  expect(s.take(event(7))).toEqual([]);
  expect([s.behind, s.known, s.isNew(event(7)), s.isNew(event(6)), s.isNew(event(4))]).toEqual([true, 7, false, true, false]);
  expect(s.reach(6).map((e) => e.number)).toEqual([7]);
  expect(s.reach(5)).toEqual([]);
  expect([s.behind, s.number]).toEqual([false, 7]);
});

it("does not keep more than it can hold, and knows that it has not", () => {
  const s = new Sequence();
  for (let n = 2; n <= 2000; n++) s.take(event(n));
  expect(s.take(event(1)).length).toBe(501);
  expect([s.number, s.known, s.behind]).toEqual([501, 2000, true]);
});
