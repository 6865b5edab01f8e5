// What stands in a conversation, from top to bottom: messages, where some have been deleted, what people did besides, and at
// the end what is on its way.

import { messageId, type Message, type Note, type RoomLog } from "./log";

export type SendState = "sending" | "sent" | "failed";

/** A message of our own that the server may not have yet. */
export interface Pending {
  roomId: string;
  userId: string;
  key: string; // a message that the server has got after all is the same one by its key
  text: string;
  at: number;
  state: SendState;
  reason?: string; // why it failed, for people
}

export interface MessageLine {
  kind: "message";
  id: string;
  seq: number; // 0: the server has not said
  at: number;
  userId: string;
  userName: string;
  text: string;
  key: string;
  edited: boolean;
  state: SendState;
  reason?: string;
}

export interface NoteLine {
  kind: "note";
  id: string;
  seq: 0;
  at: number;
  userId: string;
  userName: string;
  what: string;
  title: string;
}

export interface GoneLine {
  kind: "gone";
  id: string;
  seq: number; // the last of them
  count: number;
  at: number;
}

export type Line = MessageLine | NoteLine | GoneLine;

export function linesOf(log: RoomLog, pending: readonly Pending[]): Line[] {
  const lines: Line[] = [];
  const here = new Set<string>();
  let notes = 0;
  let at = 0;
  const gone = (from: number, to: number): void => {
    if (from <= to) lines.push({ kind: "gone", id: `gone ${to}`, seq: to, count: to - from + 1, at });
  };
  let next = log.from;
  for (const m of log.messages) {
    for (; notes < log.notes.length && (log.notes[notes] as Note).number < m.number; notes++) lines.push(noteLine(log.notes[notes] as Note));
    if (at === 0) at = m.at;
    gone(next, m.seq - 1);
    at = m.at;
    next = m.seq + 1;
    here.add(m.id);
    lines.push(messageLine(m));
  }
  gone(next, log.to);
  for (; notes < log.notes.length; notes++) lines.push(noteLine(log.notes[notes] as Note));
  for (const p of pending) {
    const id = messageId(p.userId, p.key);
    if (!here.has(id)) lines.push({ kind: "message", id, seq: 0, userName: "", edited: false, ...p });
  }
  return lines;
}

function messageLine({ id, seq, at, userId, userName, text, key, edited }: Message): MessageLine {
  return { kind: "message", id, seq, at, userId, userName, text, key, edited, state: "sent" };
}

function noteLine({ number, at, userId, userName, what, title }: Note): NoteLine {
  return { kind: "note", id: `note ${number}`, seq: 0, at, userId, userName, what, title };
}
