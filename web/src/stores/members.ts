// Who is in the rooms that have been opened.

import { defineStore } from "pinia";
import { reactive } from "vue";
import { deps } from "../deps";
import type { MemberState, RoomEvent } from "../wire";
import { usePeople } from "./people";

export interface Member {
  userId: string;
  userName: string;
  state: MemberState;
}

const mostMembers = 1000;

export const useMembers = defineStore("members", () => {
  const rooms = reactive(new Map<string, Map<string, Member>>());
  const reading = new Map<string, RoomEvent[]>(); // and what happened meanwhile

  /** Reads who is in a room. */
  async function read(roomId: string): Promise<void> {
    if (reading.has(roomId)) return;
    const news: RoomEvent[] = [];
    reading.set(roomId, news);
    try {
      const all = new Map<string, Member>();
      for (let after: string | undefined, more = true; more && all.size < mostMembers; more = after !== undefined) {
        const page = await deps().api.members(roomId, after);
        for (const { userId, userName, state = "joined" } of page.members) all.set(userId, { userId, userName, state });
        after = page.next;
      }
      if (reading.get(roomId) !== news) return; // somebody else's by now
      for (const e of news) change(all, e);
      for (const m of all.values()) usePeople().call(m.userId, m.userName);
      rooms.set(roomId, all);
    } catch {
      // How many there are is known all the same.
    } finally {
      if (reading.get(roomId) === news) reading.delete(roomId);
    }
  }

  /** Takes note of somebody who has joined or left. */
  function hear(e: RoomEvent): void {
    reading.get(e.roomId)?.push(e);
    const known = rooms.get(e.roomId);
    if (known) change(known, e);
  }

  function change(known: Map<string, Member>, { kind, userId, userName }: RoomEvent): void {
    if (kind === "left") known.delete(userId);
    else known.set(userId, { userId, userName, state: "joined" });
  }

  function forget(roomId: string): void {
    rooms.delete(roomId);
    reading.delete(roomId);
  }

  function clear(): void {
    rooms.clear();
    reading.clear();
  }

  return { rooms, read, hear, forget, clear };
});
