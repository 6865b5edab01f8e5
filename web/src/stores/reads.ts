// What the server knows of what has been read: it is told of the newest, one telling at a time.

import { defineStore } from "pinia";
import { useChats } from "./chats";
import { useLink } from "./link";

export const useReads = defineStore("reads", () => {
  const known = new Map<string, number>(); // by room
  const telling = new Set<string>();

  /** The server has a mark at least there. */
  function knows(roomId: string, seq: number): void {
    known.set(roomId, Math.max(known.get(roomId) ?? 0, seq));
  }

  /** Somebody has said something after having read everything: the server moves its mark by itself, if it stood there. */
  function ownWords(roomId: string, before: number, seq: number): void {
    if ((known.get(roomId) ?? 0) === before) known.set(roomId, seq);
  }

  /** Tells the server how far somebody has read. What does not get through is told when the lists are read again. */
  async function tell(roomId: string): Promise<void> {
    if (telling.has(roomId)) return;
    telling.add(roomId);
    const read = (): number => useChats().rooms.get(roomId)?.readSeq ?? 0;
    try {
      for (let seq = read(); seq > (known.get(roomId) ?? 0); seq = read()) {
        await useLink().event("markRead", { chatId: roomId, seq }, "json");
        knows(roomId, seq);
      }
    } catch {
      // See above.
    } finally {
      telling.delete(roomId);
    }
  }

  function forget(roomId: string): void {
    known.delete(roomId);
  }

  function clear(): void {
    known.clear();
  }

  return { knows, ownWords, tell, forget, clear };
});
