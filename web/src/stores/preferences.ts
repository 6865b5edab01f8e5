// How somebody wants the page to look, on this browser.

import { defineStore } from "pinia";
import { ref, watch } from "vue";
import { deps } from "../deps";

export type Theme = "auto" | "light" | "dark";

const key = "chatr.theme";

export const usePreferences = defineStore("preferences", () => {
  const theme = ref<Theme>(saved());

  watch(theme, (now) => {
    apply();
    try {
      deps().storage?.setItem(key, now);
    } catch {
      // Full or forbidden: not remembered, but in effect.
    }
  });

  function apply(): void {
    if (theme.value === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme.value;
  }

  return { theme, apply };
});

function saved(): Theme {
  try {
    const was = deps().storage?.getItem(key);
    return was === "light" || was === "dark" ? was : "auto";
  } catch {
    return "auto";
  }
}
