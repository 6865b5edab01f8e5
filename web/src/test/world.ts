// The services as far as the page can see them, for tests: rooms that are sequences of events, lists that answer late, and a
// wire that may lose, double and overtake.

import { createPinia, setActivePinia } from "pinia";
import { vi } from "vitest";
import { ApiError, type Api, type Where } from "../api";
import { Clock } from "../clock";
import type { Link, Listener } from "../connection";
import { provideDeps, type Alert } from "../deps";
import { useChats } from "../stores/chats";
import { useSession } from "../stores/session";
import { parseEvent, type MemberState, type RoomKind, type WireMessage, type WirePage, type WirePerson, type WireRoom } from "../wire";

export const me = { userId: "guest_me", userName: "Ada", provider: "guest" };
export const bob = { userId: "guest_bob", userName: "Bob" };

export type WireEvent = Record<string, unknown> & { roomId: string; number: number; kind: string };

interface Message extends WireMessage {
  gone?: boolean;
}

const epoch = Date.parse("2026-11-30T12:00:00Z");

/** A room as the server has it. */
export class Room {
  events: WireEvent[] = [];
  messages: Message[] = [];
  members = new Map<string, MemberState>();
  readSeq = 0; // ours
  kept = 0; // events up to this one are not kept any more

  constructor(
    readonly id: string,
    readonly world: World,
    public name = id,
    readonly kind: RoomKind = "public",
    readonly owner = bob.userId,
  ) {}

  get last(): number {
    return this.events.length;
  }

  #event(kind: string, userId: string, more: Record<string, unknown> = {}): WireEvent {
    const event = {
      roomId: this.id, number: this.last + 1, kind, userId, userName: this.world.names.get(userId) ?? userId,
      at: new Date(epoch + this.last * 1000).toISOString(), ...more,
    };
    this.events.push(event);
    return event;
  }

  say(userId: string, text: string, key = `k${this.messages.length + 1}`): WireEvent {
    const known = this.messages.find((m) => m.userId === userId && m.key === key);
    if (known) return this.events[known.number - 1] as WireEvent;
    const seq = this.messages.length + 1;
    const event = this.#event("message", userId, { seq, text, key });
    this.messages.push({ seq, number: event.number, userId, userName: String(event.userName), text, key, at: String(event.at) });
    if (userId === me.userId && this.readSeq === seq - 1) this.readSeq = seq;
    return event;
  }

  edit(seq: number, text: string): WireEvent | undefined {
    const m = this.messages[seq - 1];
    if (!m || m.gone) return undefined;
    Object.assign(m, { text, edited: true });
    return this.#event("edited", m.userId, { seq, text });
  }

  delete(seq: number): WireEvent | undefined {
    const m = this.messages[seq - 1];
    if (!m || m.gone) return undefined;
    m.gone = true;
    return this.#event("deleted", m.userId, { seq });
  }

  join(userId: string): WireEvent {
    this.members.set(userId, "joined");
    if (userId === me.userId) this.world.changed(this.id);
    return this.#event("joined", userId);
  }

  leave(userId: string): WireEvent {
    this.members.delete(userId);
    if (userId === me.userId) this.world.changed(this.id);
    return this.#event("left", userId);
  }

  rename(title: string): WireEvent {
    this.name = title;
    return this.#event("title", this.owner, { title });
  }

  /** Another of our pages has read on. */
  read(seq: number): void {
    this.readSeq = seq;
    this.world.changed(this.id);
  }

  /** The room as it was after an event: a backup has been put back. */
  putBack(number: number): void {
    this.events.splice(number);
    this.messages = this.messages.filter((m) => m.number <= number);
    this.readSeq = Math.min(this.readSeq, this.messages.length);
  }

  there(): Message[] {
    return this.messages.filter((m) => !m.gone);
  }

  unread(): number {
    return this.there().filter((m) => m.seq > this.readSeq && m.userId !== me.userId).length;
  }

  wire(): WireRoom {
    const last = this.there().at(-1);
    const peer = this.kind === "direct" ? [...this.members].find(([id]) => id !== me.userId) : undefined;
    const name = (id: string): string => this.world.names.get(id) ?? id;
    return {
      id: this.id, name: peer ? name(peer[0]) : this.name, kind: this.kind, owner: this.owner, state: this.members.get(me.userId) ?? "none",
      lastEvent: this.last, lastSeq: this.messages.length, readSeq: this.readSeq, unread: this.unread(), members: this.members.size,
      at: last?.at ?? new Date(epoch).toISOString(),
      last: last ? { seq: last.seq, userId: last.userId, userName: last.userName, text: last.text, at: last.at } : null,
      peer: peer && { userId: peer[0], userName: name(peer[0]), state: peer[1] },
    };
  }

  page(where: Where, limit: number): WirePage {
    const all = this.there();
    let from = Math.max(0, all.length - limit);
    if (where && "before" in where) {
      const to = all.findIndex((m) => m.seq >= where.before);
      const end = to < 0 ? all.length : to;
      return this.#slice(all, Math.max(0, end - limit), end);
    }
    if (where && "after" in where) {
      const at = all.findIndex((m) => m.seq > where.after);
      from = at < 0 ? all.length : at;
    }
    if (where && "around" in where) {
      const at = all.findIndex((m) => m.seq >= where.around);
      from = Math.max(0, (at < 0 ? all.length : at) - Math.floor(limit / 2));
    }
    return this.#slice(all, from, Math.min(all.length, from + limit));
  }

  #slice(all: Message[], from: number, to: number): WirePage {
    const messages = all.slice(from, to).map((m) => ({ ...m, gone: undefined }));
    return { messages, lastEvent: this.last, older: from > 0, newer: to < all.length };
  }

  /** What happened after a number, as it is now: what has been deleted has no text any more. */
  after(number: number, limit: number): { events: WireEvent[]; last: number } {
    if (number < this.kept || number > this.last) throw new ApiError(410, "begin again");
    const events = this.events.slice(number, number + limit).map((e) => this.now(e));
    return { events, last: this.last };
  }

  now(e: WireEvent): WireEvent {
    const m = typeof e.seq === "number" ? this.messages[e.seq - 1] : undefined;
    if (!m || (e.kind !== "message" && e.kind !== "edited")) return { ...e };
    return m.gone ? { ...e, text: undefined } : { ...e, text: m.text };
  }
}

