import { describe, expect, it } from "vitest";
import { reactive } from "vue";
import type { WireMessage } from "./api";
import { Timeline } from "./timeline";

const now = Date.parse("2026-03-01T12:00:00Z");

function stored(seq: number, text = `text ${seq}`, key = `k${seq}`, userId = "ada"): WireMessage {
  return { seq, userId, userName: userId, text, key, sentAt: new Date(now - 1000).toISOString() };
}

function texts(t: Timeline): string[] {
  return t.messages().map((m) => m.text);
}

// As in the store, where the views look on.
function timeline(): Timeline {
  return reactive(new Timeline()) as Timeline;
}

describe("Timeline", () => {
  it("puts live messages after history and gives them their true place when history tells", () => {
    const t = timeline();
    t.mergeNewest({ messages: [stored(1), stored(2)] }, now);
    t.hear("ada", "second live", "b", 4, now);
    t.hear("bob", "first live", "a", 3, now);
    expect(texts(t)).toEqual(["text 1", "text 2", "first live", "second live"]);

    const last = t.mergeNewest({ messages: [stored(3, "second live", "b"), stored(4, "first live", "a", "bob")], next: 3 }, now);
    expect(texts(t)).toEqual(["text 1", "text 2", "second live", "first live"]);
    expect(last).toBe(4);
  });

  it("shows a message once, however often it comes", () => {
    const t = timeline();
    const [, isNew] = t.hear("ada", "hello", "k1", 1, now);
    const [, isNewAgain] = t.hear("ada", "hello", "k1", 2, now);
    t.mergeNewest({ messages: [stored(1, "hello", "k1")] }, now);
    t.mergeNewest({ messages: [stored(1, "hello", "k1")] }, now);
    expect([isNew, isNewAgain]).toEqual([true, false]);
    expect(texts(t)).toEqual(["hello"]);
  });

  it("keeps messages of two people with the same key apart", () => {
    const t = timeline();
    t.hear("ada", "mine", "k", 1, now);
    t.hear("eve", "forged", "k", 2, now);
    expect(texts(t)).toEqual(["mine", "forged"]);
  });

  it("recognises a live message without a key when history has given it one", () => {
    const t = timeline();
    t.mergeNewest({ messages: [] }, now);
    t.hear("old", "hi", undefined, 1, now);
    t.mergeNewest({ messages: [stored(1, "hi", "made-by-server", "old")] }, now);
    expect(texts(t)).toEqual(["hi"]);
  });

  it("keeps the order of a busy chat when the newest page begins after what was heard first", () => {
    const t = timeline();
    t.mergeNewest({ messages: [] }, now);
    for (let n = 1; n <= 60; n++) t.hear("ada", `text ${n}`, `k${n}`, n, now);
    const page = Array.from({ length: 50 }, (_, i) => stored(i + 11));
    expect(t.mergeNewest({ messages: page, next: 11 }, now)).toBe(60);
    expect(texts(t)).toEqual(page.map((m) => m.text));
    expect(t.older).toBe(11); // from where the first ten come back
    t.mergeOlder({ messages: Array.from({ length: 10 }, (_, i) => stored(i + 1)) });
    expect(texts(t)).toEqual(Array.from({ length: 60 }, (_, i) => `text ${i + 1}`));
  });

  it("forgets what has been deleted, in the middle and at the end", () => {
    const t = timeline();
    t.mergeNewest({ messages: [stored(1), stored(2), stored(3), stored(4)] }, now);
    t.hear("bob", "live", "l", 5, now);
    t.send("ada", "on its way", "s", now);
    t.mergeNewest({ messages: [stored(1), stored(3)] }, now);
    expect(texts(t)).toEqual(["text 1", "text 3", "live", "on its way"]);
  });

  it("keeps what it knows of before the newest page", () => {
    const t = timeline();
    t.mergeNewest({ messages: [stored(3), stored(4)], next: 3 }, now);
    t.mergeOlder({ messages: [stored(1), stored(2)] });
    t.mergeNewest({ messages: [stored(4), stored(5)], next: 4 }, now);
    expect(texts(t)).toEqual(["text 1", "text 2", "text 3", "text 4", "text 5"]);
  });

  it("starts over when history has moved on beyond the newest page", () => {
    const t = timeline();
    t.mergeNewest({ messages: [stored(1), stored(2)] }, now);
    t.mergeNewest({ messages: [stored(7), stored(8)], next: 7 }, now);
    expect(texts(t)).toEqual(["text 7", "text 8"]);
    expect(t.older).toBe(7);
    t.mergeOlder({ messages: [1, 2, 3, 4, 5, 6].map((n) => stored(n)) });
    expect(texts(t)).toEqual([1, 2, 3, 4, 5, 6, 7, 8].map((n) => `text ${n}`));
    expect(t.older).toBeUndefined();
  });

  it("keeps what is loaded when the newest page touches it", () => {
    const t = timeline();
    t.mergeNewest({ messages: [stored(5), stored(6)], next: 5 }, now);
    t.mergeOlder({ messages: [stored(3), stored(4)], next: 3 });
    t.mergeNewest({ messages: [stored(7)], next: 7 }, now);
    expect(texts(t)).toEqual([3, 4, 5, 6, 7].map((n) => `text ${n}`));
    expect(t.older).toBe(3);
  });

  it("drops a live message that history does not know after a while, and counts on from history", () => {
    const t = timeline();
    t.mergeNewest({ messages: [stored(1)] }, now);
    t.hear("ada", "never stored", "x", 2, now - 20_000);
    t.hear("ada", "about to be stored", "y", 3, now - 500);
    expect(t.mergeNewest({ messages: [stored(1)] }, now)).toBe(2);
    expect(texts(t)).toEqual(["text 1", "about to be stored"]);
  });

  it("keeps a message of our own last until it comes back", () => {
    const t = timeline();
    t.mergeNewest({ messages: [stored(1)] }, now);
    const line = t.send("me", "on its way", "mine", now);
    t.hear("ada", "meanwhile", "z", 2, now);
    expect(texts(t)).toEqual(["text 1", "meanwhile", "on its way"]);
    expect(line.state).toBe("sending");

    const [heard, isNew] = t.hear("me", "on its way", "mine", 3, now);
    expect(isNew).toBe(true);
    expect([heard.state, heard.position]).toEqual(["sent", 3]);
    t.hear("ada", "after", "w", 4, now);
    expect(texts(t)).toEqual(["text 1", "meanwhile", "on its way", "after"]);
  });

  it("never loses a failed message to history", () => {
    const t = timeline();
    const line = t.send("me", "refused", "mine", now - 60_000);
    line.state = "failed";
    t.mergeNewest({ messages: [stored(9)], next: 9 }, now);
    expect(texts(t)).toEqual(["text 9", "refused"]);
  });

  it("does not grow without bound, and fetches again what it let go", () => {
    const t = timeline();
    t.mergeNewest({ messages: [stored(1)] }, now);
    for (let n = 2; n <= 1001; n++) t.hear("ada", `text ${n}`, `k${n}`, n, now);
    expect(t.lines.length).toBe(600);
    expect(t.older).toBe(402);
    expect(texts(t)[0]).toBe("text 402");
  });
});
