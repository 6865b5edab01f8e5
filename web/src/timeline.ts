// The lines of one chat: stored history and what arrives live, merged into one order without doubles or gaps.
//
// History numbers messages 1, 2, 3 … without gaps. A live message has no number yet, so it gets the next one for the
// time being, and its true one when history tells. A message is known by author and key in both.

import type { WireMessage, WirePage } from "./api";

export type SendState = "sending" | "sent" | "failed";

export interface MessageLine {
  kind: "message";
  id: string;
  position: number; // its place: the sequence, a guess until `stored`; Infinity while not yet heard back
  arrival: number; // breaks ties
  at: number; // ms since 1970
  stored: boolean; // position is the sequence that history gave it
  authorId: string;
  authorName?: string; // as history knew it, for people who are no longer around
  key?: string;
  text: string;
  state: SendState;
  reason?: string; // why it failed, for people
}

export interface NoteLine {
  kind: "note";
  id: string;
  position: number;
  arrival: number;
  at: number;
  userId: string;
  what: "joined" | "left" | "accepted";
}

export type Line = MessageLine | NoteLine;

/** How long a live line may be unknown to history before it counts as never stored. */
const storedWithinMs = 15_000;

const mostLines = 1000;
const keptLines = 600;

export class Timeline {
  lines: Line[] = [];
  loaded = false;
  loading = false;
  again = false; // the newest page was wanted while another was on its way
  error = "";
  older: number | undefined; // `before` of the next older page; undefined: this is the beginning
  private arrivals = 0; // not #arrivals: private names do not reach through a reactive proxy

  messages(): MessageLine[] {
    return this.lines.filter((l) => l.kind === "message");
  }

  find(id: string): MessageLine | undefined {
    return this.lines.find((l) => l.kind === "message" && l.id === id) as MessageLine | undefined;
  }

  /** Takes in the newest page and returns the sequence of the newest message. Starts over if there is a gap before it. */
  mergeNewest(page: WirePage, now: number): number {
    const first = page.messages[0];
    const known = this.messages().reduce((most, m) => (m.stored ? Math.max(most, m.position) : most), 0);
    if (!this.loaded || (first && first.seq > known + 1)) {
      // What lies before the gap comes back with the older pages.
      this.lines = this.lines.filter((l) => l.kind === "message" && !l.stored);
      this.older = page.next;
    }
    this.loaded = true;
    const told = idsOf(page);
    const heard = this.messages().filter((l) => !l.stored && told.has(l.id)); // live, before history told
    this.merge(page.messages);
    this.dropMissing(page, heard);
    this.lines = this.lines.filter((l) => l.kind === "note" || l.stored || l.state !== "sent" || now - l.at < storedWithinMs);
    return this.renumber(page.messages.at(-1)?.seq ?? 0);
  }

  mergeOlder(page: WirePage): void {
    this.older = page.next;
    this.merge(page.messages);
    this.sort();
  }

  /** A live message. Returns its line, and whether it is new here. */
  hear(authorId: string, text: string, key: string | undefined, position: number, now: number): [MessageLine, boolean] {
    const id = lineId(authorId, key ?? `live-${now}-${this.arrivals}`);
    const known = this.find(id);
    if (known) {
      const isNews = known.position === Infinity; // our own, coming back
      if (isNews) known.position = position;
      known.state = "sent";
      this.sort();
      return [known, isNews];
    }
    const line = this.push({
      kind: "message", id, position, arrival: 0, at: now, stored: false, authorId, key, text, state: "sent",
    });
    this.trim();
    return [line, true];
  }

  /** A message of our own on its way. */
  send(authorId: string, text: string, key: string, now: number): MessageLine {
    return this.push({
      kind: "message", id: lineId(authorId, key), position: Infinity, arrival: 0, at: now, stored: false, authorId, key, text,
      state: "sending",
    });
  }

  note(userId: string, what: NoteLine["what"], position: number, now: number): void {
    this.push({ kind: "note", id: `note-${now}-${this.arrivals}`, position: position + 0.5, arrival: 0, at: now, userId, what });
  }

  remove(id: string): void {
    this.lines = this.lines.filter((l) => l.id !== id);
  }

  private push<T extends Line>(line: T): T {
    line.arrival = this.arrivals++;
    const before = this.lines.at(-1);
    this.lines.push(line);
    const added = this.lines.at(-1) as T; // the reactive one
    if (before && byPlace(before, line) > 0) this.sort();
    return added;
  }

  private merge(stored: WireMessage[]): void {
    const byId = new Map(this.messages().map((m) => [m.id, m]));
    for (const m of stored) {
      const id = lineId(m.userId, m.key);
      const line =
        byId.get(id) ?? this.messages().find((l) => !l.stored && !l.key && l.authorId === m.userId && l.text === m.text);
      const truth = { id, position: m.seq, at: Date.parse(m.sentAt), stored: true, authorName: m.userName, key: m.key, text: m.text };
      if (line) {
        Object.assign(line, truth, { state: "sent" });
      } else {
        this.lines.push({ kind: "message", arrival: this.arrivals++, authorId: m.userId, state: "sent", ...truth });
      }
    }
  }

  // From its first message on, the newest page is all that history has: what was known of that stretch and is not in it has
  // been deleted. A live line that came before one of the page's is older than the page; it comes back with the older ones.
  private dropMissing(page: WirePage, heard: MessageLine[]): void {
    const known = idsOf(page);
    const first = page.next === undefined ? 0 : (page.messages[0]?.seq ?? 0);
    const arrival = page.next === undefined ? 0 : Math.min(...heard.map((l) => l.arrival), Infinity);
    const deleted = (l: MessageLine): boolean => l.stored && l.position >= first && !known.has(l.id);
    const older = (l: MessageLine): boolean => !l.stored && l.state === "sent" && arrival !== Infinity && l.arrival < arrival;
    const dropped = new Set<Line>(this.messages().filter((l) => deleted(l) || older(l)));
    if (this.messages().some(older)) this.older = page.next;
    this.lines = this.lines.filter((l) => !dropped.has(l));
  }

  // Lines that history does not know yet follow those it knows, in the order in which they came.
  private renumber(last: number): number {
    const stored = this.messages().reduce((most, m) => (m.stored ? Math.max(most, m.position) : most), last);
    let next = stored;
    for (const m of this.messages().sort(byPlace)) {
      if (!m.stored && m.position !== Infinity) m.position = ++next;
    }
    this.sort();
    return next;
  }

  // A page left open for weeks does not grow without bound; the oldest lines come back with the older pages.
  private trim(): void {
    if (this.lines.length <= mostLines) return;
    const dropped = this.lines.splice(0, this.lines.length - keptLines);
    const first = this.messages()[0];
    if (first && dropped.some((l) => l.kind === "message")) this.older = Math.ceil(first.position);
  }

  private sort(): void {
    this.lines.sort(byPlace);
  }
}

function byPlace(a: Line, b: Line): number {
  return a.position === b.position ? a.arrival - b.arrival : a.position - b.position;
}

function idsOf(page: WirePage): Set<string> {
  return new Set(page.messages.map((m) => lineId(m.userId, m.key)));
}

function lineId(authorId: string, key: string): string {
  return `${authorId}\n${key}`;
}
