// What the address says is shown, so that Back works on a phone and a chat has a link: #/chats, #/people, #/chat/{id}.

import { ref } from "vue";

export type Route = { pane: "chats" } | { pane: "people" } | { pane: "chat"; chatId: string };

export const route = ref<Route>(parse(location.hash));

window.addEventListener("hashchange", () => (route.value = parse(location.hash)));

export function goTo(to: Route, how: "push" | "replace" = "push"): void {
  const hash = format(to);
  if (location.hash === hash) return;
  if (how === "push") history.pushState(null, "", hash);
  else history.replaceState(null, "", hash);
  route.value = to;
}

function parse(hash: string): Route {
  const [, pane, id] = hash.split("/");
  if (pane === "people") return { pane };
  if (pane === "chat" && id) {
    try {
      return { pane, chatId: decodeURIComponent(id) };
    } catch {
      return { pane: "chats" };
    }
  }
  return { pane: "chats" };
}

function format(to: Route): string {
  return to.pane === "chat" ? `#/chat/${encodeURIComponent(to.chatId)}` : `#/${to.pane}`;
}
