// The REST side of the services, as docs/chat.md describes it.

import { clock } from "./clock";
import {
  isRecord, parseEvent, type RoomEvent, type WireDirectoryRoom, type WireMember, type WirePage, type WirePerson, type WireRoom,
} from "./wire";

export interface Me {
  userId: string;
  userName: string;
  provider: string;
}

export interface Config {
  idleAfterSeconds: number;
  providers: string[];
  limits: { name: number; title: number; text: number; page: number };
}

/** A page of the rooms one is in, most recent first; next is the `after` of the following page. */
export interface RoomsPage {
  revision: number;
  rooms: WireRoom[];
  next?: string;
}

/** What has changed in one's own list since a revision. */
export interface RoomsChange {
  revision: number;
  rooms: WireRoom[];
  gone: string[];
  more: boolean;
}

/** Where in a room's messages to read: the newest if nothing is said. */
export type Where = { before: number } | { after: number } | { around: number } | undefined;

/** An answer other than success, or none at all (status 0). Its message is made for people. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
    this.name = "ApiError";
  }
}

/** Whether an answer says that something is not there, or not for us. */
export function isAway(err: unknown): boolean {
  return err instanceof ApiError && (err.status === 404 || err.status === 403);
}

/** Whether an answer says that what was asked for is too old: begin again. */
export function isTooOld(err: unknown): boolean {
  return err instanceof ApiError && err.status === 410;
}

const defaults: Config = {
  idleAfterSeconds: 60,
  providers: ["guest"],
  limits: { name: 64, title: 100, text: 8000, page: 200 },
};

interface PrincipalAnswer {
  clientPrincipal: { identityProvider: string; userId: string; userDetails: string } | null;
}

function toMe({ clientPrincipal: p }: PrincipalAnswer): Me | null {
  return p && { userId: p.userId, userName: p.userDetails, provider: p.identityProvider };
}

const timeoutMs = 15_000;

async function call<T>(path: string, init: RequestInit = {}): Promise<T> {
  let response: Response;
  const asked = clock.mark();
  try {
    response = await fetch(path, {
      ...init,
      headers: { Accept: "application/json", ...init.headers },
      signal: AbortSignal.timeout(timeoutMs),
    });
  } catch {
    throw new ApiError(0, "The server cannot be reached. Check your connection and try again.");
  }
  clock.answered(response.headers.get("Date"), asked);
  const body: unknown = await response.json().catch(() => null);
  if (!response.ok) {
    throw new ApiError(response.status, detailOf(body) ?? `The server answered ${response.status}. Try again in a moment.`);
  }
  return body as T;
}

function detailOf(body: unknown): string | undefined {
  return isRecord(body) && typeof body.detail === "string" && body.detail ? body.detail : undefined;
}

function query(parameters: Record<string, string | number | undefined>): string {
  const q = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) if (value !== undefined) q.set(name, String(value));
  return q.size ? `?${q}` : "";
}

function room(id: string): string {
  return `/api/rooms/${encodeURIComponent(id)}`;
}

export const api = {
  async config(): Promise<Config> {
    const c = await call<Partial<Config>>("/api/config");
    return { ...defaults, ...c, limits: { ...defaults.limits, ...c.limits } };
  },

  /** Who the session says is here, or null. */
  async me(): Promise<Me | null> {
    return toMe(await call<PrincipalAnswer>("/.auth/me"));
  },

  async signInAsGuest(name: string): Promise<Me> {
    const me = toMe(
      await call<PrincipalAnswer>("/.auth/login/guest", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ name }),
      }),
    );
    if (!me) throw new ApiError(0, "Signing in did not work. Try again.");
    return me;
  },

  rooms(after?: string, limit = 100): Promise<RoomsPage> {
    return call(`/api/rooms${query({ after, limit })}`);
  },

  /** Throws an ApiError that isTooOld when the revision is. */
  roomsSince(since: number): Promise<RoomsChange> {
    return call(`/api/rooms${query({ since })}`);
  },

  room(id: string): Promise<WireRoom> {
    return call(room(id));
  },

  /** Public rooms that one is not in. */
  directory(q?: string, after?: string, limit = 100): Promise<{ rooms: WireDirectoryRoom[]; next?: string }> {
    return call(`/api/directory${query({ q, after, limit })}`);
  },

  members(id: string, after?: string, limit = 200): Promise<{ members: WireMember[]; next?: string }> {
    return call(`${room(id)}/members${query({ after, limit })}`);
  },

  messages(id: string, where?: Where, limit = 50): Promise<WirePage> {
    return call(`${room(id)}/messages${query({ ...where, limit })}`);
  },

  /** Events after a number, ascending, and the newest number there is. Throws an ApiError that isTooOld when they are gone. */
  async events(id: string, after: number, limit = 200): Promise<{ events: RoomEvent[]; last: number }> {
    const { events, last } = await call<{ events: unknown[]; last: number }>(`${room(id)}/events${query({ after, limit })}`);
    return { events: events.map((e) => parseEvent(e)).filter((e) => e !== undefined), last };
  },

  async users(): Promise<[string, WirePerson][]> {
    return Object.entries((await call<{ users: Record<string, WirePerson> }>("/api/users")).users);
  },

  async blocked(): Promise<string[]> {
    return (await call<{ blocked: string[] | null }>("/api/blocked")).blocked ?? [];
  },

  /** The address of a new socket; good for one connection. */
  async negotiate(): Promise<string> {
    return (await call<{ url: string }>("/api/negotiate", { method: "POST" })).url;
  },
};

export type Api = typeof api;
