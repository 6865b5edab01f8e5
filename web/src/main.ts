import { createPinia } from "pinia";
import { createApp } from "vue";
import { createWebHistory } from "vue-router";
import App from "./App.vue";
import { api } from "./api";
import { clock } from "./clock";
import { openConnection } from "./connection";
import { provideDeps } from "./deps";
import { notify } from "./notify";
import { followAddress, fromHash, makeRouter, routeOf } from "./router";
import { allowed } from "./storage";
import { usePreferences } from "./stores/preferences";
import { useSession } from "./stores/session";
import { useView } from "./stores/view";
import "./styles/base.css";

provideDeps({
  api,
  openLink: openConnection,
  clock,
  storage: allowed(() => localStorage),
  tabStorage: allowed(() => sessionStorage),
  database: allowed(() => indexedDB),
  alert: (alert) => notify(alert, () => useView().go({ pane: "chat", chatId: alert.chatId })),
});

const app = createApp(App).use(createPinia());
usePreferences().apply();
const router = makeRouter(createWebHistory());
followAddress(router);
app.use(router);
const from = fromHash(location.hash);
if (from) void router.replace(routeOf(from));
void router.isReady().then(() => app.mount("#app"));
void useSession().start();
