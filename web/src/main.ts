import { createApp } from "vue";
import App from "./App.vue";
import { api } from "./api";
import { openConnection } from "./connection";
import { notify } from "./notify";
import { goTo } from "./route";
import { storage } from "./storage";
import { Store } from "./store";
import { savedTheme, setTheme } from "./theme";
import { storeKey } from "./use";
import "./styles/base.css";

setTheme(savedTheme());

const store = new Store({
  api,
  openLink: openConnection,
  storage: storage(() => localStorage),
  tabStorage: storage(() => sessionStorage),
  alert: (alert) => notify(alert, () => goTo({ pane: "chat", chatId: alert.chatId })),
});

createApp(App).provide(storeKey, store).mount("#app");
void store.start();
