// Two people in two browsers, through everything the page is for. They may sit on different gateways.
//
//   CHATR_URL_A, CHATR_URL_B   the page's address for each of them
//   CHATR_RESTART              optional: POST here kills Ada's server and starts it again
//   CHATR_HANG                 optional: POST to freeze and thaw below it has Ada's server hang, and go on
//   CHATR_KEY                  optional: an access key of the hub's REST API
//   VIEWPORT                   desktop or phone
//   CHROMIUM                   the browser, default /usr/bin/chromium

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { after, before, test } from "node:test";
import { OtherClient } from "./clients.mjs";
import { launch, onPhone, Person, until } from "./person.mjs";

const { CHATR_URL_A, CHATR_URL_B = CHATR_URL_A, CHATR_RESTART, CHATR_HANG, CHATR_KEY } = process.env;
const run = Math.random().toString(36).slice(2, 6); // the server may have seen this story before
const river = `Kingfishers ${run}`;
const other = `Quiet corner ${run}`;

let browser, ada, bob;

before(async () => {
  assert.ok(CHATR_URL_A, "CHATR_URL_A is not set");
  browser = await launch();
  ada = await Person.at(browser, CHATR_URL_A, `Ada ${run}`);
  bob = await Person.at(browser, CHATR_URL_B, `Bob ${run}`, { clockOff: 26 * 3_600_000 }); // somebody has set his clock
});

after(() => browser?.close());

// Each chapter needs the one before, so the first that fails ends the story.
let failed = false;
function chapter(title, tell) {
  test(title, async () => {
    assert.ok(!failed, "an earlier chapter failed");
    failed = true;
    try {
      await tell();
    } catch (err) {
      await Promise.allSettled([ada?.picture("failed-ada"), bob?.picture("failed-bob")]);
      throw err;
    }
    failed = false;
  });
}

chapter("a name that cannot be is refused in words", async () => {
  const { page } = ada;
  await page.getByRole("button", { name: "Come in" }).click();
  await ada.sees("Type a name first");
  await page.getByLabel("What should people call you?").fill("x".repeat(65));
  await page.getByRole("button", { name: "Come in" }).click();
  await ada.sees("at most 64 fit");
  await ada.picture("1-sign-in");
});

chapter("both come in and see each other", async () => {
  await ada.signIn();
  await bob.signIn();
  for (const [one, another] of [[ada, bob], [bob, ada]]) {
    await one.goToPeople();
    await another.pressMouseOrFinger(); // coming in may have taken longer than the other takes to be idle
    await one.person(another.name).getByText("Online").waitFor();
    await one.person(one.name).waitFor();
  }
  await ada.picture("2-people");
});

chapter("one creates a chat, the other finds it and joins", async () => {
  await ada.goToChats();
  await ada.page.getByRole("button", { name: "New chat" }).click();
  await ada.page.getByLabel("What is it about?").fill("<b>Kingfishers</b>");
  await ada.page.getByRole("button", { name: "Create", exact: true }).click();
  await ada.page.getByRole("dialog").getByRole("alert").waitFor();
  await ada.page.getByLabel("What is it about?").fill(river); // a refusal leaves nothing behind
  await ada.page.getByRole("button", { name: "Create", exact: true }).click();
  await ada.page.getByLabel(`Message to ${river}`).waitFor();
  await bob.openChat(river);
  await bob.page.getByRole("button", { name: "Join" }).click();
  await bob.page.getByLabel(`Message to ${river}`).waitFor();
  await ada.sees(`${bob.name} joined`);
});

chapter("they talk both ways, and nothing they write is markup", async () => {
  await ada.say("Did you see it dive?");
  await bob.hears("Did you see it dive?");
  await ada.sent("Did you see it dive?");
  await bob.say("<img src=x onerror=alert(1)><b>Twice!</b>");
  await ada.hears("<img src=x onerror=alert(1)><b>Twice!</b>");
  await ada.say("Two lines:\none more");
  await bob.hears("Two lines:\none more");
  await bob.page.getByRole("log").locator("time").last().getByText("now", { exact: true }).waitFor(); // whatever his computer believes
  await ada.picture("3-talk");
});

