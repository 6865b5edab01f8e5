// Who is around, what people are called, and whom we have blocked.

import { defineStore } from "pinia";
import { reactive, ref } from "vue";
import { deps } from "../deps";
import { parseIds, parseRecord, type WirePerson } from "../wire";
import { useLink } from "./link";

export interface Person {
  userId: string;
  userName: string;
  idle: boolean;
}

export const usePeople = defineStore("people", () => {
  const online = ref(new Map<string, Person>());
  const blocked = ref(new Set<string>());
  const names = reactive(new Map<string, string>()); // everyone ever heard of
  let known = 0; // counts what was asked and heard of whom we block
  let waiting: (() => void)[] | undefined; // news that waits for the lists, which may be older

  /** Reads who is around again. */
  async function refresh(): Promise<void> {
    if (waiting) return; // what is being read counts
    const same = useLink().same();
    waiting = [];
    try {
      const { api } = deps();
      const [users, list] = await Promise.all([api.users(), api.blocked()]);
      if (same()) take(users, list);
    } finally {
      const news = waiting;
      waiting = undefined;
      if (same()) for (const change of news) change();
    }
  }

  function take(users: [string, WirePerson][], list: string[]): void {
    online.value = new Map(users.map(([userId, u]) => [userId, { userId, userName: u.userName, idle: u.idle }]));
    for (const [userId, u] of users) names.set(userId, u.userName);
    blocked.value = new Set(list);
  }

  /** Changes the lists, also those that are on their way. */
  function change(news: () => void): void {
    news();
    waiting?.push(news);
  }

  /** Takes a message from the server, if it is about people. */
  function hear(event: string, data: string): void {
    switch (event) {
      case "userOnline": {
        const u = parseRecord(data);
        if (typeof u?.userId !== "string" || typeof u.userName !== "string") return;
        const { userId, userName } = u;
        call(userId, userName);
        change(() => online.value.set(userId, { userId, userName, idle: u.idle === true }));
        return;
      }
      case "userOffline":
        change(() => online.value.delete(data));
        return;
      case "userIsIdle":
      case "userNotIdle":
        change(() => {
          const person = online.value.get(data);
          if (person) person.idle = event === "userIsIdle";
        });
        return;
      case "blocked": {
        const list = parseIds(data);
        if (list) blocks(list);
        return;
      }
      case "userBlocked":
      case "userUnblocked": // which is all that services of the version before say
        void readBlocked();
    }
  }

  function blocks(list: string[]): void {
    known++;
    change(() => (blocked.value = new Set(list)));
  }

  async function readBlocked(): Promise<void> {
    const same = useLink().same();
    const asked = ++known;
    const list = await deps().api.blocked().catch(() => undefined); // told, too, when the lists are read again
    if (list && same() && known === asked) blocks(list);
  }

  /** Takes note of what somebody is called. */
  function call(userId: string, userName: string): void {
    if (userId && userName) names.set(userId, userName);
  }

  /** The name of a person, from whom we know to be who. */
  function nameOf(userId: string, otherwise = ""): string {
    return online.value.get(userId)?.userName ?? names.get(userId) ?? (otherwise || "Somebody");
  }

  // All of our pages are told what has become of it, in its order with what other pages do, before it is answered.

  async function block(userId: string): Promise<void> {
    await useLink().event("blockUser", { userId }, "json");
  }

  async function unblock(userId: string): Promise<void> {
    await useLink().event("unblockUser", { userId }, "json");
  }

  function clear(): void {
    online.value.clear();
    blocked.value.clear();
    waiting = undefined;
  }

  return { online, blocked, refresh, hear, call, nameOf, block, unblock, clear };
});
