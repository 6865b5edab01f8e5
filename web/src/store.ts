// What the page knows, and everything that changes it. Views draw the state and call the methods.
//
// Lists come from the API whenever the connection is (again) there; in between the server's messages keep them right.
// While the lists are on their way, messages wait, so that no older answer overwrites newer news.

import { reactive } from "vue";
import { ApiError, type Api, type ChatKind, type Config, type Me, type MemberState, type WireChat } from "./api";
import { isRecord, Lost, parseRecord, Refused, type Link, type LinkState, type OpenLink } from "./connection";
import type { Kept } from "./storage";
import { Timeline, type MessageLine } from "./timeline";
import { Unsent } from "./unsent";
import { uuid } from "./uuid";

export interface Person {
  userId: string;
  userName: string;
  idle: boolean;
}

export interface Member {
  userId: string;
  userName: string;
  state: MemberState;
}

export interface Chat {
  id: string;
  name: string;
  owner: string;
  kind: ChatKind;
  members: Map<string, Member>;
  state: MemberState | "none"; // our own membership
  lastSeq: number; // counts on with live messages
  readSeq: number;
  at: number; // when something last happened here, for the order of the list; 0: not since we came
}

export interface Toast {
  id: number;
  tone: "info" | "error";
  text: string;
  chatId?: string; // where it leads
}

/** Something worth a look for somebody whose page is hidden. */
export interface Alert {
  title: string;
  body: string;
  chatId: string;
}

export interface State {
  phase: "starting" | "unreachable" | "signedOut" | "signedIn";
  signedOutBecause: string;
  config: Config | null;
  me: Me | null;
  link: LinkState;
  offline: boolean; // the browser has no network
  loaded: boolean; // the lists have been read at least once
  stale: boolean; // the lists could not be read again
  chats: Map<string, Chat>;
  people: Map<string, Person>; // online
  blocked: Set<string>;
  timelines: Map<string, Timeline>;
  tabs: string[];
  active: string | null;
  newFrom: number; // first unread sequence of the active chat when it was opened; 0: none
  toasts: Toast[];
  said: string; // for screen readers
}

export interface Options {
  api: Api;
  openLink: OpenLink;
  /** Remembers open tabs; may lack. */
  storage?: Kept;
  /** Keeps what is unsent as long as the tab; may lack. */
  tabStorage?: Kept;
  alert?: (alert: Alert) => void;
}

const pageSize = 50;
const readAfterMs = 1000; // a message is stored a moment after it was delivered
const readAgainAfterMs = 10_000; // or a long moment, and what is not stored cannot be marked as read
const toastMs = 6000;
const mostToasts = 3;
const slowestRefreshMs = 30_000;
const lookAgainMs = [2000, 15_000]; // after a connection; the second is for services that have just come back themselves

export class Store {
  readonly state = reactive<State>({
    phase: "starting",
    signedOutBecause: "",
    config: null,
    me: null,
    link: "connecting",
    offline: false,
    loaded: false,
    stale: false,
    chats: new Map(),
    people: new Map(),
    blocked: new Set(),
    timelines: new Map(),
    tabs: [],
    active: null,
    newFrom: 0,
    toasts: [],
    said: "",
  }) as State;

  readonly #options: Options;
  readonly #names = new Map<string, string>(); // everyone ever heard of
  readonly #marked = new Map<string, number>(); // what the server has been told is read
  readonly #markTimers = new Map<string, ReturnType<typeof setTimeout>>();
  readonly #wanted = new Set<string>(); // people we have asked for a private chat, to open it when it comes
  readonly #meanwhile = new Map<string, ((members: Map<string, Member>) => void)[]>(); // news of members of a chat that is being read
  #unsent = new Unsent(undefined, "");
  #link: Link | null = null;
  #waiting: (() => void)[] | null = null; // news that waits for the lists
  #made = new Set<string>(); // chats made here since the lists were asked for
  #refreshAgain = false;
  #refreshTimer: ReturnType<typeof setTimeout> | undefined;
  #refreshDelay = 1000;
  #lookAgainTimer: ReturnType<typeof setTimeout> | undefined;
  #idle = false;
  #toldIdle = false; // what the server knows of it
  #toastIds = 0;