chapter("who is typing is seen by those who look at the chat, until it is said", async () => {
  const hint = ada.page.getByText(`${bob.name} is typing…`);
  await bob.page.getByLabel(`Message to ${river}`).fill("Hm");
  await hint.waitFor();
  await bob.page.getByLabel(`Message to ${river}`).fill("");
  await hint.waitFor({ state: "detached" });
  await bob.page.getByLabel(`Message to ${river}`).fill("There it is");
  await hint.waitFor();
  await ada.picture("3-typing");
  await bob.page.getByRole("button", { name: "Send" }).click();
  await ada.hears("There it is");
  await hint.waitFor({ state: "detached" });
});

chapter("what was not read is counted, also after a reload, until it is read", async () => {
  const badge = ada.chat(river).locator(".badge");
  const two = { hasText: /^2 unread$/ };
  await ada.createChat(other);
  await bob.say("Are you still there?");
  await bob.say("It is back!");
  await ada.goToChats();
  await badge.filter(two).waitFor();
  if (!onPhone) await ada.page.locator(`[data-tab="${river}"] .badge`).filter(two).waitFor();
  await ada.picture("4-unread");

  const id = await roomId(ada, river);
  const unread = async () => ((chat) => chat.lastSeq - chat.readSeq)(await ada.asks(`/api/chats/${id}`));
  await until("both messages are stored", async () => (await unread()) === 2);
  await ada.page.reload();
  await ada.online();
  await ada.goToChats();
  await badge.filter(two).waitFor();

  await ada.openChat(river);
  await ada.hears("It is back!");
  await badge.waitFor({ state: "detached" });
  await until("the server knows it is read", async () => (await unread()) === 0);
});

chapter("a private chat begins with an invitation", async () => {
  await bob.goToPeople();
  await bob.person(ada.name).click();
  await bob.sees(`Waiting for ${ada.name} to accept`);
  await bob.say("A word in private?");
  await bob.sent("A word in private?");
  await bob.picture("5-pending");

  await ada.goToChats();
  await ada.chat(bob.name).getByText("Wants to chat with you").waitFor();
  await ada.openChat(bob.name);
  await ada.hears("A word in private?");
  await ada.picture("6-invitation");
  await ada.page.getByRole("button", { name: "Accept" }).click();
  await ada.say("Of course.");
  await bob.hears("Of course.");
  await bob.page.getByText(`Waiting for ${ada.name}`).waitFor({ state: "detached" });
});

chapter("a page in the background has the browser tell of messages, and lead to them", async () => {
  await ada.openChat(river);
  await ada.hide();
  await bob.openChat(ada.name);
  await bob.say("Are you away?");
  assert.equal(await ada.notified("Are you away?"), bob.name);
  await bob.openChat(river);
  await bob.say("Anybody else?");
  assert.equal(await ada.notified("Anybody else?"), `${bob.name} in ${river}`);
  await ada.chat(river).locator(".badge").filter({ hasText: /^1 unread$/ }).waitFor({ state: "attached" }); // nobody has seen it
  await ada.clickNotification("Are you away?");
  await ada.hide(false);
  await ada.page.getByRole("region", { name: bob.name, exact: true }).waitFor();
  await ada.hears("Are you away?");
});

chapter("who comes back to the page goes on at the first line that came meanwhile", async () => {
  await ada.openChat(river);
  await ada.hears("Anybody else?");
  await ada.hide();
  for (let n = 1; n <= 30; n++) await bob.say(`Meanwhile ${n}`);
  await ada.chat(river).locator(".badge").filter({ hasText: /^30 unread$/ }).waitFor({ state: "attached" });
  await ada.hide(false);
  const first = ada.line("Meanwhile 1");
  await until("the first of them is in view", () => ada.inView(first));
  assert.equal(await ada.page.getByRole("log").locator(".new + .line .text").innerText(), "Meanwhile 1");
  await ada.page.getByRole("button", { name: /^\d+ new, go to the newest message$/ }).click();
  await ada.hears("Meanwhile 30");
  await ada.chat(river).locator(".badge").waitFor({ state: "detached" });
});

