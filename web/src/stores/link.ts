// The live connection, as far as the rest of the page has to know of it.

import { defineStore } from "pinia";
import { computed, ref } from "vue";
import { Lost, type Link, type LinkState, type Listener } from "../connection";
import { deps } from "../deps";

export const useLink = defineStore("link", () => {
  const state = ref<LinkState>("connecting");
  const offline = ref(false); // the browser has no network
  let link: Link | undefined;
  let idle = false;
  let toldIdle = false; // what the server knows of it

  /** Whether what is sent now can get there, as far as we know. */
  const connected = computed(() => state.value === "online" && !offline.value);

  /** Opens a connection. The listener is told of states after they hold here. */
  function open(listener: Listener): void {
    const { api, openLink } = deps();
    state.value = "connecting";
    const opened: Link = openLink(() => api.negotiate(), {
      ...listener,
      state(s) {
        if (link !== opened) return; // somebody else's by now
        state.value = s;
        if (s === "online" && (idle || toldIdle)) void tellIdle(); // a new connection starts out in use, a recovered one as it was
        listener.state(s);
      },
      event: (e) => link === opened && listener.event(e),
      typing: (...news) => link === opened && listener.typing(...news),
      server: (name, data) => link === opened && listener.server(name, data),
      ended: () => link === opened && listener.ended(),
    });
    link = opened;
    link.start();
  }

  /** Ends the connection for good. */
  function close(): void {
    link?.stop();
  }

  function forget(): void {
    link = undefined;
    toldIdle = false;
    state.value = "connecting";
  }

  /** Whether the answer to what was asked before belongs to who is here now. */
  function same(): () => boolean {
    const now = link;
    return () => link === now;
  }

  /** Has the server do something, and throws a text for people if it does not. */
  async function event(name: string, data: string | Record<string, string | number | boolean>, dataType: "json" | "text"): Promise<void> {
    await live().sendEvent(name, data, dataType);
  }

  /** Has the server do something that has an answer. */
  async function invoke(name: string, data: Record<string, string>): Promise<unknown> {
    return live().invoke(name, data);
  }

  /** Says something to a group, if it can be heard now. */
  function whisper(group: string, data: Record<string, boolean>): void {
    if (connected.value) link?.whisper(group, data);
  }

  function live(): Link {
    if (!link || !connected.value) throw new Lost("Not connected right now. Try again in a moment.");
    return link;
  }

  /** Says whether the person is at this page. */
  function setIdle(now: boolean): void {
    idle = now;
    void tellIdle();
  }

  async function tellIdle(): Promise<void> {
    const telling = idle;
    try {
      await event(telling ? "userEnterIdle" : "userExitIdle", "", "text");
      toldIdle = telling;
    } catch {
      // Told again when the connection is back.
    }
  }

  return { state, offline, connected, open, close, forget, same, event, invoke, whisper, setIdle };
});
