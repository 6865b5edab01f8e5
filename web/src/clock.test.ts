import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { Clock } from "./clock";

beforeEach(() => vi.useFakeTimers({ now: 0 }));
afterEach(() => vi.useRealTimers());

const date = "Mon, 30 Nov 2026 12:00:00 GMT";
const noon = Date.parse(date);

it("counts on from what the server says, whatever the computer believes", () => {
  let counter = 1000;
  const clock = new Clock(() => counter);
  expect(clock.now()).toBe(0);
  clock.answered(date, 800);
  counter += 60_000;
  vi.setSystemTime(noon + 3_600_000); // somebody sets the computer's clock
  expect(Math.abs(clock.now() - (noon + 60_000))).toBeLessThan(1000);
});

it("does not jump for what answers cannot say exactly, but follows the server", () => {
  let counter = 0;
  const clock = new Clock(() => counter);
  clock.answered(date, 0);
  const first = clock.now();
  clock.answered("Mon, 30 Nov 2026 12:00:01 GMT", 0);
  expect(clock.now()).toBe(first);
  clock.answered("Mon, 30 Nov 2026 12:05:00 GMT", 0);
  expect(clock.now()).toBe(noon + 300_500);
  clock.happened(noon + 301_000);
  clock.happened(noon);
  expect(clock.now()).toBe(noon + 301_000);
  clock.answered(null, 0);
  clock.answered("yesterday", 0);
  expect(clock.now()).toBe(noon + 301_000);
  counter += 1;
});
