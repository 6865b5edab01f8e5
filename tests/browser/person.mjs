// A person in a browser of their own: what they can do on the page, and what must never happen to it.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { chromium } from "playwright-core";

const viewports = {
  desktop: { viewport: { width: 1280, height: 800 } },
  phone: { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true },
};
const size = process.env.VIEWPORT ?? "desktop";
const results = process.env.RESULTS ?? "../../test-results/browser";

export const onPhone = size === "phone";

// Nothing but the pages under test may be asked for anything.
const browserArguments = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
  "--disable-sync",
];

export function launch() {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: browserArguments });
}

export class Person {
  /** What went wrong behind this person's back. */
  faults = [];
  #expectsCuts = false;
  #cdp;

  /**
   * Opens the page at the given address in a new browser context. before runs in the page ahead of everything else, and
   * clockOff is by how many ms the computer's clock is wrong.
   */
  static async at(browser, url, name, { before, clockOff = 0 } = {}) {
    const context = await browser.newContext(viewports[size]);
    context.setDefaultTimeout(60_000);
    await context.grantPermissions(["notifications"]);
    const page = await context.newPage();
    const person = new Person(context, page, url, name);
    await person.#watch();
    if (clockOff) await page.addInitScript((ms) => {
      const right = Date.now;
      Date.now = () => right() + ms;
    }, clockOff);
    if (before) await page.addInitScript(before);
    await page.goto(url);
    return person;
  }

  constructor(context, page, url, name) {
    Object.assign(this, { context, page, url, name });
  }

