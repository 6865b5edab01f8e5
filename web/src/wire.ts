// What the services say, as docs/chat.md describes it: rooms, messages and the events that a room consists of.

export type MemberState = "joined" | "invited";
export type RoomKind = "public" | "private" | "direct";

/**
 * Something that happened in a room. A room is a sequence of events 1, 2, 3 …; the same event looks the same live, by REST
 * and in an answer to what we did ourselves.
 */
export interface RoomEvent {
  roomId: string;
  number: number;
  /** message, edited, deleted, joined, invited, left, role, title, closed, created; others may come, and count. */
  kind: string;
  userId: string;
  userName: string;
  /** Of the message that a message, edited or deleted event is about; otherwise 0. */
  seq: number;
  /** Of a message or edited event; lacks when the message has been deleted by now. */
  text?: string;
  key: string;
  title: string;
  /** ms since 1970, by the server's clock. */
  at: number;
}

export interface WireMessage {
  seq: number;
  number: number;
  userId: string;
  userName: string;
  text: string;
  key: string;
  at: string;
  edited?: boolean;
}

/** A stretch of a room's messages, ascending, as they were when the room's newest event was lastEvent. */
export interface WirePage {
  messages: WireMessage[];
  lastEvent: number;
  older: boolean;
  newer: boolean;
}

export interface WireRoom {
  id: string;
  name: string;
  kind: RoomKind;
  owner: string;
  state: MemberState | "none";
  role?: string;
  maySpeak?: boolean;
  lastEvent: number;
  lastSeq: number;
  readSeq: number;
  /** Messages after readSeq that are there and not one's own. */
  unread?: number;
  members: number;
  at: string;
  last?: { seq: number; userId: string; userName: string; text: string; at: string } | null;
  peer?: { userId: string; userName: string; state: MemberState | "none" };
}

export interface WireDirectoryRoom {
  id: string;
  name: string;
  owner: string;
  members: number;
  at: string;
}

export interface WireMember {
  userId: string;
  userName: string;
  state?: MemberState;
}

export interface WirePerson {
  userName: string;
  userProvider: string;
  idle: boolean;
}

export function isRecord(v: unknown): v is Record<string, unknown> {
  return typeof v === "object" && v !== null && !Array.isArray(v);
}

/** The object that a JSON text holds, or undefined. */
export function parseRecord(text: string): Record<string, unknown> | undefined {
  try {
    const v: unknown = JSON.parse(text);
    return isRecord(v) ? v : undefined;
  } catch {
    return undefined;
  }
}

/** A list of ids from a server message's data, or undefined. */
export function parseIds(text: string): string[] | undefined {
  try {
    const v: unknown = JSON.parse(text);
    return Array.isArray(v) ? v.filter((id) => typeof id === "string") : undefined;
  } catch {
    return undefined;
  }
}

/** An event from what came over the wire, or undefined. Live, a message's text stands beside its event. */
export function parseEvent(v: unknown, text?: unknown): RoomEvent | undefined {
  if (!isRecord(v) || !filled(v.roomId) || !filled(v.kind) || !isNumber(v.number)) return undefined;
  const at = Date.parse(textOr(v.at));
  if (Number.isNaN(at)) return undefined;
  const said = typeof v.text === "string" ? v.text : typeof text === "string" ? text : undefined;
  return {
    roomId: v.roomId, number: v.number, kind: v.kind, userId: textOr(v.userId), userName: textOr(v.userName),
    seq: isNumber(v.seq) ? v.seq : 0, text: said, key: textOr(v.key), title: textOr(v.title), at,
  };
}

function filled(v: unknown): v is string {
  return typeof v === "string" && v !== "";
}

function isNumber(v: unknown): v is number {
  return Number.isSafeInteger(v) && (v as number) > 0;
}

function textOr(v: unknown): string {
  return typeof v === "string" ? v : "";
}
