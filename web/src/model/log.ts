// The lines of one room: a stretch of its messages, kept as the server has them.
//
// Messages are numbered 1, 2, 3 … in a room, so a number that is not among ours within the stretch is of a message that has
// been deleted. Pages of history tell how things were at some event; events tell what has changed since. An event that a
// page already reflects changes nothing.

import type { RoomEvent, WireMessage, WirePage } from "../wire";
import { Sequence } from "./sequence";

export interface Message {
  id: string;
  seq: number;
  number: number;
  userId: string;
  userName: string; // as told with it, for people who are no longer around
  text: string;
  key: string;
  at: number;
  edited: boolean;
  asOf: number; // the newest event that is reflected here
}

/** Something that people did besides saying something. */
export interface Note {
  number: number;
  at: number;
  userId: string;
  userName: string;
  what: string;
  title: string;
}

const notable = new Set(["joined", "left", "title"]);
const mostMessages = 1000;
const keptMessages = 600;

/** What a message is known by, before and after the server has it. */
export function messageId(userId: string, key: string, seq = 0): string {
  return key ? `${userId}\n${key}` : `message ${seq}`;
}

export class RoomLog {
  loaded = false;
  loading = false;
  error = "";
  messages: Message[] = [];
  notes: Note[] = [];
  from = 1; // the stretch: what is not among the messages in it has been deleted
  to = 0;
  older = false; // there is more before the stretch
  newer = false; // there is more after it; what is said now does not belong here
  events = new Sequence();
  private pages: { from: number; to: number; asOf: number }[] = []; // read ahead of the events

  find(seq: number): Message | undefined {
    const m = this.messages[this.place(seq)];
    return m?.seq === seq ? m : undefined;
  }

  /** Whether the stretch has what is there of the given message. */
  covers(seq: number): boolean {
    return this.loaded && seq >= this.from && seq <= this.to;
  }

  /** How many messages there are after seq, as far as this stretch knows. */
  countAfter(seq: number): number | undefined {
    return this.loaded && !this.newer && seq + 1 >= this.from ? this.messages.length - this.place(seq + 1) : undefined;
  }

  /** Begins with a page, instead of whatever there was. */
  begin(page: WirePage): RoomEvent[] {
    this.messages = page.messages.map((m) => message(m, page.lastEvent));
    this.notes = [];
    this.pages = [];
    this.older = page.older;
    this.newer = page.newer;
    this.from = page.older ? (page.messages[0]?.seq ?? 1) : 1;
    this.to = page.messages.at(-1)?.seq ?? 0;
    this.loaded = true;
    return this.applyAll(this.events.begin(page.lastEvent));
  }

  /** What comes before the stretch. */
  prepend(page: WirePage): void {
    const from = page.older ? (page.messages[0]?.seq ?? this.from) : 1;
    this.read(page, from, this.from - 1);
    this.from = from;
    this.older = page.older;
  }

  /** What comes after the stretch. With its end the events from there on are needed: those before had no place here. */
  append(page: WirePage): RoomEvent[] {
    if (!this.newer) return [];
    const to = page.messages.at(-1)?.seq ?? this.to;
    this.read(page, this.to + 1, to);
    this.to = to;
    this.newer = page.newer;
    return this.newer ? [] : this.applyAll(this.events.begin(Math.min(this.events.number, page.lastEvent)));
  }

  /** Takes an event that has been heard. Returns those that have happened by it, in order. */
  hear(e: RoomEvent): RoomEvent[] {
    if (this.loaded) return this.applyAll(this.events.take(e));
    this.events.known = Math.max(this.events.known, e.number);
    return [];
  }

  /** Takes events that were read, ascending, and the newest number that there was. */
  fill(events: RoomEvent[], last: number): RoomEvent[] {
    this.events.known = Math.max(this.events.known, last);
    return events.flatMap((e) => this.hear(e));
  }

  /** Lets go of the oldest of very many lines; they come back with the older pages. */
  trim(): void {
    if (this.newer || this.messages.length <= mostMessages) return;
    this.messages = this.messages.slice(-keptMessages);
    const first = this.messages[0] as Message;
    this.from = first.seq;
    this.older = true;
    this.notes = this.notes.filter((n) => n.number > first.number);
  }

  private read(page: WirePage, from: number, to: number): void {
    for (const m of page.messages) if (m.seq >= from && m.seq <= to) this.put(message(m, page.lastEvent));
    if (page.lastEvent > this.events.number) this.pages.push({ from, to, asOf: page.lastEvent });
  }

  private applyAll(events: RoomEvent[]): RoomEvent[] {
    for (const e of events) this.apply(e);
    if (this.pages.length) this.pages = this.pages.filter((p) => p.asOf > this.events.number);
    return events;
  }

  private apply(e: RoomEvent): void {
    switch (e.kind) {
      case "message": {
        if (this.newer || e.seq < this.from) return;
        this.to = Math.max(this.to, e.seq);
        if (e.text === undefined || this.reflected(e)) return; // deleted meanwhile
        this.put({
          id: messageId(e.userId, e.key, e.seq), seq: e.seq, number: e.number, userId: e.userId, userName: e.userName, text: e.text,
          key: e.key, at: e.at, edited: false, asOf: e.number,
        });
        return;
      }
      case "edited": {
        const known = this.find(e.seq);
        if (known && e.text !== undefined && e.number > known.asOf) Object.assign(known, { text: e.text, edited: true, asOf: e.number });
        return;
      }
      case "deleted": {
        const at = this.place(e.seq);
        if (this.messages[at]?.seq === e.seq) this.messages.splice(at, 1);
        return;
      }
      default:
        if (this.newer || !notable.has(e.kind)) return;
        this.notes.push({ number: e.number, at: e.at, userId: e.userId, userName: e.userName, what: e.kind, title: e.title });
    }
  }

  private reflected(e: RoomEvent): boolean {
    const known = this.find(e.seq);
    if (known) return known.asOf >= e.number;
    return this.pages.some((p) => p.asOf >= e.number && e.seq >= p.from && e.seq <= p.to);
  }

  private put(m: Message): void {
    const at = this.place(m.seq);
    this.messages.splice(at, this.messages[at]?.seq === m.seq ? 1 : 0, m);
  }

  /** Where a message is among ours, or would be. */
  private place(seq: number): number {
    let low = 0;
    let high = this.messages.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.messages[middle] as Message).seq < seq) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function message(m: WireMessage, asOf: number): Message {
  return {
    id: messageId(m.userId, m.key, m.seq), seq: m.seq, number: m.number, userId: m.userId, userName: m.userName, text: m.text, key: m.key,
    at: Date.parse(m.at), edited: m.edited === true, asOf,
  };
}