chapter("the chat that was last spoken in is on top, with what was said, also after a reload", async () => {
  await ada.openChat(other);
  await ada.say("Up here");
  await ada.sent("Up here");
  const first = () => ada.page.getByRole("region", { name: "Your chats" }).locator("[data-chat]").first();
  for (const reload of [false, true]) {
    if (reload) {
      await ada.page.reload();
      await ada.online();
    }
    await ada.goToChats();
    await first().and(ada.chat(other)).filter({ hasText: "You: Up here" }).waitFor();
  }
  await bob.say("And now here");
  await first().and(ada.chat(river)).filter({ hasText: `${bob.name}: And now here` }).waitFor();
});

if (CHATR_KEY) chapter("what is edited or deleted elsewhere changes under everybody's eyes", async () => {
  for (const person of [ada, bob]) await person.openChat(river);
  for (const text of ["A wrogn word", "Better not said"]) {
    await bob.say(text);
    await ada.hears(text);
  }
  const id = await roomId(ada, river);
  const { messages } = await ada.asks(`/api/rooms/${id}/messages`);
  const seq = (text) => messages.find((m) => m.text === text).seq;
  const { defaultConversation } = await service("GET", `rooms/${id}`);
  await service("PATCH", `conversations/${defaultConversation}/messages/${seq("A wrogn word")}`, { content: { text: "A wrong word" } });
  await service("DELETE", `conversations/${defaultConversation}/messages/${seq("Better not said")}`);
  for (const person of [ada, bob]) {
    await person.hears("A wrong word");
    await person.page.getByRole("log").locator(".line").filter({ hasText: "A wrong word" }).getByText("edited").waitFor();
    await person.page.getByText("A message was deleted").waitFor();
    assert.equal(await person.line("Better not said").count(), 0);
  }
  await ada.picture("6-edited");
  await service("PUT", `rooms/${id}`, { title: `${river}, renamed` });
  for (const person of [ada, bob]) await person.page.getByLabel(`Message to ${river}, renamed`).waitFor();
  await service("PUT", `rooms/${id}`, { title: river });
  for (const person of [ada, bob]) await person.page.getByLabel(`Message to ${river}`, { exact: true }).waitFor();
  await ada.page.reload();
  await ada.hears("A wrong word");
  await ada.page.getByText("A message was deleted").waitFor();
});

chapter("one blocks the other: neither can write, until it is taken back", async () => {
  await bob.openChat(ada.name);
  await bob.page.getByRole("button", { name: `Block ${ada.name}` }).click();
  await bob.page.getByRole("dialog").getByRole("button", { name: "Block" }).click();
  await bob.sees(`You have blocked ${ada.name}`);
  assert.equal(await bob.page.getByLabel(`Message to ${ada.name}`).count(), 0, "who blocks can still write");
  await ada.openChat(bob.name);
  await ada.say("Can you hear me?");
  await ada.sees("You cannot write in this chat now.");
  await ada.picture("6-blocked");
  await bob.page.getByRole("button", { name: "Unblock" }).click();
  await bob.page.getByLabel(`Message to ${ada.name}`).waitFor();
  assert.equal(await bob.line("Can you hear me?").count(), 0, "what a blocked person writes is heard");
  await ada.page.getByRole("button", { name: "Try again" }).click();
  await bob.hears("Can you hear me?");
  await ada.sent("Can you hear me?");
});

chapter("who does nothing is idle, and who comes back is not", async () => {
  await bob.goToPeople();
  await bob.person(ada.name).getByText("Idle").waitFor();
  await bob.picture("7-idle");
  await ada.pressMouseOrFinger();
  await bob.person(ada.name).getByText("Online").waitFor();
});

chapter("a reload keeps the history, and what was being written", async () => {
  await bob.openChat(river);
  const field = bob.page.getByLabel(`Message to ${river}`);
  await field.fill("Half a thought");
  await bob.page.reload();
  await bob.online();
  await field.waitFor();
  assert.equal(await field.inputValue(), "Half a thought");
  await field.fill("");
  for (const text of ["Did you see it dive?", "<img src=x onerror=alert(1)><b>Twice!</b>", "It is back!"]) await bob.hears(text);
});

