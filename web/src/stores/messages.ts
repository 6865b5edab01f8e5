// The messages of rooms that have been opened, by number. What is missing is read; what is heard twice counts once.

import { defineStore } from "pinia";
import { reactive } from "vue";
import { isAway, isTooOld, type Where } from "../api";
import { deps } from "../deps";
import { linesOf, type Line } from "../model/lines";
import { RoomLog } from "../model/log";
import { Sequence } from "../model/sequence";
import type { RoomEvent, WirePage } from "../wire";
import { useChats } from "./chats";
import { textOf } from "./notices";
import { useOutbox } from "./outbox";
import { usePeople } from "./people";
import { useSession } from "./session";
import { useView } from "./view";

const pageSize = 50;
const mostMissing = 500; // more than that is not read one by one
const mostLogs = 20;
const gapMs = 400; // an answer overtakes what others said just before; only what stays away is read
const tryAgainMs = 3000;

export const useMessages = defineStore("messages", () => {
  const logs = reactive(new Map<string, RoomLog>()) as Map<string, RoomLog>;
  const reading = new Map<string, number>(); // where somebody reads who is not at the end
  const turns = new Map<string, number>(); // which beginning is the newest that was asked for
  const catching = new Set<string>();
  const timers = new Map<string, ReturnType<typeof setTimeout>>();

  function log(roomId: string): RoomLog {
    if (!logs.has(roomId)) logs.set(roomId, new RoomLog());
    return logs.get(roomId) as RoomLog; // the reactive one
  }

  function lines(roomId: string): Line[] {
    return linesOf(log(roomId), useOutbox().of(roomId));
  }

  /** Whether what is said in a room shows as a line here. */
  function follows(roomId: string): boolean {
    const known = logs.get(roomId);
    return known !== undefined && known.loaded && !known.newer;
  }

  /** Brings a room's lines: the newest, or those around a message. */
  async function open(roomId: string, seq?: number): Promise<void> {
    const l = log(roomId);
    rest(roomId);
    if (l.loaded && (seq === undefined ? !l.newer : l.covers(seq))) await catchUp(roomId);
    else await begin(roomId, seq === undefined ? undefined : { around: seq });
  }

  /** Begins again where what there is counts no more. */
  async function again(roomId: string): Promise<void> {
    if (useView().active === roomId && logs.get(roomId)?.loaded) await begin(roomId);
    else forget(roomId);
  }

  /** Goes back to the newest lines. */
  async function newest(roomId: string): Promise<void> {
    if (log(roomId).newer || log(roomId).error) await begin(roomId);
  }

  async function begin(roomId: string, where?: Where): Promise<void> {
    const l = log(roomId);
    const turn = (turns.get(roomId) ?? 0) + 1;
    turns.set(roomId, turn);
    const mine = (): boolean => logs.get(roomId) === l && turns.get(roomId) === turn;
    const { number } = l.events;
    l.loading = true;
    l.error = "";
    try {
      const page = await deps().api.messages(roomId, where, pageSize);
      if (!mine()) return;
      if (page.lastEvent < number) l.events = new Sequence(); // the server's store is that of a backup
      const events = l.begin(page);
      lengthen(roomId, l, page);
      took(page, events);
    } catch (err) {
      if (mine()) l.error = textOf(err);
    } finally {
      if (mine()) l.loading = false;
    }
    if (mine()) await catchUp(roomId);
  }

  // A page says nothing of messages after its last that have been deleted; the list of rooms does.
  function lengthen(roomId: string, l: RoomLog, page: WirePage): void {
    const room = useChats().rooms.get(roomId);
    if (room && !page.newer && room.lastEvent <= page.lastEvent) l.to = Math.max(l.to, room.lastSeq);
  }

  /** Brings the lines before those that are there. */
  async function older(roomId: string): Promise<void> {
    const l = log(roomId);
    const { from } = l;
    if (!l.loaded || l.loading || !l.older) return;
    await extending(roomId, l, { before: from }, (page) => {
      if (l.from === from) l.prepend(page);
      took(page, []);
    });
  }

  /** Brings the lines after those that are there. */
  async function newer(roomId: string): Promise<void> {
    const l = log(roomId);
    const { to } = l;
    if (!l.loaded || l.loading || !l.newer) return;
    await extending(roomId, l, { after: to }, (page) => {
      if (l.to === to) took(page, l.append(page));
    });
    await catchUp(roomId);
  }

  async function extending(roomId: string, l: RoomLog, where: Where, take: (page: WirePage) => void): Promise<void> {
    const turn = turns.get(roomId);
    const mine = (): boolean => logs.get(roomId) === l && turns.get(roomId) === turn;
    l.loading = true;
    l.error = "";
    try {
      const page = await deps().api.messages(roomId, where, pageSize);
      if (mine()) take(page);
    } catch (err) {
      if (mine()) l.error = textOf(err);
    } finally {
      if (mine()) l.loading = false;
    }
  }

  /** Takes something that has happened in a room. */
  function hear(e: RoomEvent): void {
    const l = logs.get(e.roomId);
    if (!l) return;
    took(undefined, l.hear(e));
    if (l.loaded && l.events.behind && useView().active === e.roomId) later(e.roomId, gapMs);
  }

  /** A list says how far a room is. */
  function known(roomId: string, number: number): void {
    const l = logs.get(roomId);
    if (!l) return;
    l.events.known = Math.max(l.events.known, number);
    if (l.loaded && l.events.behind && useView().active === roomId) later(roomId, gapMs); // what we did ourselves is told by its answer only
  }

  /** How many messages there are after one, if that is known. */
  function countAfter(roomId: string, seq: number): number | undefined {
    return logs.get(roomId)?.countAfter(seq);
  }

  function later(roomId: string, ms: number): void {
    if (timers.has(roomId)) return;
    timers.set(roomId, setTimeout(() => {
      timers.delete(roomId);
      void catchUp(roomId);
    }, ms));
  }

  /** Reads what is known to have happened and has not been heard. */
  async function catchUp(roomId: string): Promise<void> {
    const l = logs.get(roomId);
    if (!l?.loaded || catching.has(roomId)) return;
    catching.add(roomId);
    let again = false;
    try {
      while (logs.get(roomId) === l && l.events.behind && !again) again = await readOn(roomId, l);
    } catch (err) {
      if (!isAway(err)) later(roomId, tryAgainMs);
    } finally {
      catching.delete(roomId);
    }
    if (again) await begin(roomId, reading.has(roomId) ? { around: reading.get(roomId) as number } : undefined);
  }

  /** Reads the next missing events. Returns whether that is hopeless, and a new beginning is needed. */
  async function readOn(roomId: string, l: RoomLog): Promise<boolean> {
    const { number, known: newest } = l.events;
    if (newest - number > mostMissing) return true;
    try {
      const { events, last } = await deps().api.events(roomId, number);
      took(undefined, l.fill(events, last));
      if (l.events.number === number && l.events.behind) throw new Error("nothing was told of what is missing");
      return false;
    } catch (err) {
      if (isTooOld(err)) return true;
      throw err;
    }
  }

  function took(page: WirePage | undefined, events: RoomEvent[]): void {
    const me = useSession().me?.userId;
    for (const m of page?.messages ?? []) if (m.userId === me) useOutbox().delivered(m.userId, m.key);
    for (const e of events) if (e.kind === "message" && e.userId === me) useOutbox().delivered(e.userId, e.key);
    for (const m of [...(page?.messages ?? []), ...events]) usePeople().call(m.userId, m.userName);
  }

  /** Says where somebody reads a room: at a message, or at its end. */
  function reads(roomId: string, seq: number | undefined): void {
    if (seq === undefined) reading.delete(roomId);
    else reading.set(roomId, seq);
    if (seq === undefined) logs.get(roomId)?.trim();
  }

  // Lets go of rooms that nobody has looked at for long.
  function rest(roomId: string): void {
    const l = log(roomId);
    logs.delete(roomId);
    logs.set(roomId, l);
    for (const id of [...logs.keys()].slice(0, Math.max(0, logs.size - mostLogs))) forget(id);
  }

  function forget(roomId: string): void {
    clearTimeout(timers.get(roomId));
    timers.delete(roomId);
    reading.delete(roomId);
    logs.delete(roomId);
  }

  function clear(): void {
    for (const id of [...logs.keys()]) forget(id);
  }

  return { logs, log, lines, follows, open, again, newest, older, newer, hear, known, countAfter, catchUp, reads, forget, clear };
});
