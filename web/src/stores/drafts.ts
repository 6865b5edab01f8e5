// What is being written in each room. It is kept with the tab: a reload loses nothing, two tabs do not get in each other's
// way, and nothing is left behind on a shared computer once the tab is closed.

import { defineStore } from "pinia";
import { deps } from "../deps";
import { useSession } from "./session";

export const useDrafts = defineStore("drafts", () => {
  let drafts = new Map<string, string>();

  function of(chatId: string): string {
    return drafts.get(chatId) ?? "";
  }

  function set(chatId: string, text: string): void {
    if (text) drafts.set(chatId, text);
    else drafts.delete(chatId);
    save();
  }

  function restore(): void {
    try {
      drafts = new Map(JSON.parse(deps().tabStorage?.getItem(key()) ?? "[]") as [string, string][]);
    } catch {
      drafts = new Map(); // forbidden, or not ours
    }
  }

  function clear(): void {
    drafts.clear();
    save();
  }

  function save(): void {
    try {
      deps().tabStorage?.setItem(key(), JSON.stringify([...drafts]));
    } catch {
      // Full or forbidden: it goes with the page.
    }
  }

  function key(): string {
    return `chatr.drafts.${useSession().me?.userId}`;
  }

  return { of, set, restore, clear };
});