chapter("older messages come when one scrolls up, and what is read stays in place", async () => {
  const many = 70; // more than a page of history
  for (let n = 1; n <= many; n++) await bob.say(`Line ${n}`);
  await bob.sent(`Line ${many}`);
  await ada.openChat(river);
  await ada.page.getByRole("button", { name: /^\d+ new, go to the newest message$/ }).click();
  await ada.hears(`Line ${many}`);
  await ada.chat(river).locator(".badge").waitFor({ state: "detached" });
  const id = await roomId(ada, river);
  await until("all of it is stored", async () => (await ada.asks(`/api/chats/${id}/messages?limit=1`)).messages[0].text === `Line ${many}`);
  await ada.page.reload();
  await ada.hears(`Line ${many}`);
  assert.equal(await ada.line("Line 1").count(), 0, "the whole history came at once");

  const log = ada.page.getByRole("log");
  const scrollUp = () => log.evaluate((el) => el.scrollTo({ top: 0 }));
  await scrollUp();
  await ada.line("Line 1").waitFor();
  const fromBottom = () => log.evaluate((el) => Math.round(el.scrollHeight - el.scrollTop - el.clientHeight));
  assert.ok((await fromBottom()) > 500, "loading older messages has moved the view to the newest");

  await bob.say("Somebody up there?");
  await ada.page.getByRole("button", { name: "1 new, go to the newest message" }).click();
  await ada.hears("Somebody up there?");
  await until("the newest message is in view", async () => (await fromBottom()) < 48);
});

chapter("a link leads to a message, and from there to what was said before and after", async () => {
  const id = await roomId(ada, river);
  const { messages } = await ada.asks(`/api/rooms/${id}/messages?around=${(await ada.asks(`/api/rooms/${id}`)).lastSeq - 60}&limit=1`);
  const [{ seq, text }] = messages;
  await ada.page.goto(new URL(`/rooms/${id}/${seq}`, CHATR_URL_A).href);
  await until("the message is in view", () => ada.inView(ada.line(text)));
  await ada.page.getByRole("log").locator(".pointed").getByText(text, { exact: true }).waitFor();
  assert.equal(await ada.line("Somebody up there?").count(), 0, "what was said last came along");
  await bob.say("Far below");
  await ada.page.getByRole("button", { name: /go to the newest message$/ }).filter({ hasText: "1 new" }).click();
  await ada.hears("Far below");
});

chapter("a chat opens at the first line that was not read", async () => {
  for (const reload of [false, true]) {
    const words = (n) => `Not read ${reload ? "yet" : "now"} ${n}`;
    await ada.openChat(other);
    for (let n = 1; n <= 25; n++) await bob.say(words(n));
    await ada.chat(river).locator(".badge").filter({ hasText: /^25 unread$/ }).waitFor({ state: "attached" });
    if (reload) {
      await ada.page.reload();
      await ada.online();
    }
    await ada.openChat(river);
    await until("the first of them is in view", () => ada.inView(ada.line(words(1))));
    assert.equal(await ada.page.getByRole("log").locator(".new + .line .text").innerText(), words(1));
    await ada.page.getByRole("button", { name: /^\d+ new, go to the newest message$/ }).click();
    await until("the last of them is in view", () => ada.inView(ada.line(words(25))));
    await ada.chat(river).locator(".badge").waitFor({ state: "detached" });
  }
});

chapter("one conversation is the same, in the same order, behind all doors", async () => {
  const id = await roomId(ada, river);
  const original = await OtherClient.at(browser, CHATR_URL_A, `Olga ${run}`, "original");
  const official = await OtherClient.at(browser, CHATR_URL_B, `Otto ${run}`, "official");
  for (const client of [original, official]) {
    await client.join(id);
    await ada.sees(`${client.name} joined`);
  }
  const rounds = 12;
  const each = [
    ...[ada, bob].map((person) => async (n) => person.say(`${person.name} says ${n}`)),
    ...[original, official].map((client) => async (n) => client.say(id, `${client.name} says ${n}`)),
  ];
  await Promise.all(each.map(async (say) => {
    for (let n = 1; n <= rounds; n++) await say(n);
  }));
  const said = (texts) => texts.filter((text) => / says \d+$/.test(text));
  const all = rounds * each.length;
  const order = async () => said((await ada.asks(`/api/rooms/${id}/messages?limit=200`)).messages.map((m) => m.text));
  await until("everything is stored", async () => (await order()).length === all);
  const truth = await order();
  const doors = {
    "Ada's page": () => ada.lines(), "Bob's page": () => bob.lines(), "the original client": () => original.heard(id),
    "the official client": () => official.heard(id), "its history": () => official.history(id),
  };
  for (const [door, lines] of Object.entries(doors)) {
    await until(`${door} has heard everything`, async () => said(await lines()).length >= all);
    assert.deepEqual(said(await lines()), truth, door);
  }
  await ada.page.reload();
  await ada.hears(truth.at(-1));
  assert.deepEqual(said(await ada.lines()), truth.slice(-said(await ada.lines()).length), "Ada's page after a reload");
  for (const client of [original, official]) await client.context.close();
});

