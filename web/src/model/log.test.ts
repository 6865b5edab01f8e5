import { expect, it } from "vitest";
import { chance, me, bob, World, type Room, type WireEvent } from "../test/world";
import { parseEvent, type RoomEvent } from "../wire";
import { linesOf } from "./lines";
import { RoomLog } from "./log";

function parsed(...events: (WireEvent | undefined)[]): RoomEvent[] {
  return events.map((e) => parseEvent(e)).filter((e) => e !== undefined);
}

function hear(log: RoomLog, ...events: (WireEvent | undefined)[]): void {
  for (const e of parsed(...events)) log.hear(e);
}

/** What stands there: texts, edited ones with a star, deleted ones as a number. */
function shown(log: RoomLog): string[] {
  return linesOf(log, []).map((l) => (l.kind === "message" ? l.text + (l.edited ? "*" : "") : l.kind === "gone" ? `-${l.count}` : l.what));
}

/** What should stand there. */
function truth(room: Room, from: number, to: number): string[] {
  const lines: string[] = [];
  let gone = 0;
  for (const m of room.messages.filter((other) => other.seq >= from && other.seq <= to)) {
    if (m.gone) gone++;
    if (gone && !m.gone) lines.push(`-${gone}`);
    if (m.gone) continue;
    gone = 0;
    lines.push(m.text + (m.edited ? "*" : ""));
  }
  return gone ? [...lines, `-${gone}`] : lines;
}

function fill(log: RoomLog, room: Room): void {
  while (log.events.behind) {
    const { events, last } = room.after(log.events.number, 7);
    log.fill(parsed(...events), last);
  }
}

function roomOf(n: number): Room {
  const room = new World().room("r", { others: [] });
  for (let i = 1; i <= n; i++) room.say(bob.userId, `m${i}`);
  return room;
}

it("keeps the order of a busy room whatever page comes when", () => {
  const room = roomOf(0);
  const log = new RoomLog();
  log.begin(room.page(undefined, 50));
  const said = Array.from({ length: 60 }, (_, i) => room.say(bob.userId, `m${i + 1}`));
  const late = room.page(undefined, 50);
  hear(log, ...said);
  log.begin(late);
  hear(log, ...said, room.say(bob.userId, "m61"));
  expect(shown(log).slice(-3)).toEqual(["m59", "m60", "m61"]);
  expect(shown(log).length).toBe(51);
});

it("lets what is deleted go, live and when it is read again, and marks where it was", () => {
  const room = roomOf(5);
  const log = new RoomLog();
  log.begin(room.page(undefined, 50));
  hear(log, room.delete(2), room.delete(3), room.edit(4, "changed"));
  expect(shown(log)).toEqual(["m1", "-2", "changed*", "m5"]);
  room.delete(5);
  const again = new RoomLog();
  again.begin(room.page(undefined, 50));
  expect(shown(again)).toEqual(["m1", "-2", "changed*"]);
  expect(again.countAfter(1)).toBe(1);
});

it("does not bring back what an older event says of a message that a page knows better", () => {
  const room = roomOf(0);
  const log = new RoomLog();
  const events = [room.say(bob.userId, "a"), room.edit(1, "b"), room.edit(1, "c"), room.say(bob.userId, "x"), room.delete(2)];
  log.begin({ messages: [], lastEvent: room.last - events.length, older: true, newer: false });
  log.from = 3;
  log.to = 2;
  log.prepend(room.page(undefined, 50)); // read ahead of what has been heard
  for (const e of events) {
    hear(log, e);
    expect(shown(log)).toEqual(["c*", "-1"]);
  }
});

it("keeps what is said apart from a stretch that does not reach to the end, and joins it without a gap", () => {
  const room = roomOf(200);
  const log = new RoomLog();
  log.begin(room.page({ around: 60 }, 50));
  expect([log.covers(60), log.older, log.newer]).toEqual([true, true, true]);
  hear(log, room.say(bob.userId, "m201"), room.edit(60, "m60!"), room.delete(61));
  expect(shown(log)).toEqual(truth(room, log.from, log.to));
  while (log.newer) log.append(room.page({ after: log.to }, 50));
  hear(log, room.say(bob.userId, "m202"));
  fill(log, room);
  expect(shown(log)).toEqual(truth(room, log.from, 202));
});

it("ends as the server is, whatever is lost, doubled, late or out of order", () => {
  for (let seed = 1; seed <= 400; seed++) {
    const { below, of } = chance(seed);
    const room = roomOf(below(120));
    const log = new RoomLog();
    const wire: WireEvent[] = [];
    const late: (() => void)[] = [];
    const read = (): void => {
      const { from, to } = log;
      switch (of("newest", "around", "older", "newer", "events")) {
        case "newest":
          return void late.push(((p) => () => log.begin(p))(room.page(undefined, 20)));
        case "around":
          return void late.push(((p) => () => log.begin(p))(room.page({ around: 1 + below(room.messages.length + 1) }, 20)));
        case "older":
          return void (log.older && late.push(((p) => () => log.from === from && log.loaded && log.older && log.prepend(p))(room.page({ before: from }, 20))));
        case "newer":
          return void (log.newer && late.push(((p) => () => log.to === to && log.newer && log.append(p))(room.page({ after: to }, 20))));
        case "events":
          return void (log.loaded && late.push(((r) => () => log.fill(parsed(...r.events), r.last))(room.after(Math.min(log.events.number, room.last), 10))));
      }
    };
    log.begin(room.page(undefined, 20));
    for (let step = 0; step < 150; step++) {
      const some = 1 + below(room.messages.length + 1);
      const event = of(
        () => room.say(of(me.userId, bob.userId), `s${step}`), () => room.edit(some, `e${step}`), () => room.delete(some),
        () => room.say(bob.userId, `s${step}`), () => undefined,
      )();
      if (event && below(5) > 0) wire.splice(below(3) ? wire.length : below(wire.length + 1), 0, ...(below(6) ? [event] : [event, event]));
      if (below(3) === 0) read();
      if (below(2) === 0) hear(log, wire.shift());
      if (below(3) === 0) late.splice(below(late.length || 1), 1)[0]?.();
    }
    for (const answer of late) answer();
    hear(log, ...wire);
    log.events.known = room.last;
    fill(log, room);
    while (log.newer) {
      log.append(room.page({ after: log.to }, 20));
      fill(log, room);
    }
    while (log.older) log.prepend(room.page({ before: log.from }, 20));
    expect(shown(log), `seed ${seed}`).toEqual(truth(room, 1, log.to));
    expect(room.there().filter((m) => m.seq > log.to), `seed ${seed}`).toEqual([]);
  }
});

it("lets go of the oldest of very many lines, and gets them again", () => {
  const room = roomOf(0);
  const log = new RoomLog();
  log.begin(room.page(undefined, 50));
  for (let i = 1; i <= 1500; i++) hear(log, room.say(bob.userId, `m${i}`));
  log.trim();
  expect([log.messages.length, log.from, log.older]).toEqual([600, 901, true]);
  log.prepend(room.page({ before: log.from }, 50));
  expect(shown(log)).toEqual(truth(room, 851, 1500));
});
