// What people are told beside the conversation.

import { defineStore } from "pinia";
import { ref } from "vue";

export interface Toast {
  id: number;
  tone: "info" | "error";
  text: string;
  chatId?: string; // where it leads
}

const toastMs = 6000;
const mostToasts = 3;

/** What to tell people about an error. */
export function textOf(err: unknown): string {
  return err instanceof Error && err.message ? sentence(err.message) : "That did not work. Try again in a moment.";
}

// The server says things as its programs do, without a capital and a full stop.
function sentence(text: string): string {
  const begun = text.charAt(0).toLocaleUpperCase() + text.slice(1);
  return /[.!?…]$/.test(begun) ? begun : `${begun}.`;
}

export const useNotices = defineStore("notices", () => {
  const toasts = ref<Toast[]>([]);
  const said = ref(""); // for screen readers
  let ids = 0;

  function toast(tone: Toast["tone"], text: string, chatId?: string): void {
    const id = ++ids;
    toasts.value = [...toasts.value, { id, tone, text, chatId }].slice(-mostToasts);
    setTimeout(() => dismiss(id), toastMs);
  }

  function dismiss(id: number): void {
    toasts.value = toasts.value.filter((t) => t.id !== id);
  }

  function dismissOf(chatId: string): void {
    toasts.value = toasts.value.filter((t) => t.chatId !== chatId);
  }

  /** Runs something people asked for; why it failed is told in a toast. */
  async function attempt(action: () => Promise<void>): Promise<boolean> {
    try {
      await action();
      return true;
    } catch (err) {
      toast("error", textOf(err));
      return false;
    }
  }

  return { toasts, said, toast, dismiss, dismissOf, attempt };
});