  async #watch() {
    const home = new URL(this.url);
    await this.page.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", (e) => console.error(`content policy: ${e.violatedDirective} ${e.blockedURI}`));
      // No page of a headless browser is ever hidden, so a test says when this one is. Notifications are the browser's own.
      let hidden = false;
      Object.defineProperty(document, "hidden", { get: () => hidden });
      window.setHidden = (value) => {
        hidden = value;
        document.dispatchEvent(new Event("visibilitychange"));
      };
      window.shown = [];
      window.Notification = class extends Notification {
        constructor(...args) {
          super(...args);
          this.addEventListener("show", () => window.shown.push(this));
        }
      };
    });
    this.page.on("pageerror", (err) => this.faults.push(`error: ${err.stack ?? err}`));
    this.page.on("console", (message) => {
      if (message.type() !== "error") return;
      // While the server is away the browser says so on the console, whatever a page does about it.
      const isCut = /net::ERR_|WebSocket connection to|status of 50[234]/.test(message.text());
      if (!(this.#expectsCuts && isCut)) this.faults.push(`console: ${message.text()} ${message.location().url}`);
    });
    const foreign = (url) => new URL(url).host !== home.host && this.faults.push(`request to another origin: ${url}`);
    this.page.on("request", (request) => foreign(request.url()));
    this.page.on("websocket", (socket) => foreign(socket.url()));
  }

  /** From now on the server may be away. */
  expectCuts() {
    this.#expectsCuts = true;
  }

  async signIn() {
    await this.page.getByLabel("What should people call you?").fill(this.name);
    await this.page.getByRole("button", { name: "Come in" }).click();
    await this.online();
  }

  async online() {
    await this.page.locator('[data-link="online"]').waitFor({ state: "attached" });
  }

  /** The lists; on a phone they are a pane of their own. */
  async goToChats() {
    if (!onPhone) return;
    // A page that has just been opened goes on to the chat of its address as soon as it knows it.
    await this.page.getByLabel("Loading chats").waitFor({ state: "detached" });
    const back = this.page.getByRole("button", { name: /^Back to the chats/ });
    const section = this.page.getByRole("navigation", { name: "Sections" }).getByRole("button", { name: /^Chats/ });
    await back.or(section).filter({ visible: true }).first().waitFor();
    if (await back.isVisible()) await back.click();
    await section.click();
  }

  async goToPeople() {
    if (!onPhone) return;
    await this.goToChats();
    await this.page.getByRole("navigation", { name: "Sections" }).getByRole("button", { name: /^People/ }).click();
  }

  chat(name) {
    return this.page.locator(`[data-chat="${name}"]`);
  }

  person(name) {
    return this.page.locator(`[data-person="${name}"]`);
  }

  async openChat(name) {
    await this.goToChats();
    await this.chat(name).click();
    await this.page.getByRole("region", { name, exact: true }).waitFor();
  }

  async createChat(name) {
    await this.goToChats();
    await this.page.getByRole("button", { name: "New chat" }).click();
    await this.page.getByLabel("What is it about?").fill(name);
    await this.page.getByRole("button", { name: "Create", exact: true }).click();
    await this.page.getByLabel(`Message to ${name}`).waitFor();
  }

  async say(text) {
    await this.page.getByLabel(/^Message to /).fill(text);
    await this.page.getByRole("button", { name: "Send" }).click();
  }

  line(text) {
    return this.page.getByRole("log").locator(".text").getByText(text, { exact: true });
  }

  /** What stands in the conversation, from top to bottom. */
  lines() {
    return this.page.getByRole("log").locator(".text").allInnerTexts();
  }

  /** Whether something is within what can be seen of the conversation. */
  async inView(locator) {
    const [box, frame] = await Promise.all([locator.boundingBox(), this.page.getByRole("log").boundingBox()]);
    return box !== null && frame !== null && box.y >= frame.y && box.y + box.height <= frame.y + frame.height;
  }

  /** Waits until the text stands there, once. */
  async hears(text) {
    await this.line(text).first().waitFor();
    assert.equal(await this.line(text).count(), 1, `${this.name} sees ${JSON.stringify(text)} more than once`);
  }

  async sees(text) {
    await this.page.getByText(text).first().waitFor();
  }

  async sent(text) {
    await this.page.locator('.text[data-state="sent"]').getByText(text, { exact: true }).waitFor();
  }

  /** Puts the page into the background, or back. */
  async hide(hidden = true) {
    await this.page.evaluate((value) => window.setHidden(value), hidden);
  }

  /** Waits until the browser has shown a notification with the given text, and returns its title. */
  async notified(body) {
    const shown = await this.page.waitForFunction((text) => window.shown.find((n) => n.body === text), body);
    return shown.evaluate((n) => n.title);
  }

  async clickNotification(body) {
    await this.page.evaluate((text) => window.shown.find((n) => n.body === text).dispatchEvent(new Event("click")), body);
  }

  async picture(name) {
    mkdirSync(results, { recursive: true });
    await this.page.screenshot({ path: `${results}/${size}-${name}.png` });
  }

  async asks(path) {
    return (await this.context.request.get(new URL(path, this.url).href)).json();
  }

  /**
   * Presses keys ("Escape", "Control+k", "x") one after the other while the page is busy, so that it finds all of them waiting
   * and has nothing else to do in between.
   */
  async pressAtOnce(...keys) {
    this.#cdp ??= await this.context.newCDPSession(this.page);
    await this.page.evaluate(() => setTimeout(() => {
      for (const end = performance.now() + 300; performance.now() < end;);
    }));
    await Promise.all(keys.flatMap(keyEvents).map((event) => this.#cdp.send("Input.dispatchKeyEvent", event)));
  }

  async pressMouseOrFinger() {
    if (onPhone) await this.page.touchscreen.tap(5, 5);
    else await this.page.mouse.move(Math.random() * 100, 5);
  }
}

const modifierBits = { Alt: 1, Control: 2 };

function keyEvents(combo) {
  const [key, modifier] = combo.split("+").reverse();
  const letter = key.length === 1;
  const code = { key, code: letter ? `Key${key.toUpperCase()}` : key, windowsVirtualKeyCode: letter ? key.toUpperCase().charCodeAt(0) : 27 };
  const modifiers = modifierBits[modifier] ?? 0;
  const text = letter && !modifiers ? key : undefined;
  return [{ type: text ? "keyDown" : "rawKeyDown", text, modifiers, ...code }, { type: "keyUp", modifiers, ...code }];
}

/** Waits until a question to the outside of the page is answered with yes. */
export async function until(what, question) {
  for (const end = Date.now() + 60_000; Date.now() < end; await new Promise((resolve) => setTimeout(resolve, 100))) {
    if (await question()) return;
  }
  assert.fail(`not within a minute: ${what}`);
}
