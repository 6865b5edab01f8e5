// What is open: the room in view, and the tabs beside it. The address says what is in view; see router.ts.

import { defineStore } from "pinia";
import { ref } from "vue";
import { deps } from "../deps";
import { useNotices } from "./notices";
import { useSession } from "./session";

export type Place = { pane: "chats" } | { pane: "people" } | { pane: "chat"; chatId: string; seq?: number };

export const useView = defineStore("view", () => {
  const place = ref<Place>({ pane: "chats" });
  const active = ref<string | null>(null);
  const tabs = ref<string[]>([]);
  let navigate: (to: Place, how: "push" | "replace") => void = (to) => shown(to);

  /** Goes somewhere by the address. */
  function go(to: Place, how: "push" | "replace" = "push"): void {
    navigate(to, how);
  }

  /** Opens a room. */
  function open(chatId: string): void {
    if (active.value !== chatId) go({ pane: "chat", chatId });
  }

  /** Takes what the address says now. */
  function shown(to: Place): void {
    place.value = to;
    active.value = to.pane === "chat" ? to.chatId : null;
    if (active.value) useNotices().dismissOf(active.value);
  }

  /** Has the address follow; without it places are only shown. */
  function follow(by: typeof navigate): void {
    navigate = by;
  }

  function addTab(chatId: string): void {
    if (tabs.value.includes(chatId)) return;
    tabs.value.push(chatId);
    save();
  }

  /** Closes a tab; the chat stays in the list, and a neighbour comes into view. */
  function closeTab(chatId: string): void {
    const at = tabs.value.indexOf(chatId);
    tabs.value = tabs.value.filter((id) => id !== chatId);
    save();
    if (active.value !== chatId) return;
    const next = at >= 0 ? tabs.value[Math.min(at, tabs.value.length - 1)] : undefined;
    go(next ? { pane: "chat", chatId: next } : { pane: "chats" }, "replace");
  }

  function keepTabs(isThere: (chatId: string) => boolean): void {
    tabs.value = tabs.value.filter(isThere);
  }

  /** Brings back the tabs of the person who is here. */
  function restore(): void {
    try {
      const saved: unknown = JSON.parse(deps().storage?.getItem(key()) ?? "[]");
      tabs.value = Array.isArray(saved) ? saved.filter((id) => typeof id === "string") : [];
    } catch {
      tabs.value = [];
    }
  }

  function save(): void {
    try {
      deps().storage?.setItem(key(), JSON.stringify(tabs.value));
    } catch {
      // Full or forbidden: the tabs are forgotten with the page.
    }
  }

  function key(): string {
    return `chatr.tabs.${useSession().me?.userId}`;
  }

  function clear(): void {
    tabs.value = [];
  }

  return { place, active, tabs, go, open, shown, follow, addTab, closeTab, keepTabs, restore, clear };
});
