// A room as one person sees it.

import type { MemberState, RoomKind, WireRoom } from "../wire";

export interface Peer {
  userId: string;
  userName: string;
  state: MemberState | "none"; // none: has left
}

export interface Last {
  seq: number;
  userId: string;
  userName: string;
  text: string;
}

export interface Chat {
  id: string;
  name: string;
  kind: RoomKind;
  owner: string;
  state: MemberState | "none"; // our own membership
  maySpeak: boolean;
  members: number;
  lastEvent: number; // what is said here is as of this event
  lastSeq: number;
  readSeq: number;
  unread: number;
  at: number; // when something was last said, for the order of the list
  last?: Last;
  peer?: Peer; // the other person of a direct chat
}

/** A room as a list has it. */
export function chatOf(r: WireRoom): Chat {
  return {
    id: r.id, name: r.name, kind: r.kind, owner: r.owner, state: r.state, maySpeak: r.maySpeak ?? true, members: r.members, lastEvent: r.lastEvent,
    lastSeq: r.lastSeq, readSeq: r.readSeq, unread: r.unread ?? Math.max(0, r.lastSeq - r.readSeq), at: timeOf(r.last?.at ?? r.at),
    last: r.last ? { seq: r.last.seq, userId: r.last.userId, userName: r.last.userName, text: r.last.text } : undefined,
    peer: r.peer && { ...r.peer },
  };
}

/** ms since 1970; 0 where there is no time. */
export function timeOf(at: string): number {
  const ms = Date.parse(at);
  return Number.isNaN(ms) ? 0 : ms;
}
