// The rooms one is in, the public ones one could be in, and who is in them.
//
// A room here is as it was at one of its events. Lists tell of all rooms, events of what has changed since; what is about our
// own place in a room is read again, since only the server knows it.

import { defineStore } from "pinia";
import { computed, reactive, ref } from "vue";
import { ApiError, isAway, isTooOld } from "../api";
import { deps } from "../deps";
import { chatOf, timeOf, type Chat } from "../model/chat";
import { Sequence } from "../model/sequence";
import { isRecord, parseRecord, type RoomEvent, type WireDirectoryRoom, type WireRoom } from "../wire";
import { useLink } from "./link";
import { useMembers } from "./members";
import { useMessages } from "./messages";
import { useNotices } from "./notices";
import { usePeople } from "./people";
import { useReads } from "./reads";
import { useSession } from "./session";
import { useView } from "./view";

const pageSize = 100;
const gapMs = 1000; // an answer overtakes what others said just before
const previewLength = 200;

export const useChats = defineStore("chats", () => {
  const rooms = reactive(new Map<string, Chat>());
  const directory = reactive(new Map<string, Chat>());
  const loaded = ref(false); // the lists have been read at least once
  const moreRooms = ref<string>(); // where the directory goes on
  const stale = ref(false); // the lists could not be read again
  const unread = computed(() => [...rooms.values()].reduce((n, c) => n + unreadOf(c), 0));

  const sequences = new Map<string, Sequence>();
  const heardAt = new Map<string, number>(); // when we last heard of an event of a room; answers to what was asked later reflect it
  const touched = new Map<string, number>(); // when we last heard of our own place in a room; answers asked for before are older
  const rereading = new Map<string, { again: boolean; done: Promise<void> }>();
  const timers = new Map<string, ReturnType<typeof setTimeout>>();
  const wanted = new Set<string>(); // people we have asked for a private chat, to open it when it comes
  let revision = 0;
  let now = 0; // counts what was asked and heard
  let lists = 0; // which reading of the lists is the newest

  /** A room, whether one is in it or could be. */
  function find(id: string): Chat | undefined {
    return rooms.get(id) ?? directory.get(id);
  }

  /** How many lines, or an invitation, wait to be seen. */
  function unreadOf(chat: Chat): number {
    return chat.state === "invited" ? Math.max(1, chat.unread) : chat.state === "joined" ? chat.unread : 0;
  }

  /** Whose colours a chat wears: its own, or those of the person one talks to. */
  function faceOf(chat: Chat): string {
    return chat.peer?.userId ?? chat.id;
  }

  // Lists.

  /** Reads the lists again. Throws what the API throws; 401 is for the session. */
  async function refresh(): Promise<void> {
    const reading = ++lists;
    const same = useLink().same();
    const mine = (): boolean => same() && reading === lists;
    try {
      await readOwn(mine).catch((err: unknown) => {
        if (!isAway(err)) throw err; // a role may be without the right to have a list; what is heard of shows all the same
      });
      await readDirectory(mine);
      if (!mine()) return;
      loaded.value = true;
      stale.value = false;
    } catch (err) {
      if (mine()) stale.value = true;
      throw err;
    }
  }

  async function readOwn(mine: () => boolean): Promise<void> {
    const changed = loaded.value && (await readChanges(mine));
    await readRooms(mine, !changed);
  }

  // What has changed in our own list: whatever happened to our memberships while we were away.
  async function readChanges(mine: () => boolean): Promise<boolean> {
    try {
      for (;;) {
        const asked = ++now;
        const change = await deps().api.roomsSince(revision);
        if (!mine()) return true;
        for (const r of change.rooms) take(r, asked);
        for (const id of change.gone) if (!touchedSince(id, asked)) forget(id);
        revision = change.revision;
        if (!change.more) return true;
      }
    } catch (err) {
      if (isTooOld(err)) return false;
      throw err;
    }
  }

  async function readRooms(mine: () => boolean, all: boolean): Promise<void> {
    const absent = new Set(rooms.keys());
    const begun = ++now;
    let first: number | undefined;
    for (let after: string | undefined, more = true; more;) {
      const asked = ++now;
      const page = await deps().api.rooms(after, pageSize);
      if (!mine()) return;
      first ??= page.revision;
      for (const r of page.rooms) {
        absent.delete(r.id);
        take(r, asked);
      }
      loaded.value = true; // the most recent ones are there
      after = page.next;
      more = after !== undefined;
    }
    if (!all) return;
    revision = first ?? 0;
    // A room that has moved up while we read is in none of the pages; the server knows whether it is there.
    for (const id of absent) if (!touchedSince(id, begun)) await reread(id);
  }

  async function readDirectory(mine: () => boolean): Promise<void> {
    const asked = ++now;
    const page = await deps().api.directory(undefined, undefined, pageSize);
    if (!mine()) return;
    const listed = new Set(page.rooms.map((r) => r.id));
    const { tabs, active } = useView();
    const open = new Set([...tabs, active]);
    for (const id of [...directory.keys()]) {
      if (listed.has(id) || touchedSince(id, asked)) continue;
      if (page.next !== undefined && open.has(id)) await reread(id);
      else directory.delete(id); // gone, or for who reads on
    }
    if (!mine()) return;
    for (const r of page.rooms) offer(r, asked);
    moreRooms.value = page.next;
  }

  /** Reads on in the public chats. */
  async function readMore(): Promise<void> {
    const asked = ++now;
    const page = await deps().api.directory(undefined, moreRooms.value, pageSize);
    for (const r of page.rooms) offer(r, asked);
    moreRooms.value = page.next;
  }

  /** Looks for public chats by name. */
  async function search(q: string): Promise<void> {
    const asked = ++now;
    const page = await deps().api.directory(q, undefined, pageSize);
    for (const r of page.rooms) offer(r, asked);
  }

  function offer(r: WireDirectoryRoom, asked: number): void {
    if (rooms.has(r.id) || touchedSince(r.id, asked)) return;
    directory.set(r.id, {
      id: r.id, name: r.name, kind: "public", owner: r.owner, state: "none", maySpeak: false, members: r.members, lastEvent: 0, lastSeq: 0,
      readSeq: 0, unread: 0, at: timeOf(r.at),
    });
  }

  function touch(id: string): void {
    touched.set(id, ++now);
  }

  function touchedSince(id: string, asked: number): boolean {
    return (touched.get(id) ?? 0) > asked;
  }

  // Takes a room as the server said it was when we asked.
  function take(r: WireRoom, asked: number): void {
    if (touchedSince(r.id, asked)) return; // there is newer news, and it is being read
    if (r.state === "none") {
      if (rooms.has(r.id)) forget(r.id);
      if (r.kind === "public") directory.set(r.id, chatOf(r));
      return;
    }
    directory.delete(r.id);
    if (r.lastEvent < (sequences.get(r.id)?.number ?? 0) && asked > (heardAt.get(r.id) ?? 0)) putBack(r.id);
    const known = rooms.get(r.id);
    const sequence = sequences.get(r.id) ?? new Sequence();
    sequences.set(r.id, sequence);
    if (!known) {
      rooms.set(r.id, chatOf(r));
    } else {
      const { state, maySpeak, owner, peer } = chatOf(r);
      const { readSeq } = known;
      if (r.lastEvent >= known.lastEvent) Object.assign(known, chatOf(r));
      else Object.assign(known, { state, maySpeak, owner, peer });
      readUpTo(known, readSeq);
      readUpTo(known, r.readSeq);
    }
    const chat = rooms.get(r.id) as Chat;
    if (r.lastEvent > sequence.number) heardAt.set(r.id, ++now);
    for (const e of sequence.reach(r.lastEvent)) apply(chat, e);
    if (r.peer) usePeople().call(r.peer.userId, r.peer.userName);
    if (r.last) usePeople().call(r.last.userId, r.last.userName);
    useReads().knows(r.id, r.readSeq);
    void useReads().tell(r.id);
    useMessages().known(r.id, r.lastEvent);
  }

  // The server has less than it had: its store is that of a backup. What we have of the room is of no use.
  function putBack(id: string): void {
    sequences.delete(id);
    rooms.delete(id);
    useReads().forget(id);
    void useMessages().again(id);
  }

  /** Reads one room again. It is gone if the server does not show it to us. */
  function reread(id: string): Promise<void> {
    const running = rereading.get(id);
    if (running) {
      running.again = true; // what is on its way may be older than what made us ask
      return running.done;
    }
    const turn = { again: false, done: Promise.resolve() };
    rereading.set(id, turn);
    turn.done = rereadOnce(id, turn).finally(() => rereading.delete(id));
    return turn.done;
  }

  async function rereadOnce(id: string, turn: { again: boolean }): Promise<void> {
    const same = useLink().same();
    do {
      turn.again = false;
      const asked = ++now;
      try {
        const r = await deps().api.room(id);
        if (!same()) return;
        if (!turn.again) take(r, Math.max(asked, touched.get(id) ?? 0));
      } catch (err) {
        if (!same()) return;
        if (isAway(err) && !turn.again) forget(id);
        else if (!(err instanceof ApiError)) throw err;
        // Otherwise the lists tell, when they are read again.
      }
    } while (turn.again);
  }

  function rereadLater(id: string): void {
    if (timers.has(id)) return;
    timers.set(id, setTimeout(() => {
      timers.delete(id);
      if (sequences.get(id)?.behind) void reread(id);
    }, gapMs));
  }

  /** Finds out about a room that is in no list, like one of an address. */
  async function look(id: string): Promise<boolean> {
    if (!find(id)) await reread(id);
    return find(id) !== undefined;
  }

  function forget(id: string): void {
    rooms.delete(id);
    directory.delete(id);
    sequences.delete(id);
    heardAt.delete(id);
    useReads().forget(id);
    useMembers().forget(id);
    clearTimeout(timers.get(id));
    timers.delete(id);
    useMessages().forget(id);
    useView().closeTab(id);
  }

  // What happens.

  /** Takes something that has happened in a room. */
  function hear(e: RoomEvent): void {
    const me = useSession().me?.userId;
    usePeople().call(e.userId, e.userName);
    const chat = rooms.get(e.roomId);
    if (e.kind === "closed") {
      deleted(e.roomId, e.userId);
    } else if (e.userId === me && e.kind === "left") {
      left(e.roomId);
    } else if (!chat) {
      newPlace(e.roomId); // we hear it, so we are in it
    } else {
      if (e.userId === me && (e.kind === "joined" || e.kind === "invited" || e.kind === "role")) newPlace(e.roomId);
      const sequence = sequences.get(e.roomId) as Sequence;
      const due = sequence.take(e);
      if (due.length > 0) heardAt.set(e.roomId, ++now);
      for (const event of due) apply(chat, event);
      if (sequence.behind) rereadLater(e.roomId);
    }
  }

  /** Whether an event would be news here. */
  function isNews(e: RoomEvent): boolean {
    return sequences.get(e.roomId)?.isNew(e) ?? false;
  }

  function newPlace(id: string): void {
    touch(id);
    void reread(id);
  }

  function apply(chat: Chat, e: RoomEvent): void {
    const mine = e.userId === useSession().me?.userId;
    chat.lastEvent = e.number;
    switch (e.kind) {
      case "message":
        if (mine && chat.readSeq === chat.lastSeq) ownWords(chat, e.seq); // nobody has to read their own words
        else if (!mine && e.seq > chat.readSeq) chat.unread++;
        chat.lastSeq = Math.max(chat.lastSeq, e.seq);
        chat.at = e.at;
        chat.last = { seq: e.seq, userId: e.userId, userName: e.userName, text: (e.text ?? "").slice(0, previewLength) };
        return;
      case "edited":
        if (chat.last?.seq === e.seq) chat.last.text = (e.text ?? "").slice(0, previewLength);
        return;
      case "deleted":
        if (!mine && e.seq > chat.readSeq) chat.unread = Math.max(0, chat.unread - 1);
        if (chat.last?.seq === e.seq) void reread(chat.id); // for what was said before
        return;
      case "title":
        if (chat.kind !== "direct") chat.name = e.title;
        return;
      case "joined":
      case "left":
        changeMembers(chat, e);
    }
  }

  function ownWords(chat: Chat, seq: number): void {
    useReads().ownWords(chat.id, chat.readSeq, seq);
    chat.readSeq = seq;
  }

  function changeMembers(chat: Chat, e: RoomEvent): void {
    useMembers().hear(e);
    const joined = e.kind === "joined";
    if (chat.peer?.userId === e.userId) chat.peer.state = joined ? "joined" : "none";
    chat.members = Math.max(0, chat.members + (joined ? 1 : -1));
  }

  function deleted(id: string, by: string): void {
    const chat = rooms.get(id);
    touch(id);
    if (chat && by !== useSession().me?.userId && chat.owner !== useSession().me?.userId) {
      useNotices().toast("info", `“${chat.name}” was deleted by ${usePeople().nameOf(by || chat.owner)}.`);
    }
    forget(id);
  }

  function left(id: string): void {
    const chat = rooms.get(id);
    touch(id);
    if (!chat) return;
    forget(id);
    if (chat.kind !== "public") return; // only its members can see it
    directory.set(id, { ...chat, state: "none", unread: 0, members: Math.max(0, chat.members - 1), last: undefined, lastEvent: 0 });
  }

  /** Takes a message from the server, docs/chat.md section 7, if it is about chats. */
  function hearServer(event: string, data: string): void {
    switch (event) {
      case "chatCreated":
        return created(parseRecord(data));
      case "chatDeleted": {
        const chat = find(data);
        if (chat) deleted(data, chat.owner);
        return;
      }
      case "joinPrivateChat":
        return void privateChat(parseRecord(data));
      case "memberJoined":
      case "memberLeft": {
        const m = parseRecord(data);
        if (typeof m?.chatId !== "string" || m.userId !== useSession().me?.userId) return; // of others the room's events tell
        if (event === "memberLeft") left(m.chatId);
        else newPlace(m.chatId);
        return;
      }
      case "chatRead": {
        const read = parseRecord(data);
        const chat = rooms.get(String(read?.chatId));
        if (chat && typeof read?.seq === "number") {
          useReads().knows(chat.id, read.seq);
          readUpTo(chat, read.seq);
        }
      }
    }
  }

  function created(c: Record<string, unknown> | undefined): void {
    const me = useSession().me?.userId;
    if (typeof c?.id !== "string" || typeof c.name !== "string" || typeof c.owner !== "string" || rooms.has(c.id)) return;
    const { id, name, owner } = c;
    if (c.kind === "private" || owner === me) {
      if (owner !== me) useNotices().toast("info", `You have been added to “${name}”.`, id);
      newPlace(id);
    } else {
      touch(id);
      const there = isRecord(c.members) ? Object.keys(c.members).length : 1;
      directory.set(id, {
        id, name, owner, kind: "public", state: "none", maySpeak: false, members: there, lastEvent: 0, lastSeq: 0, readSeq: 0, unread: 0,
        at: deps().clock.now(),
      });
    }
  }

  async function privateChat(c: Record<string, unknown> | undefined): Promise<void> {
    const peer = c?.peer;
    if (typeof c?.id !== "string" || !isRecord(peer) || typeof peer.userId !== "string" || typeof peer.userName !== "string") return;
    const { id } = c;
    const { userId, userName } = peer;
    const before = rooms.get(id)?.state;
    usePeople().call(userId, userName);
    const want = wanted.delete(userId);
    touch(id);
    await reread(id);
    if (!rooms.has(id)) return;
    if (want) {
      useView().open(id);
    } else if (c.state === "invited" && before !== "invited") {
      useView().addTab(id);
      const text = `${userName} wants to chat with you.`;
      useNotices().toast("info", text, useView().active === id ? undefined : id);
      useNotices().said = text;
      deps().alert?.({ title: userName, body: "wants to chat with you", chatId: id });
    }
  }

  // Reading.

  function readUpTo(chat: Chat, seq: number): void {
    if (seq <= chat.readSeq) return;
    chat.readSeq = seq;
    chat.unread = seq >= chat.lastSeq ? 0 : Math.min(chat.unread, useMessages().countAfter(chat.id, seq) ?? chat.lastSeq - seq);
  }

  /** Somebody has seen everything up to a message. */
  function read(id: string, seq: number): void {
    const chat = rooms.get(id);
    if (!chat || chat.state === "none" || seq <= chat.readSeq) return;
    readUpTo(chat, Math.min(seq, chat.lastSeq));
    void useReads().tell(id);
  }

  // What people do.

  /** Creates a public chat; throws a text for people. With the same id it is the same chat, however often it is tried. */
  async function create(id: string, name: string): Promise<void> {
    await useLink().event("createChat", { id, name }, "json");
    touch(id);
    await reread(id);
  }

  async function join(id: string): Promise<void> {
    await useLink().event("joinChat", id, "text");
    touch(id);
    await reread(id);
  }

  async function accept(id: string): Promise<void> {
    await useLink().event("acceptChat", id, "text");
    touch(id);
    await reread(id);
  }

  async function leave(id: string): Promise<void> {
    await useLink().event("leaveChat", { chatId: id }, "json");
    touch(id);
    await rereadIfThere(id);
  }

  async function remove(id: string): Promise<void> {
    await useLink().event("deleteChat", id, "text");
    touch(id);
    await rereadIfThere(id);
  }

  // Of being out of a room we hear before the ack, as a rule. If it is here all the same, we may have been put there again by now; and
  // browsers complain about asking for what is not there.
  async function rereadIfThere(id: string): Promise<void> {
    if (rooms.has(id)) await reread(id);
  }

  /** Opens the private chat with somebody, and asks for it where there is none. */
  async function talkTo(userId: string): Promise<void> {
    const known = [...rooms.values()].find((c) => c.peer?.userId === userId && c.peer.state !== "none");
    if (known) {
      useView().open(known.id);
      return;
    }
    wanted.add(userId);
    try {
      await useLink().event("createPrivateChat", { targetUserId: userId }, "json");
    } catch (err) {
      wanted.delete(userId);
      throw err;
    }
  }

  function clear(): void {
    for (const timer of timers.values()) clearTimeout(timer);
    for (const map of [rooms, directory, timers, sequences, heardAt, touched]) map.clear();
    useMembers().clear();
    useReads().clear();
    wanted.clear();
    loaded.value = false;
    moreRooms.value = undefined;
    stale.value = false;
    revision = 0;
  }

  return {
    rooms, directory, loaded, moreRooms, stale, unread, find, unreadOf, faceOf, refresh, readMore, search, reread, look, hear, isNews, hearServer, read,
    create, join, accept, leave, remove, talkTo, clear,
  };
});
