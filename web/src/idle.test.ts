import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { watchIdle } from "./idle";

let page: EventTarget;
let changes: boolean[];
let stop: () => void;

beforeEach(() => {
  vi.useFakeTimers();
  page = new EventTarget();
  vi.stubGlobal("window", page);
  changes = [];
  stop = watchIdle(60_000, (idle) => changes.push(idle));
});

afterEach(() => {
  stop();
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

it("is idle after a minute of nothing, and back at the first sign", () => {
  vi.advanceTimersByTime(59_999);
  expect(changes).toEqual([]);
  vi.advanceTimersByTime(1);
  expect(changes).toEqual([true]);
  page.dispatchEvent(new Event("touchstart"));
  page.dispatchEvent(new Event("touchstart"));
  expect(changes).toEqual([true, false]);
  vi.advanceTimersByTime(60_000);
  expect(changes).toEqual([true, false, true]);
});

it.each(["pointermove", "pointerdown", "keydown", "touchmove", "wheel"])("counts a minute from the last %s", (sign) => {
  vi.advanceTimersByTime(40_000);
  page.dispatchEvent(new Event(sign));
  vi.advanceTimersByTime(59_999);
  expect(changes).toEqual([]);
  vi.advanceTimersByTime(1);
  expect(changes).toEqual([true]);
});

it("takes a page that scrolls by itself for nobody", () => {
  vi.advanceTimersByTime(59_999);
  page.dispatchEvent(new Event("scroll"));
  vi.advanceTimersByTime(1);
  expect(changes).toEqual([true]);
});

it("stops when told", () => {
  stop();
  vi.advanceTimersByTime(120_000);
  expect(changes).toEqual([]);
});
