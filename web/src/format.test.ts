import { expect, it } from "vitest";
import { ago, count, day, hue, initials, sameDay } from "./format";

const noon = new Date(2026, 2, 11, 12).getTime(); // a Wednesday
const hour = 3_600_000;

it.each([
  [noon, "Today"],
  [noon - 13 * hour, "Yesterday"],
  [noon - 3 * 24 * hour, "Sunday"],
])("names the day of %d", (at, want) => {
  expect(day(at, noon)).toBe(want);
});

it("names a day of long ago by its date, with the year if it was another", () => {
  expect(day(noon - 30 * 24 * hour, noon)).not.toMatch(/2026/);
  expect(day(noon - 400 * 24 * hour, noon)).toMatch(/2025/);
});

it("says how long ago within the hour, and the time after", () => {
  expect(ago(noon - 20_000, noon)).toBe("now");
  expect(ago(noon + 5_000, noon)).toBe("now"); // another clock
  expect(ago(noon - 5 * 60_000, noon)).toMatch(/5/);
  expect(ago(noon - 2 * hour, noon)).toMatch(/10/);
});

it("tells days apart at midnight, not after 24 hours", () => {
  const midnight = new Date(2026, 2, 11).getTime();
  expect(sameDay(midnight, midnight + hour)).toBe(true);
  expect(sameDay(midnight, midnight - 1)).toBe(false);
});

it.each([["Ada Lovelace", "AL"], ["ada", "A"], ["  Maria  von  Trapp ", "MT"], ["👩‍🚀 Sally", "👩S"], ["", ""]])(
  "shortens %j to %j",
  (name, want) => expect(initials(name)).toBe(want),
);

it("gives an id one of eight colours, always the same", () => {
  for (const id of ["", "guest_1", "private_zzz", "ü"]) {
    expect(hue(id)).toBe(hue(id));
    expect([0, 1, 2, 3, 4, 5, 6, 7]).toContain(hue(id));
  }
});

it("counts up to 99", () => {
  expect([count(1), count(99), count(100)]).toEqual(["1", "99", "99+"]);
});