chapter("a page that is opened into a busy chat has its lines in order at every look", async () => {
  const id = await roomId(ada, river);
  const busy = await OtherClient.at(browser, CHATR_URL_B, `Otis ${run}`, "official");
  await busy.join(id);
  await ada.sees(`${busy.name} joined`);
  const all = 80;
  let said = 0;
  const talking = (async () => {
    for (let n = 1; n <= all; n++, said++) {
      await busy.say(id, `Busy ${n}`);
      await pause(100);
    }
  })();
  for (let opened = 0; said < all; opened++) {
    if (opened % 20 === 0 && said < all / 2) {
      await ada.page.reload();
      await ada.page.getByRole("log").waitFor();
    }
    const shown = (await ada.lines()).flatMap((text) => text.match(/^Busy (\d+)$/)?.slice(1).map(Number) ?? []);
    assert.deepEqual(shown, shown.map((_, i) => shown[0] + i));
  }
  await talking;
  await ada.hears(`Busy ${all}`);
  await ada.chat(river).locator(".badge").waitFor({ state: "detached" });
  await busy.context.close();
});

if (CHATR_HANG) chapter("a server that hangs is noticed, and what was written arrives when it is back", async () => {
  await ada.openChat(river);
  for (const person of [ada, bob]) person.expectCuts();
  await fetch(`${CHATR_HANG}/freeze`, { method: "POST" });
  await ada.sees("Reconnecting");
  await ada.say("Written while it hung");
  await ada.picture("8-frozen");
  await fetch(`${CHATR_HANG}/thaw`, { method: "POST" });
  await ada.online();
  await ada.sent("Written while it hung");
  await bob.hears("Written while it hung");
});

if (CHATR_RESTART) chapter("the server dies in the middle of it, and comes back with everything", async () => {
  await ada.openChat(river);
  await ada.say("Before the storm");
  await ada.sent("Before the storm");
  for (const person of [ada, bob]) person.expectCuts();
  const restarted = fetch(CHATR_RESTART, { method: "POST" });
  await ada.sees("Reconnecting");
  await ada.say("Written in the storm");
  await ada.picture("8-reconnecting");
  assert.equal((await restarted).status, 200);
  for (const person of [ada, bob]) await person.online();
  await ada.sent("Written in the storm");
  await bob.hears("Before the storm");
  await bob.hears("Written in the storm");
  await bob.say("Still here");
  await ada.hears("Still here");
});

if (!onPhone) chapter("everything can be done by keyboard", async () => {
  const { page } = ada;
  await ada.openChat(river);
  await page.keyboard.press("Alt+n");
  await page.getByRole("dialog").waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  await page.keyboard.press("Control+k");
  await page.getByLabel("Find a chat").and(page.locator(":focus")).waitFor();
  await page.keyboard.type(other.toLowerCase());
  await ada.chat(river).waitFor({ state: "detached" });
  await page.keyboard.press("Tab"); // New chat
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.getByLabel(`Message to ${other}`).and(page.locator(":focus")).waitFor();
  await page.keyboard.type("Typed, never clicked");
  await page.keyboard.press("Enter");
  await ada.hears("Typed, never clicked");
  await page.keyboard.press("Alt+ArrowUp");
  await page.getByLabel("Find a chat").fill("");
  await page.keyboard.press("Control+k");
  await page.keyboard.type(river.toLowerCase());
  await page.keyboard.press("Enter");
  await page.getByLabel(`Message to ${river}`).and(page.locator(":focus")).waitFor();
  await page.keyboard.press("Control+k"); // the conversation stays beside it
  await page.getByLabel("Find a chat").and(page.locator(":focus")).waitFor();
  await page.getByLabel(`Message to ${river}`).waitFor();
  await page.keyboard.press("Escape");
  await ada.chat(river).and(page.locator(":focus")).waitFor();
});

