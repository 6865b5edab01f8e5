import { beforeEach, expect, it } from "vitest";
import { createMemoryHistory } from "vue-router";
import { followAddress, fromHash, makeRouter, routeOf } from "../router";
import { World } from "../test/world";
import { useView } from "./view";

let world: World;
beforeEach(() => (world = new World()));

it("has an address for everything in view, and shows what an address says", async () => {
  const router = makeRouter(createMemoryHistory());
  followAddress(router);
  const view = useView();
  view.go({ pane: "chat", chatId: "private_x", seq: 7 });
  await router.isReady();
  expect([router.currentRoute.value.fullPath, view.active, view.place]).toEqual(["/rooms/private_x/7", "private_x", { pane: "chat", chatId: "private_x", seq: 7 }]);
  await router.push("/people");
  expect([view.active, view.place]).toEqual([null, { pane: "people" }]);
  await router.push("/rooms/a%20b");
  expect(view.active).toBe("a b");
  await router.push("/no/such/place");
  expect([router.currentRoute.value.fullPath, view.place]).toEqual(["/", { pane: "chats" }]);
  await router.push(routeOf({ pane: "chat", chatId: "x/y" }));
  expect([router.currentRoute.value.fullPath, view.active]).toEqual(["/rooms/x%2Fy", "x/y"]);
});

it("leads addresses of the version before to where they led", () => {
  expect([fromHash("#/chat/a%20b"), fromHash("#/people"), fromHash("#/chat/%"), fromHash("#/"), fromHash("")]).toEqual([
    { pane: "chat", chatId: "a b" }, { pane: "people" }, undefined, undefined, undefined,
  ]);
});

it("closes a tab, and shows its neighbour", () => {
  const view = useView();
  for (const id of ["a", "b", "c"]) view.addTab(id);
  view.open("b");
  view.closeTab("a");
  expect([view.tabs, view.active]).toEqual([["b", "c"], "b"]);
  view.closeTab("b");
  expect(view.active).toBe("c");
  view.closeTab("c");
  expect([view.tabs, view.place]).toEqual([[], { pane: "chats" }]);
});

it("remembers the open tabs, and begins anew when they cannot be read", () => {
  useView().addTab("a");
  world.fresh();
  useView().restore();
  expect(useView().tabs).toEqual(["a"]);
  for (const k of world.saved.keys()) world.saved.set(k, "{");
  world.fresh();
  useView().restore();
  expect(useView().tabs).toEqual([]);
});