  constructor(options: Options) {
    this.#options = options;
  }

  // Coming and going.

  /** Finds out who is here. */
  async start(): Promise<void> {
    const s = this.state;
    s.phase = "starting";
    try {
      const [config, me] = await Promise.all([this.#options.api.config(), this.#options.api.me()]);
      s.config = config;
      if (me) this.#enter(me);
      else s.phase = "signedOut";
    } catch {
      s.phase = "unreachable";
    }
  }

  /** Signs in; throws an ApiError with a text for people. */
  async signIn(name: string): Promise<void> {
    this.#enter(await this.#options.api.signInAsGuest(name));
  }

  /** Ends the live connection for good. */
  disconnect(): void {
    this.#link?.stop();
  }

  /** Ends the live connection, and leaves nothing of what was written behind. */
  signOut(): void {
    this.disconnect();
    this.#unsent.clear();
  }

  setOffline(offline: boolean): void {
    const back = this.state.offline && !offline;
    this.state.offline = offline;
    if (!back || this.state.link !== "online") return; // a socket may take a while to notice
    void this.refresh();
    this.#sendWaiting();
  }

  setIdle(idle: boolean): void {
    this.#idle = idle;
    void this.#tellIdle();
  }

  async #tellIdle(): Promise<void> {
    const idle = this.#idle;
    try {
      await this.#event(idle ? "userEnterIdle" : "userExitIdle", this.state.me?.userId ?? "", "text");
      this.#toldIdle = idle;
    } catch {
      // Told again when the connection is back.
    }
  }

  #enter(me: Me): void {
    const s = this.state;
    s.me = me;
    s.phase = "signedIn";
    s.signedOutBecause = "";
    this.#names.set(me.userId, me.userName);
    s.tabs = this.#savedTabs();
    this.#unsent = new Unsent(this.#options.tabStorage, me.userId);
    for (const w of this.#unsent.waiting) this.timeline(w.chatId).send(me.userId, w.text, w.key, w.at);
    this.#link = this.#options.openLink(() => this.#options.api.negotiate(), {
      state: (state) => this.#linked(state),
      server: (event, data) => this.#whenSettled(() => this.#server(event, data)),
      said: (chatId, userId, text, key) => this.#whenSettled(() => this.#said(chatId, userId, text, key)),
      ended: () => this.#ended(),
    });
    this.#link.start();
  }

  #ended(): void {
    clearTimeout(this.#refreshTimer);
    clearTimeout(this.#lookAgainTimer);
    for (const timer of this.#markTimers.values()) clearTimeout(timer);
    Object.assign(this.state, {
      phase: "signedOut", me: null, loaded: false, link: "connecting", tabs: [], active: null,
      signedOutBecause: "Your session has ended. Sign in again to go on.",
    });
    this.state.chats.clear();
    this.state.people.clear();
    this.state.timelines.clear();
    this.#marked.clear();
    this.#markTimers.clear();
    this.#wanted.clear();
    this.#toldIdle = false;
    this.#waiting = null;
    this.#link = null;
  }

  #linked(link: LinkState): void {
    const s = this.state;
    s.link = link;
    clearTimeout(this.#lookAgainTimer);
    if (link !== "online") return;
    void this.refresh();
    this.#lookAgain(lookAgainMs);
    if (this.#idle || this.#toldIdle) void this.#tellIdle(); // a new connection starts out in use, a recovered one as it was
    this.#sendWaiting();
  }

  // What was delivered before we were there and stored after we asked is in neither; it is there a moment later.
  #lookAgain([delay, ...later]: number[]): void {
    if (delay === undefined) return;
    this.#lookAgainTimer = setTimeout(() => {
      void this.refresh();
      this.#lookAgain(later);
    }, delay * (0.75 + Math.random() / 2)); // not everybody at once
  }

  #sendWaiting(): void {
    for (const [chatId, timeline] of this.state.timelines) {
      for (const line of timeline.messages()) {
        if (line.state === "sending") void this.#transmit(chatId, line);
      }
    }
  }

  /** Whether what is sent now can get there, as far as we know. */
  #connected(): boolean {
    return this.state.link === "online" && !this.state.offline;
  }

  // Lists.

  /** Reads the lists and the open chat's newest page again. */
  async refresh(): Promise<void> {
    if (this.#waiting) {
      this.#refreshAgain = true; // what is being read may be older than the connection that asks
      return;
    }
    clearTimeout(this.#refreshTimer);
    const link = this.#link;
    this.#waiting = [];
    this.#made.clear();
    this.#refreshAgain = false;
    try {
      const { api } = this.#options;
      const [chats, users, blocked] = await Promise.all([api.chats(), api.users(), api.blocked()]);
      if (this.#link !== link) return; // somebody else's by now
      this.#takeLists(chats, users, blocked);
      this.#refreshDelay = 1000;
    } catch (err) {
      if (this.#link !== link) return;
      if (err instanceof ApiError && err.status === 401) {
        link?.stop();
        this.#ended();
        return;
      }
      this.state.stale = true;
      this.#refreshTimer = setTimeout(() => void this.refresh(), this.#refreshDelay);
      this.#refreshDelay = Math.min(this.#refreshDelay * 2, slowestRefreshMs);
    } finally {
      if (this.#link === link) this.#settle();
    }
    for (const [id, timeline] of this.state.timelines) {
      if (id !== this.state.active) timeline.loaded = false; // read again when opened
    }
    if (this.state.active) await this.#loadNewest(this.state.active);
    if (this.#refreshAgain) await this.refresh();
  }

  #takeLists(chats: WireChat[], users: [string, { userName: string; idle: boolean }][], blocked: string[]): void {
    const s = this.state;
    s.people = new Map(users.map(([userId, u]) => [userId, { userId, userName: u.userName, idle: u.idle }]));
    for (const [userId, u] of users) this.#names.set(userId, u.userName);
    const gone = new Set(s.chats.keys());
    for (const c of chats) {
      gone.delete(c.id);
      this.#takeChat(c);
    }
    for (const id of s.timelines.keys()) if (!s.chats.has(id)) s.timelines.delete(id); // of what was unsent before a reload
    for (const id of gone) if (!this.#made.has(id)) this.#forget(id);
    s.blocked = new Set(blocked);
    s.tabs = s.tabs.filter((id) => s.chats.has(id));
    s.loaded = true;
    s.stale = false;
    if (s.active && !s.chats.has(s.active)) s.active = null;
  }

  #takeChat(c: WireChat): Chat {
    const s = this.state;
    const members = new Map(
      Object.values(c.members).map((m) => [m.userId, { userId: m.userId, userName: m.userName, state: m.state ?? "joined" }]),
    );
    for (const m of members.values()) if (!this.#names.has(m.userId)) this.#names.set(m.userId, m.userName);
    const known = s.chats.get(c.id);
    const chat: Chat = {
      id: c.id,
      name: c.name,
      owner: c.owner,
      kind: c.kind ?? "public",
      members,
      state: c.state ?? members.get(s.me?.userId ?? "")?.state ?? "none",
      lastSeq: c.lastSeq ?? known?.lastSeq ?? 0,
      readSeq: Math.max(c.readSeq ?? 0, known?.readSeq ?? 0),
      at: known?.at ?? 0,
    };
    s.chats.set(c.id, chat);
    if (known && chat.readSeq > (c.readSeq ?? 0) && chat.state === "joined") {
      this.#marked.delete(c.id); // it never heard, or could not take it
      this.#scheduleMark(chat);
    }
    return s.chats.get(c.id) as Chat;
  }

  #forget(chatId: string): void {
    const s = this.state;
    s.chats.delete(chatId);
    s.timelines.delete(chatId);
    clearTimeout(this.#markTimers.get(chatId));
    this.closeTab(chatId);
  }

  #whenSettled(news: () => void): void {
    if (this.#waiting) this.#waiting.push(news);
    else news();
  }

  /** What is done here shows at once, and once more on lists that were asked for before. */
  #done(change: () => void): void {
    change();
    this.#waiting?.push(change);
  }

  #settle(): void {
    const waiting = this.#waiting ?? [];
    this.#waiting = null;
    for (const news of waiting) news();
  }

  // Names.

  /** The name of a person, from whom we know to be who. */
  nameOf(userId: string, otherwise = "Somebody"): string {
    return this.state.people.get(userId)?.userName ?? this.#names.get(userId) ?? otherwise;
  }

  /** The other person of a direct chat. */
  peerOf(chat: Chat): Member | undefined {
    if (chat.kind !== "direct") return undefined;
    return [...chat.members.values()].find((m) => m.userId !== this.state.me?.userId);
  }

  /** Whose colours a chat wears: its own, or those of the person one talks to. */
  faceOf(chat: Chat): string {
    return this.peerOf(chat)?.userId ?? chat.id;
  }

  unread(chat: Chat): number {
    return chat.state === "none" ? 0 : Math.max(0, chat.lastSeq - chat.readSeq);
  }

  // Chats and tabs.

  /** Shows a chat; its history comes along. */
  open(chatId: string): void {
    const s = this.state;
    const chat = s.chats.get(chatId);
    if (!chat || s.active === chatId) return;
    s.active = chatId;
    s.toasts = s.toasts.filter((t) => t.chatId !== chatId);
    s.newFrom = this.unread(chat) > 0 ? chat.readSeq + 1 : 0;
    if (chat.state === "none") {
      void this.#readChat(chatId);
    } else {
      this.#addTab(chatId);
      void this.#loadNewest(chatId);
    }
  }

  /** Shows no chat. */
  close(): void {
    this.state.active = null;
  }

  /** Closes a tab; the chat stays in the list. */
  closeTab(chatId: string): void {
    const s = this.state;
    const at = s.tabs.indexOf(chatId);
    s.tabs = s.tabs.filter((id) => id !== chatId);
    this.#saveTabs();
    if (s.active !== chatId) return;
    const next = s.tabs[Math.min(Math.max(at, 0), s.tabs.length - 1)];
    s.active = null;
    if (next && at >= 0) this.open(next);
  }

  /** Creates a public chat and returns its id; throws a text for people. */
  async createChat(name: string): Promise<string> {
    const me = this.state.me;
    const id = uuid();
    if (!me) return id;
    await this.#event("createChat", { id, name }, "json");
    this.#made.add(id);
    if (!this.state.chats.has(id)) {
      const members = { [me.userId]: { userId: me.userId, userName: me.userName } };
      this.#takeChat({ id, name, owner: me.userId, kind: "public", members, state: "joined", lastSeq: 0, readSeq: 0 });
    }
    return id;
  }

  async join(chatId: string): Promise<void> {
    await this.#event("joinChat", chatId, "text");
    this.#done(() => this.#joined(chatId));
  }

  async accept(chatId: string): Promise<void> {
    await this.#event("acceptChat", chatId, "text");
    this.#done(() => this.#joined(chatId));
  }

  async leave(chatId: string): Promise<void> {
    await this.#event("leaveChat", { chatId }, "json");
    this.#done(() => this.#left(chatId));
  }

  async deleteChat(chatId: string): Promise<void> {
    await this.#event("deleteChat", chatId, "text");
    this.#done(() => this.#forget(chatId));
  }

  /** Opens the private chat with a person, now or as soon as the server has made it. */
  async talkTo(userId: string): Promise<void> {
    const known = [...this.state.chats.values()].find((c) => c.kind === "direct" && c.members.has(userId));
    if (known) {
      this.open(known.id);
      return;
    }
    this.#wanted.add(userId);
    try {
      await this.#event("createPrivateChat", { targetUserId: userId }, "json");
    } catch (err) {
      this.#wanted.delete(userId);
      throw err;
    }
  }

  async block(userId: string): Promise<void> {
    await this.#event("blockUser", { userId }, "json");
    this.#done(() => this.state.blocked.add(userId));
  }

  async unblock(userId: string): Promise<void> {
    await this.#event("unblockUser", { userId }, "json");
    this.#done(() => this.state.blocked.delete(userId));
  }

  #joined(chatId: string): void {
    const { chats, me, active } = this.state;
    const chat = chats.get(chatId);
    if (!chat || !me) return;
    chat.state = "joined";
    chat.members.set(me.userId, { userId: me.userId, userName: me.userName, state: "joined" });
    void this.#readChat(chatId);
    if (active === chatId) {
      this.#addTab(chatId);
      void this.#loadNewest(chatId);
    }
  }

  #left(chatId: string): void {
    const { chats, me, timelines } = this.state;
    const chat = chats.get(chatId);
    if (!chat || !me) return;
    if (chat.kind !== "public") {
      this.#forget(chatId); // only its members can see it
      return;
    }
    chat.state = "none";
    chat.members.delete(me.userId);
    timelines.delete(chatId);
    this.closeTab(chatId);
  }

  #addTab(chatId: string): void {
    if (this.state.tabs.includes(chatId)) return;
    this.state.tabs.push(chatId);
    this.#saveTabs();
  }

  #tabsKey(): string {
    return `chatr.tabs.${this.state.me?.userId}`;
  }

  #savedTabs(): string[] {
    try {
      const saved: unknown = JSON.parse(this.#options.storage?.getItem(this.#tabsKey()) ?? "[]");
      return Array.isArray(saved) ? saved.filter((id) => typeof id === "string") : [];
    } catch {
      return [];
    }
  }

  #saveTabs(): void {
    try {
      this.#options.storage?.setItem(this.#tabsKey(), JSON.stringify(this.state.tabs));
    } catch {
      // Full or forbidden: the tabs are forgotten with the page.
    }
  }

  // Messages.

  timeline(chatId: string): Timeline {
    const { timelines } = this.state;
    if (!timelines.has(chatId)) timelines.set(chatId, new Timeline());
    return timelines.get(chatId) as Timeline; // the reactive one
  }

  async loadOlder(chatId: string): Promise<void> {
    const timeline = this.timeline(chatId);
    if (timeline.loading || timeline.older === undefined) return;
    await this.#reading(chatId, timeline, async () => {
      timeline.mergeOlder(await this.#options.api.messages(chatId, timeline.older, pageSize));
    });
  }

  async #loadNewest(chatId: string): Promise<void> {
    const chat = this.state.chats.get(chatId);
    const timeline = this.timeline(chatId);
    if (!chat || chat.state === "none") return;
    if (timeline.loading) {
      timeline.again = true; // what is on its way may be older than what made us ask
      return;
    }
    await this.#reading(chatId, timeline, async () => {
      const page = await this.#options.api.messages(chatId, undefined, pageSize);
      const now = this.state.chats.get(chatId);
      if (now) now.lastSeq = timeline.mergeNewest(page, Date.now());
    });
  }

  async #reading(chatId: string, timeline: Timeline, read: () => Promise<void>): Promise<void> {
    timeline.loading = true;
    timeline.error = "";
    try {
      await read();
    } catch (err) {
      timeline.error = textOf(err);
    } finally {
      this.#keepUnsent(); // history has some of it
      timeline.loading = false;
    }
    if (timeline.again) {
      timeline.again = false;
      await this.#loadNewest(chatId);
    }
  }

  async reload(chatId: string): Promise<void> {
    await this.#loadNewest(chatId);
  }

  /** Says something. The line shows at once, and how far it got. */
  send(chatId: string, text: string): void {
    const me = this.state.me;
    if (!me || !text.trim()) return;
    const line = this.timeline(chatId).send(me.userId, text, uuid(), Date.now());
    this.#keepUnsent();
    void this.#transmit(chatId, line);
  }

  /** Sends a failed message again, as the same message. */
  retry(chatId: string, lineId: string): void {
    const line = this.state.timelines.get(chatId)?.find(lineId);
    if (!line || line.state !== "failed") return;
    line.state = "sending";
    line.reason = undefined;
    void this.#transmit(chatId, line);
  }

  discard(chatId: string, lineId: string): void {
    this.state.timelines.get(chatId)?.remove(lineId);
    this.#keepUnsent();
  }

  /** What was being written in a chat. */
  draft(chatId: string): string {
    return this.#unsent.draft(chatId);
  }

  setDraft(chatId: string, text: string): void {
    this.#unsent.setDraft(chatId, text);
  }

  // Also what has failed: after a reload it is tried again.
  #keepUnsent(): void {
    this.#unsent.waiting = [...this.state.timelines].flatMap(([chatId, timeline]) =>
      timeline.messages().flatMap(({ state, key, text, at }) => (state !== "sent" && key ? [{ chatId, key, text, at }] : [])),
    );
  }

  async #transmit(chatId: string, line: MessageLine): Promise<void> {
    const { me } = this.state;
    if (!this.#link || !me || !line.key || !this.#connected()) return; // goes out when the connection is back
    try {
      await this.#link.sendText(chatId, line.text, line.key, me);
      line.state = "sent";
      this.#keepUnsent();
    } catch (err) {
      if (line.state === "sent") return; // it came back from the group all the same
      if (err instanceof Lost && !this.#connected()) return;
      line.state = "failed";
      line.reason = err instanceof Refused ? "You cannot write in this chat now." : textOf(err);
    }
  }

  #said(chatId: string, userId: string, text: string, key: string | undefined): void {
    const s = this.state;
    const chat = s.chats.get(chatId);
    if (!chat || chat.state === "none") return;
    const now = Date.now();
    const [line, isNew] = this.timeline(chatId).hear(userId, text, key, chat.lastSeq + 1, now);
    if (!isNew) return;
    chat.lastSeq++;
    chat.at = now;
    if (userId === s.me?.userId) {
      if (chat.readSeq === chat.lastSeq - 1) chat.readSeq = chat.lastSeq; // nobody has to read their own words
      return;
    }
    this.#addTab(chatId);
    const name = this.nameOf(userId);
    s.said = s.active === chatId ? `${name}: ${text}` : `New message from ${name}${chat.kind === "direct" ? "" : ` in ${chat.name}`}`;
    this.#options.alert?.({ title: chat.kind === "direct" ? name : `${name} in ${chat.name}`, body: line.text, chatId });
    if (chat.kind === "direct" && chat.state === "joined" && s.active !== chatId) this.toast("info", `${name}: ${line.text}`, chatId);
  }

  /** The newest line of a chat is in view. */
  seen(chatId: string): void {
    const chat = this.state.chats.get(chatId);
    if (!chat || chat.state === "none" || chat.readSeq >= chat.lastSeq) return;
    chat.readSeq = chat.lastSeq;
    this.#scheduleMark(chat);
  }

  #scheduleMark({ id }: Chat): void {
    clearTimeout(this.#markTimers.get(id));
    this.#markTimers.set(id, setTimeout(() => void this.#mark(id), readAfterMs));
  }

  async #mark(chatId: string, again = false): Promise<void> {
    this.#markTimers.delete(chatId);
    const seq = this.state.chats.get(chatId)?.readSeq ?? 0;
    if (!again && seq <= (this.#marked.get(chatId) ?? 0)) return;
    try {
      await this.#event("markRead", { chatId, seq }, "json");
      this.#marked.set(chatId, seq);
      if (!again && !this.#markTimers.has(chatId)) this.#markTimers.set(chatId, setTimeout(() => void this.#mark(chatId, true), readAgainAfterMs));
    } catch {
      // Told again when the lists are read again and the server still does not know.
    }
  }

  // News from the server, docs/chat.md section 7.

  #server(event: string, data: string): void {
    const s = this.state;
    switch (event) {
      case "userOnline":
        return this.#online(parseRecord(data));
      case "userOffline":
        s.people.delete(data);
        return;
      case "userIsIdle":
      case "userNotIdle": {
        const person = s.people.get(data);
        if (person) person.idle = event === "userIsIdle";
        return;
      }
      case "chatCreated": {
        const chat = parseRecord(data);
        if (!isWireChat(chat) || s.chats.has(chat.id)) return;
        const { id, name, kind, owner } = this.#takeChat(chat);
        if (kind === "private") {
          if (owner !== s.me?.userId) this.toast("info", `You have been added to “${name}”.`, id);
          void this.#readChat(id); // it may be older than our being in it
        }
        return;
      }
      case "chatDeleted":
        return this.#deleted(data);
      case "joinPrivateChat":
        return this.#privateChat(parseRecord(data));
      case "memberJoined":
        return this.#memberJoined(parseRecord(data));
      case "memberLeft":
        return this.#memberLeft(parseRecord(data));
      case "chatRead": {
        const read = parseRecord(data);
        const chat = s.chats.get(String(read?.chatId));
        if (chat && typeof read?.seq === "number") chat.readSeq = Math.max(chat.readSeq, read.seq);
        return;
      }
      case "userBlocked":
        s.blocked.add(data);
        return;
      case "userUnblocked":
        s.blocked.delete(data);
    }
  }

  #online(u: Record<string, unknown> | undefined): void {
    if (typeof u?.userId !== "string" || typeof u.userName !== "string") return;
    this.#names.set(u.userId, u.userName);
    this.state.people.set(u.userId, { userId: u.userId, userName: u.userName, idle: u.idle === true });
  }

  #deleted(chatId: string): void {
    const chat = this.state.chats.get(chatId);
    if (!chat) return;
    if (chat.state !== "none" && chat.owner !== this.state.me?.userId) {
      this.toast("info", `“${chat.name}” was deleted by ${this.nameOf(chat.owner)}.`);
    }
    this.#forget(chatId);
  }

  #privateChat(c: Record<string, unknown> | undefined): void {
    const { me, active } = this.state;
    const peer = c?.peer;
    if (!me || typeof c?.id !== "string" || !isRecord(peer)) return;
    if (typeof peer.userId !== "string" || typeof peer.userName !== "string") return;
    const { id } = c;
    const state: MemberState = c.state === "invited" ? "invited" : "joined";
    const news = this.state.chats.get(id)?.state !== state;
    if (!this.state.chats.has(id)) {
      // Who asked has joined; the one asked is invited. The chat itself, read below, knows better.
      const other: MemberState = state === "joined" ? "invited" : "joined";
      const members = {
        [me.userId]: { userId: me.userId, userName: me.userName, state },
        [peer.userId]: { userId: peer.userId, userName: peer.userName, state: other },
      };
      this.#takeChat({ id, name: peer.userName, owner: "", kind: "direct", members, state });
    }
    void this.#readChat(id);
    if (this.#wanted.delete(peer.userId)) {
      this.open(id);
    } else if (news && state === "invited") {
      this.#addTab(id);
      this.toast("info", `${peer.userName} wants to chat with you.`, active === id ? undefined : id);
      this.state.said = `${peer.userName} wants to chat with you.`;
      this.#options.alert?.({ title: peer.userName, body: "wants to chat with you", chatId: id });
    }
  }

  // Only members hear who comes and goes. What is heard while the answer is on its way may be newer than that.
  async #readChat(id: string): Promise<void> {
    const meanwhile: ((members: Map<string, Member>) => void)[] = [];
    this.#meanwhile.set(id, meanwhile);
    try {
      const chat = await this.#options.api.chat(id);
      const known = this.state.chats.get(id);
      if (!known || this.#meanwhile.get(id) !== meanwhile) return;
      const { members } = this.#takeChat({ ...chat, lastSeq: Math.max(chat.lastSeq ?? 0, known.lastSeq) });
      for (const change of meanwhile) change(members);
    } catch {
      // The lists tell when they are read again.
    } finally {
      if (this.#meanwhile.get(id) === meanwhile) this.#meanwhile.delete(id);
    }
  }

  #changeMembers(chat: Chat, change: (members: Map<string, Member>) => void): void {
    change(chat.members);
    this.#meanwhile.get(chat.id)?.push(change);
  }

  #memberJoined(m: Record<string, unknown> | undefined): void {
    const { chats, me } = this.state;
    const chat = chats.get(String(m?.chatId));
    if (!chat || typeof m?.userId !== "string" || typeof m.userName !== "string") return;
    const { userId, userName } = m;
    const before = chat.members.get(userId)?.state;
    this.#names.set(userId, userName);
    this.#changeMembers(chat, (members) => members.set(userId, { userId, userName, state: "joined" }));
    if (userId === me?.userId && chat.state !== "joined") this.#joined(chat.id);
    if (before !== "joined" && chat.state !== "none") {
      this.timeline(chat.id).note(userId, chat.kind === "direct" ? "accepted" : "joined", chat.lastSeq, Date.now());
    }
  }

  #memberLeft(m: Record<string, unknown> | undefined): void {
    const { chats, me } = this.state;
    const chat = chats.get(String(m?.chatId));
    if (!chat || typeof m?.userId !== "string") return;
    if (m.userId === me?.userId) {
      this.#left(chat.id);
      return;
    }
    const { userId } = m;
    const was = chat.members.has(userId);
    this.#changeMembers(chat, (members) => members.delete(userId));
    if (was && chat.state !== "none") this.timeline(chat.id).note(userId, "left", chat.lastSeq, Date.now());
  }

  // Telling people.

  toast(tone: Toast["tone"], text: string, chatId?: string): void {
    const id = ++this.#toastIds;
    this.state.toasts = [...this.state.toasts, { id, tone, text, chatId }].slice(-mostToasts);
    setTimeout(() => this.dismiss(id), toastMs);
  }

  dismiss(id: number): void {
    this.state.toasts = this.state.toasts.filter((t) => t.id !== id);
  }

  /** Runs something people asked for; why it failed is told in a toast. */
  async attempt(action: () => Promise<void>): Promise<boolean> {
    try {
      await action();
      return true;
    } catch (err) {
      this.toast("error", textOf(err));
      return false;
    }
  }

  async #event(name: string, data: string | Record<string, string | number>, dataType: "json" | "text"): Promise<void> {
    if (!this.#link || this.state.link !== "online") throw new Lost("Not connected right now. Try again in a moment.");
    await this.#link.sendEvent(name, data, dataType);
  }
}

function isWireChat(c: Record<string, unknown> | undefined): c is Record<string, unknown> & WireChat {
  return typeof c?.id === "string" && typeof c.name === "string" && typeof c.owner === "string" && isRecord(c.members);
}

/** What to tell people about an error. */
export function textOf(err: unknown): string {
  return err instanceof Error && err.message ? err.message : "That did not work. Try again in a moment.";
}
