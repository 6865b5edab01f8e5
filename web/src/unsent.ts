// What somebody has written and the server does not have yet: drafts, and messages that wait for a connection.
//
// It is kept with the tab: a reload loses nothing, two tabs do not get in each other's way, and nothing is left behind on
// a shared computer once the tab is closed.

import type { Kept } from "./storage";

export interface Waiting {
  chatId: string;
  key: string; // a message that the server has got after all is the same one by its key
  text: string;
  at: number;
}

export class Unsent {
  readonly #storage: Kept | undefined;
  readonly #name: string;
  #drafts = new Map<string, string>();
  #waiting: Waiting[] = [];

  /** What is kept for a user. Without a storage it is kept as long as the page. */
  constructor(storage: Kept | undefined, userId: string) {
    this.#storage = storage;
    this.#name = `chatr.unsent.${userId}`;
    try {
      const kept = JSON.parse(storage?.getItem(this.#name) ?? "{}") as { drafts?: [string, string][]; waiting?: Waiting[] };
      this.#drafts = new Map(kept.drafts ?? []);
      this.#waiting = kept.waiting ?? [];
    } catch {
      // Forbidden, or not ours: there is nothing.
    }
  }

  draft(chatId: string): string {
    return this.#drafts.get(chatId) ?? "";
  }

  setDraft(chatId: string, text: string): void {
    if (text) this.#drafts.set(chatId, text);
    else this.#drafts.delete(chatId);
    this.#save();
  }

  get waiting(): readonly Waiting[] {
    return this.#waiting;
  }

  set waiting(waiting: Waiting[]) {
    if (waiting.length === 0 && this.#waiting.length === 0) return;
    this.#waiting = waiting;
    this.#save();
  }

  clear(): void {
    this.#drafts.clear();
    this.#waiting = [];
    this.#save();
  }

  #save(): void {
    try {
      this.#storage?.setItem(this.#name, JSON.stringify({ drafts: [...this.#drafts], waiting: this.#waiting }));
    } catch {
      // Full or forbidden: it goes with the page.
    }
  }
}
