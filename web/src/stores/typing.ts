// Who is typing in the room in view, and that we are. Nothing of it is kept; it ends by itself.

import { defineStore } from "pinia";
import { reactive } from "vue";
import { useLink } from "./link";
import { useSession } from "./session";

const sayAgainMs = 3000;
const endsAfterMs = 6000;
const mostNames = 3;

export const useTyping = defineStore("typing", () => {
  const people = reactive(new Map<string, ReturnType<typeof setTimeout>>()); // in the room that we look at
  let looking: string | undefined;
  let saidAt = -Infinity;
  let stopping: ReturnType<typeof setTimeout> | undefined;

  /** Looks at a room from now on, or at none. Only who looks hears who is typing. */
  function look(roomId: string | undefined): void {
    if (looking === roomId) return;
    stop();
    if (looking) void tell(looking, false);
    looking = roomId;
    forgetPeople();
    if (roomId) void tell(roomId, true);
  }

  /** The connection is another one, perhaps, which does not know where we look. */
  function again(): void {
    forgetPeople();
    saidAt = -Infinity;
    if (looking) void tell(looking, true);
  }

  async function tell(chatId: string, now: boolean): Promise<void> {
    try {
      await useLink().event("lookAt", { chatId, looking: now }, "json");
    } catch {
      // Then nobody is seen typing. A new connection tells again.
    }
  }

  /** Somebody else is typing, or does so no longer. */
  function hear(roomId: string, userId: string, typing: boolean): void {
    if (roomId !== looking || userId === useSession().me?.userId) return;
    clearTimeout(people.get(userId));
    people.delete(userId);
    if (typing) people.set(userId, setTimeout(() => people.delete(userId), endsAfterMs));
  }

  /** We have typed something. */
  function typed(): void {
    if (!looking) return;
    clearTimeout(stopping);
    stopping = setTimeout(stop, endsAfterMs);
    if (performance.now() - saidAt < sayAgainMs) return;
    saidAt = performance.now();
    useLink().whisper(`typing.${looking}`, { typing: true });
  }

  /** What we were typing has been sent, or is gone. */
  function stop(): void {
    clearTimeout(stopping);
    if (looking && saidAt > -Infinity) useLink().whisper(`typing.${looking}`, { typing: false });
    saidAt = -Infinity;
  }

  /** Those who are typing, the first few. */
  function some(): string[] {
    return [...people.keys()].slice(0, mostNames);
  }

  function forgetPeople(): void {
    for (const timer of people.values()) clearTimeout(timer);
    people.clear();
  }

  function clear(): void {
    clearTimeout(stopping);
    looking = undefined;
    saidAt = -Infinity;
    forgetPeople();
  }

  return { look, again, hear, typed, stop, some, clear };
});
