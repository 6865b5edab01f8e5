// Addresses: what is in view has one, so that Back works on a phone, and a room and a message have a link.
//
//   /              the chats              /rooms/{id}         a room
//   /people        who is around          /rooms/{id}/{seq}   a message in it

import { createRouter, type RouteLocationNormalized, type RouteLocationRaw, type Router, type RouterHistory } from "vue-router";
import { useView, type Place } from "./stores/view";

const nothing = { render: () => null };

export function makeRouter(history: RouterHistory): Router {
  const router = createRouter({
    history,
    routes: [
      { path: "/", name: "chats", component: nothing },
      { path: "/people", name: "people", component: nothing },
      { path: "/rooms/:id/:seq(\\d{1,15})?", name: "room", component: nothing },
      { path: "/:rest(.*)*", redirect: "/" },
    ],
  });
  router.afterEach((to) => useView().shown(placeOf(to)));
  return router;
}

/** Has the address follow the view, and the view the address. */
export function followAddress(router: Router): void {
  useView().follow((to, how) => void router[how](routeOf(to)));
}

/** The address of a place. */
export function routeOf(to: Place): RouteLocationRaw {
  if (to.pane !== "chat") return { name: to.pane };
  return { name: "room", params: { id: to.chatId, seq: to.seq ? String(to.seq) : "" } };
}

/** Where an address of the version before leads, which had everything behind a #. */
export function fromHash(hash: string): Place | undefined {
  const [, pane, id] = hash.split("/");
  if (pane === "people") return { pane };
  if (pane !== "chat" || !id) return undefined;
  try {
    return { pane, chatId: decodeURIComponent(id) };
  } catch {
    return undefined;
  }
}

function placeOf(to: RouteLocationNormalized): Place {
  if (to.name === "people") return { pane: "people" };
  if (to.name !== "room") return { pane: "chats" };
  const { id, seq } = to.params;
  return { pane: "chat", chatId: String(id), seq: seq ? Number(seq) : undefined };
}
