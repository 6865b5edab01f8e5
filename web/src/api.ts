// The REST side of the services, as docs/chat.md sections 2 to 4 describe it.

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

export interface WirePerson {
  userName: string;
  userProvider: string;
  idle: boolean;
}

export type MemberState = "joined" | "invited";

export interface WireMember {
  userId: string;
  userName: string;
  state?: MemberState;
}

export type ChatKind = "public" | "private" | "direct";

/** A chat as the services describe it; chatCreated leaves the asker's own fields out. */
export interface WireChat {
  id: string;
  name: string;
  owner: string;
  kind?: ChatKind;
  members: Record<string, WireMember>;
  lastSeq?: number;
  readSeq?: number;
  state?: MemberState | "none";
}

export interface WireMessage {
  seq: number;
  userId: string;
  userName: string;
  text: string;
  key: string;
  sentAt: string;
}

/** A page of history, ascending; next is the `before` of the page that precedes it. */
export interface WirePage {
  messages: WireMessage[];
  next?: number;
}

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
  try {
    response = await fetch(path, {
      ...init,
      headers: { Accept: "application/json", ...init.headers },
      signal: AbortSignal.timeout(timeoutMs),
    });
  } catch {
    throw new ApiError(0, "The server cannot be reached. Check your connection and try again.");
  }
  const body: unknown = await response.json().catch(() => null);
  if (!response.ok) {
    throw new ApiError(response.status, detailOf(body) ?? `The server answered ${response.status}. Try again in a moment.`);
  }
  return body as T;
}

function detailOf(body: unknown): string | undefined {
  if (typeof body === "object" && body !== null && "detail" in body && typeof body.detail === "string" && body.detail) {
    return body.detail;
  }
  return undefined;
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

  async chats(): Promise<WireChat[]> {
    return Object.values((await call<{ chats: Record<string, WireChat> }>("/api/chats")).chats);
  },

  chat(id: string): Promise<WireChat> {
    return call<WireChat>(`/api/chats/${encodeURIComponent(id)}`);
  },

  async users(): Promise<[string, WirePerson][]> {
    return Object.entries((await call<{ users: Record<string, WirePerson> }>("/api/users")).users);
  },

  async blocked(): Promise<string[]> {
    return (await call<{ blocked: string[] | null }>("/api/blocked")).blocked ?? [];
  },

  /** A page of history: the newest, or the one before the given sequence. */
  messages(chatId: string, before?: number, limit = 50): Promise<WirePage> {
    const query = new URLSearchParams({ limit: String(limit) });
    if (before !== undefined) query.set("before", String(before));
    return call<WirePage>(`/api/chats/${encodeURIComponent(chatId)}/messages?${query}`);
  },

  /** The address of a new socket; good for one connection. */
  async negotiate(): Promise<string> {
    return (await call<{ url: string }>("/api/negotiate", { method: "POST" })).url;
  },
};

export type Api = typeof api;
