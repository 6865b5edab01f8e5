import vue from "@vitejs/plugin-vue";
import { defineConfig } from "vitest/config";

// A running `chatr standalone`, for `npm run dev`.
const server = process.env.CHATR_URL ?? "http://127.0.0.1:8080";

export default defineConfig({
  plugins: [vue()],
  build: {
    target: "es2022",
    assetsInlineLimit: 0, // the content policy allows no data: addresses
    modulePreload: { polyfill: false },
  },
  server: {
    proxy: {
      "/api": server,
      "/.auth": server,
      "/client": { target: server, ws: true },
    },
  },
  test: {
    include: ["src/**/*.test.ts"],
    environment: "node",
    testTimeout: 60_000, // ends a test that hangs; no result may depend on it
    hookTimeout: 60_000,
  },
});
