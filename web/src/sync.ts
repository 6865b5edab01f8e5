// What is heard goes to the stores that it is about; and when something may have been missed, everything is read again.

import { defineStore } from "pinia";
import { ApiError } from "./api";
import type { LinkState, Listener } from "./connection";
import { deps } from "./deps";
import { useChats } from "./stores/chats";
import { useLink } from "./stores/link";
import { useMessages } from "./stores/messages";
import { useNotices } from "./stores/notices";
import { useOutbox } from "./stores/outbox";
import { usePeople } from "./stores/people";
import { useSession } from "./stores/session";
import { useTyping } from "./stores/typing";
import { useView } from "./stores/view";
import type { RoomEvent } from "./wire";

const slowestRefreshMs = 30_000;

export const listener: Listener = {
  state(state: LinkState) {
    if (state !== "online") return;
    void useSync().refresh(); // something may have been missed
    useOutbox().flush();
    useTyping().again();
  },
  event(e) {
    deps().clock.happened(e.at);
    if (useChats().isNews(e)) tell(e);
    if (e.kind === "message") useTyping().hear(e.roomId, e.userId, false);
    heard(e);
  },
  typing: (...news) => useTyping().hear(...news),
  server(name, data) {
    usePeople().hear(name, data);
    useChats().hearServer(name, data);
  },
  ended: () => useSession().end(),
};

/** Takes something that has happened in a room, however we know. */
export function heard(e: RoomEvent): void {
  useChats().hear(e);
  useMessages().hear(e);
}

/** Reading everything again, whenever something may have changed unheard. */
export const useSync = defineStore("sync", () => {
  let running: Promise<void> | undefined;
  let again = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let delay = 1000;

  function refresh(): Promise<void> {
    if (running) {
      again = true; // what is being read may be older than what made us ask
      return running;
    }
    clearTimeout(timer);
    const reading = read(useLink().same()).finally(() => {
      if (running === reading) running = undefined;
    });
    return (running = reading);
  }

  async function read(same: () => boolean): Promise<void> {
    do {
      again = false;
      try {
        await Promise.all([usePeople().refresh(), useChats().refresh()]);
        if (!same()) return;
        delay = 1000;
      } catch (err) {
        if (!same()) return;
        if (err instanceof ApiError && err.status === 401) {
          useSession().end();
          return;
        }
        timer = setTimeout(() => void refresh(), delay);
        delay = Math.min(delay * 2, slowestRefreshMs);
        return;
      }
      const { rooms, find } = useChats();
      useView().keepTabs((id) => find(id) !== undefined);
      useOutbox().keepRooms((id) => rooms.has(id));
      const { active } = useView();
      if (active) await useMessages().catchUp(active);
    } while (again && same());
  }

  /** Forgets what was going on for whoever was here. */
  function stop(): void {
    clearTimeout(timer);
    running = undefined;
    again = false;
  }

  return { refresh, stop };
});

// Only what is said now is worth a sign; what is read later has waited already.
function tell(e: RoomEvent): void {
  const chat = useChats().rooms.get(e.roomId);
  if (!chat || e.kind !== "message" || e.text === undefined || e.userId === useSession().me?.userId) return;
  const { active, addTab } = useView();
  const notices = useNotices();
  const name = usePeople().nameOf(e.userId, e.userName);
  const direct = chat.kind === "direct";
  addTab(chat.id);
  notices.said = active === chat.id ? `${name}: ${e.text}` : `New message from ${name}${direct ? "" : ` in ${chat.name}`}`;
  deps().alert?.({ title: direct ? name : `${name} in ${chat.name}`, body: e.text, chatId: chat.id });
  if (direct && chat.state === "joined" && active !== chat.id) notices.toast("info", `${name}: ${e.text}`, chat.id);
}
