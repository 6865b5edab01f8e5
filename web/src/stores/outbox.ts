// What we have said and the server does not have yet, as far as we know. Each message has a key, so that sending it again
// after a doubtful moment, a reload or from another tab does no harm. It is kept in the browser's database until it is acked.

import { defineStore } from "pinia";
import { ref } from "vue";
import { Lost, Refused } from "../connection";
import { deps } from "../deps";
import { messageId } from "../model/log";
import type { Pending } from "../model/lines";
import { Shelf } from "../shelf";
import { heard } from "../sync";
import { uuid } from "../uuid";
import { isRecord, type RoomEvent } from "../wire";
import { useLink } from "./link";
import { useMessages } from "./messages";
import { textOf } from "./notices";
import { useSession } from "./session";

// What no store can keep, half of a surrogate pair or NUL, comes with what is pasted: the server would refuse all of the message.
export function sendable(text: string): string {
  return text.replace(/\p{Surrogate}/gu, "\uFFFD").replaceAll("\0", "\uFFFD");
}

interface Stored extends Omit<Pending, "state" | "reason"> {
  id: string;
}

export const useOutbox = defineStore("outbox", () => {
  const entries = ref<Pending[]>([]);
  const attempts = new Map<string, number>(); // the newest per key; what earlier ones end with does not count
  let shelf: Shelf<Stored> | undefined;

  function of(roomId: string): Pending[] {
    return entries.value.filter((p) => p.roomId === roomId);
  }

  /** Says something. The line shows at once, and how far it got. */
  function send(roomId: string, text: string): void {
    const me = useSession().me;
    if (!me || !text.trim()) return;
    const after = (entries.value.at(-1)?.at ?? 0) + 1; // so that it is after the others also when it comes back from the database
    const pending: Pending = { roomId, userId: me.userId, key: uuid(), text: sendable(text), at: Math.max(deps().clock.now(), after), state: "sending" };
    entries.value.push(pending);
    const { userId, key, at } = pending;
    void shelf?.put({ id: messageId(userId, key), roomId, userId, key, text: pending.text, at });
    void transmit(find(key));
  }

  /** Sends a failed message again, as the same message. */
  function retry(key: string): void {
    const p = find(key);
    if (p?.state !== "failed") return;
    p.state = "sending";
    p.reason = undefined;
    void transmit(p);
  }

  /** Gives up a message. */
  function discard(key: string): void {
    const p = find(key);
    if (p) remove(p);
  }

  /** The server has told us a message of ours as everybody's: it is there. */
  function delivered(userId: string, key: string): void {
    const p = find(key);
    if (p?.userId === userId) remove(p);
  }

  /** Sends what waits for a connection. */
  function flush(): void {
    for (const p of entries.value) void transmit(p);
  }

  /** Gives up what was said in rooms that are not there any more. */
  function keepRooms(isThere: (roomId: string) => boolean): void {
    for (const p of entries.value) if (!isThere(p.roomId)) remove(p);
  }

  /** Brings back what the person who is here had not got through, and sends it. */
  async function restore(): Promise<void> {
    const me = useSession().me;
    shelf ??= new Shelf(deps().database);
    const kept = await shelf.all();
    if (!me || useSession().me?.userId !== me.userId) return;
    const mine = kept.filter((s) => s.userId === me.userId && !find(s.key)).sort((a, b) => a.at - b.at);
    const back = mine.map(({ roomId, userId, key, text, at }): Pending => ({ roomId, userId, key, text, at, state: "sending" }));
    entries.value = [...back, ...entries.value];
    for (const p of back) void transmit(find(p.key));
  }

  /** Leaves nothing of what was written behind. */
  function clear(): void {
    for (const p of entries.value) remove(p);
  }

  /** Puts it away until the person is back. */
  function forget(): void {
    entries.value = [];
    attempts.clear();
  }

  async function transmit(p: Pending | undefined): Promise<void> {
    const link = useLink();
    if (p?.state !== "sending" || !link.connected) return; // goes out when the connection is back
    const attempt = (attempts.get(p.key) ?? 0) + 1;
    attempts.set(p.key, attempt);
    try {
      const answer = await link.invoke("sendMessage", { chatId: p.roomId, text: p.text, key: p.key });
      if (!find(p.key)) return; // it was heard all the same
      p.state = "sent";
      p.reason = undefined;
      void shelf?.remove(messageId(p.userId, p.key));
      const event = eventOf(p, answer);
      if (event) heard(event);
      if (!useMessages().follows(p.roomId)) remove(p); // nobody waits for its line
    } catch (err) {
      if (!find(p.key) || attempts.get(p.key) !== attempt) return;
      if (err instanceof Lost && !link.connected) return;
      p.state = "failed";
      p.reason = err instanceof Refused && err.code === "Forbidden" ? "You cannot write in this chat now." : textOf(err);
    }
  }

  function find(key: string): Pending | undefined {
    return entries.value.find((p) => p.key === key);
  }

  function remove(p: Pending): void {
    entries.value = entries.value.filter((other) => other.key !== p.key);
    attempts.delete(p.key);
    void shelf?.remove(messageId(p.userId, p.key));
  }

  return { entries, of, send, retry, discard, delivered, flush, keepRooms, restore, clear, forget };
});

// The answer has the message's place; together with what we know it is the event that others are told.
function eventOf(p: Pending, answer: unknown): RoomEvent | undefined {
  if (!isRecord(answer) || typeof answer.seq !== "number" || typeof answer.number !== "number") return undefined;
  const at = Date.parse(String(answer.at));
  return {
    roomId: p.roomId, number: answer.number, kind: "message", userId: p.userId, userName: useSession().me?.userName ?? "",
    seq: answer.seq, text: p.text, key: p.key, title: "", at: Number.isNaN(at) ? p.at : at,
  };
}