if (!onPhone) chapter("no key is lost on a busy machine, and each goes where the ones before have led", async () => {
  const { page } = ada;
  const search = page.getByLabel("Find a chat");
  await ada.openChat(river);
  for (let round = 0; round < 5; round++) {
    await ada.pressAtOnce("Alt+n", "t", "e", "a"); // a dialog takes what is typed as soon as it is asked for
    assert.equal(await page.getByLabel("What is it about?").inputValue(), "tea");
    await ada.pressAtOnce("Escape", "Control+k", "q", "u");
    assert.equal(await search.inputValue(), "qu", "a shortcut right after a dialog was closed");
    await ada.pressAtOnce("Escape", "Alt+n", "Escape", "Alt+n", "Escape", "Control+k", "x");
    assert.equal(await page.getByRole("dialog").count(), 0);
    assert.equal(await search.inputValue(), "x", "a dialog closed twice in a row");
    await search.press("Escape");
    await ada.chat(river).and(page.locator(":focus")).waitFor();
  }
});

chapter("a browser that forbids to keep anything still has a chat", async () => {
  const forbid = () => {
    for (const name of ["localStorage", "sessionStorage", "indexedDB"]) {
      Object.defineProperty(window, name, { get() { throw new DOMException("denied", "SecurityError"); } });
    }
    delete window.Notification;
  };
  const eve = await Person.at(browser, CHATR_URL_A, `Eve ${run}`, { before: forbid });
  await eve.signIn();
  await eve.createChat(`Nothing kept ${run}`);
  await eve.say("Hello");
  await eve.sent("Hello");
  assert.deepEqual(eve.faults, []);
  await eve.context.close();
});

chapter("one leaves, and can come back", async () => {
  await bob.openChat(river);
  await ada.openChat(river);
  await bob.page.getByRole("button", { name: "Leave the chat" }).click();
  await bob.page.getByRole("dialog").getByRole("button", { name: "Leave" }).click();
  await ada.sees(`${bob.name} left`);
  await bob.goToChats();
  await bob.page.getByRole("region", { name: "Open to everyone" }).locator(`[data-chat="${river}"]`).waitFor();
});

chapter("the owner deletes the chat for everybody", async () => {
  await ada.page.getByRole("button", { name: "Delete the chat" }).click();
  await ada.page.getByRole("button", { name: "Delete for everyone" }).click();
  await ada.goToChats();
  for (const person of [ada, bob]) await person.chat(river).waitFor({ state: "detached" });
});

chapter("who signs out is gone", async () => {
  await ada.page.getByRole("button", { name: "You and your settings" }).click();
  await ada.page.getByRole("button", { name: "Sign out" }).click();
  await ada.page.getByLabel("What should people call you?").waitFor();
  await bob.goToPeople();
  await bob.person(ada.name).waitFor({ state: "detached" });
});

test("nothing happened behind anybody's back", () => {
  assert.deepEqual({ ada: ada.faults, bob: bob.faults }, { ada: [], bob: [] });
});

/** Calls the chat's REST API as an application does. */
async function service(method, path, body) {
  const url = new URL(`/api/hubs/chat/chat/${path}`, CHATR_URL_A);
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const token = `${encode({ alg: "HS256", typ: "JWT" })}.${encode({ aud: url.href, exp: Math.floor(Date.now() / 1000) + 600 })}`;
  const signature = createHmac("sha256", CHATR_KEY).update(token).digest("base64url");
  const answer = await fetch(url, {
    method, body: body && JSON.stringify(body),
    headers: { Authorization: `Bearer ${token}.${signature}`, "Content-Type": method === "PATCH" ? "application/merge-patch+json" : "application/json" },
  });
  assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${await answer.clone().text()}`);
  return answer.status === 204 ? undefined : answer.json();
}

async function roomId(person, name) {
  const { chats } = await person.asks("/api/chats");
  return Object.values(chats).find((c) => c.name === name).id;
}
