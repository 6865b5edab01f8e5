// Who is here, and what the server allows.

import { defineStore } from "pinia";
import { ref } from "vue";
import type { Config, Me } from "../api";
import { deps } from "../deps";
import { listener, useSync } from "../sync";
import { useChats } from "./chats";
import { useDrafts } from "./drafts";
import { useLink } from "./link";
import { useMessages } from "./messages";
import { useOutbox } from "./outbox";
import { usePeople } from "./people";
import { useTyping } from "./typing";
import { useView } from "./view";

export const useSession = defineStore("session", () => {
  const phase = ref<"starting" | "unreachable" | "signedOut" | "signedIn">("starting");
  const because = ref(""); // why somebody has to sign in again
  const config = ref<Config | null>(null);
  const me = ref<Me | null>(null);

  /** Finds out who is here. */
  async function start(): Promise<void> {
    phase.value = "starting";
    try {
      const [settings, who] = await Promise.all([deps().api.config(), deps().api.me()]);
      config.value = settings;
      if (who) enter(who);
      else phase.value = "signedOut";
    } catch {
      phase.value = "unreachable";
    }
  }

  /** Signs in; throws an ApiError with a text for people. */
  async function signIn(name: string): Promise<void> {
    enter(await deps().api.signInAsGuest(name));
  }

  function enter(who: Me): void {
    me.value = who;
    phase.value = "signedIn";
    because.value = "";
    usePeople().call(who.userId, who.userName);
    useView().restore();
    useDrafts().restore();
    void useOutbox().restore();
    useLink().open(listener);
  }

  /** The server does not know us any more. */
  function end(): void {
    useLink().close();
    useSync().stop();
    useLink().forget();
    useView().clear(); // before the chats, whose tabs would be closed
    useChats().clear();
    useMessages().clear();
    usePeople().clear();
    useTyping().clear();
    useOutbox().forget();
    me.value = null;
    phase.value = "signedOut";
    because.value = "Your session has ended. Sign in again to go on.";
  }

  /** Ends the live connection, and leaves nothing of what was written behind. */
  function signOut(): void {
    useLink().close();
    useOutbox().clear();
    useDrafts().clear();
  }

  return { phase, because, config, me, start, signIn, end, signOut };
});