/** A browser and what it talks to. */
export class World {
  rooms = new Map<string, Room>();
  revision = 0; // of our own list
  changes = new Map<string, number>(); // the revision of its last change, by room
  names = new Map([[me.userId, me.userName], [bob.userId, bob.userName], ["guest_cid", "Cid"]]);
  users: [string, WirePerson][] = [[me.userId, { userName: "Ada", userProvider: "guest", idle: false }]];
  blocked: string[] = [];
  alerts: Alert[] = [];
  sent: unknown[] = [];
  asked: string[] = [];
  refuse: Error | null = null;
  lost: Error | null = null; // the answer is lost, not the question
  down: Error | null = null;
  hold: (what: string) => Promise<void> = async () => undefined; // answers wait for it
  listener!: Listener;
  stopped = false;
  saved = new Map<string, string>();
  kept = new Map<string, string>(); // with the tab
  time = 0;
  database: IDBFactory | undefined;

  readonly api: Api = {
    config: async () => ({ idleAfterSeconds: 60, providers: ["guest"], limits: { name: 64, title: 100, text: 8000, page: 200 } }),
    me: async () => me,
    signInAsGuest: async () => me,
    rooms: (after, limit = 100) => this.#answer("rooms", () => {
      const mine = [...this.rooms.values()].filter((r) => r.members.has(me.userId)).map((r) => r.wire());
      mine.sort((a, b) => Date.parse(b.at) - Date.parse(a.at));
      const from = Number(after ?? 0);
      const next = from + limit < mine.length ? String(from + limit) : undefined;
      return { revision: this.revision, rooms: mine.slice(from, from + limit), next };
    }),
    roomsSince: (since) => this.#answer(`since ${since}`, () => {
      if (since > this.revision) throw new ApiError(410, "begin again");
      const all = [...this.changes].filter(([, at]) => at > since).sort(([, a], [, b]) => a - b);
      const some = all.slice(0, 2);
      const mine = (id: string): boolean => this.rooms.get(id)?.members.has(me.userId) === true;
      return {
        revision: some.length < all.length ? (some.at(-1)?.[1] as number) : this.revision,
        rooms: some.flatMap(([id]) => (mine(id) ? [(this.rooms.get(id) as Room).wire()] : [])),
        gone: some.flatMap(([id]) => (mine(id) ? [] : [id])),
        more: some.length < all.length,
      };
    }),
    room: (id) => this.#answer(`room ${id}`, () => {
      const room = this.rooms.get(id);
      if (!room || (room.kind !== "public" && !room.members.has(me.userId))) throw new ApiError(404, "no such room");
      return room.wire();
    }),
    directory: (q = "", after, limit = 100) => this.#answer("directory", () => {
      const found = [...this.rooms.values()].filter((r) => r.kind === "public" && !r.members.has(me.userId) && r.name.includes(q));
      const from = Number(after ?? 0);
      return {
        rooms: found.slice(from, from + limit).map((r) => ({ id: r.id, name: r.name, owner: r.owner, members: r.members.size, at: r.wire().at })),
        next: from + limit < found.length ? String(from + limit) : undefined,
      };
    }),
    members: (id) => this.#answer("members", () => ({
      members: [...(this.rooms.get(id)?.members ?? [])].map(([userId, state]) => ({ userId, userName: this.names.get(userId) ?? userId, state })),
    })),
    messages: (id, where, limit = 50) => this.#answer(`messages ${JSON.stringify(where ?? {})}`, () => this.#room(id).page(where, limit)),
    events: (id, after, limit = 200) => this.#answer(`events ${after}`, () => {
      const { events, last } = this.#room(id).after(after, limit);
      return { events: events.map((e) => parseEvent(e)).filter((e) => e !== undefined), last };
    }),
    users: () => this.#answer("users", () => structuredClone(this.users)),
    blocked: () => this.#answer("blocked", () => [...this.blocked]),
    negotiate: async () => "ws://nowhere",
  };

  constructor() {
    this.fresh();
  }

  /** The page, as after a reload. */
  fresh(): void {
    setActivePinia(createPinia());
    provideDeps({
      api: this.api,
      clock: new Clock(() => this.time),
      openLink: (_negotiate, listener) => {
        this.listener = listener;
        return {
          start: () => undefined,
          stop: () => (this.stopped = true),
          sendEvent: async (name, data) => {
            this.sent.push([name, data]);
            if (this.refuse) throw this.refuse;
          },
          whisper: (group, data) => void this.sent.push([group, data]),
          invoke: async (name, data) => {
            this.sent.push([name, data]);
            const { refuse, lost } = this; // as it is when asked
            await this.hold(name);
            if (refuse) throw refuse;
            const { chatId, text, key } = data as { chatId: string; text: string; key: string };
            const { seq, number, at } = this.#room(chatId).say(me.userId, text, key);
            if (lost) throw lost;
            return { seq, number, at };
          },
        } satisfies Link;
      },
      storage: { getItem: (k) => this.saved.get(k) ?? null, setItem: (k, v) => void this.saved.set(k, v) },
      tabStorage: { getItem: (k) => this.kept.get(k) ?? null, setItem: (k, v) => void this.kept.set(k, v) },
      database: this.database,
      alert: (a) => this.alerts.push(a),
    });
  }

  async #answer<T>(what: string, value: () => T): Promise<T> {
    this.asked.push(what);
    let answer: T | undefined;
    let no: unknown = this.down;
    try {
      if (!this.down) answer = structuredClone(value()); // as it is when asked, like a database
    } catch (err) {
      no = err;
    }
    await this.hold(what);
    if (this.down ?? no) throw this.down ?? no;
    return answer as T;
  }

  #room(id: string): Room {
    const room = this.rooms.get(id);
    if (!room?.members.has(me.userId)) throw new ApiError(403, "you are not in this chat");
    return room;
  }

  room(id: string, { kind = "public", name = id, others = [bob.userId], mine = "joined" }: {
    kind?: RoomKind; name?: string; others?: string[]; mine?: MemberState | "none";
  } = {}): Room {
    const room = new Room(id, this, name, kind);
    for (const other of others) room.join(other);
    if (mine !== "none") {
      room.join(me.userId);
      room.members.set(me.userId, mine);
    }
    this.rooms.set(id, room);
    return room;
  }

  /** Our own list says something else of a room. */
  changed(id: string): void {
    this.changes.set(id, ++this.revision);
  }

  /** A room is deleted. */
  remove(id: string): void {
    if (this.rooms.get(id)?.members.has(me.userId)) this.changed(id);
    this.rooms.delete(id);
  }

  async online(): Promise<void> {
    await useSession().start();
    this.listener.state("online");
    await settle();
  }

  /** Tells the page of events, live. */
  live(...events: (WireEvent | undefined)[]): void {
    for (const e of events) {
      const event = parseEvent(e);
      if (event) this.listener.event(event);
    }
  }

  server(event: string, data: unknown): void {
    this.listener.server(event, typeof data === "string" ? data : JSON.stringify(data));
  }

  unread(id: string): number {
    const chat = useChats().rooms.get(id);
    return chat ? useChats().unreadOf(chat) : -1;
  }
}

/** Lets everything happen that waits for nothing but its turn. */
export async function settle(ms = 0): Promise<void> {
  await vi.advanceTimersByTimeAsync(ms);
}

/** A source of chance that can be had again. */
export function chance(seed: number): { below(n: number): number; of<T>(...choices: T[]): T } {
  let state = seed * 2654435761 + 1;
  const next = (): number => {
    state = (state ^ (state << 13)) >>> 0;
    state = (state ^ (state >>> 17)) >>> 0;
    state = (state ^ (state << 5)) >>> 0;
    return state / 2 ** 32;
  };
  return { below: (n) => Math.floor(next() * n), of: (...choices) => choices[Math.floor(next() * choices.length)] as (typeof choices)[number] };
}
