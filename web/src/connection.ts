// The live connection: the official client SDK behind the few things the page needs from it.
//
// A connection survives its sockets. The SDK recovers a lost one by itself and says nothing meanwhile, so the page
// learns what is going on from the subprotocol object it hands to the SDK: it is asked for its name whenever a socket
// is being opened, and for the meaning of whatever arrives.

import {
  SendMessageError,
  WebPubSubClient,
  WebPubSubJsonReliableProtocol,
  type JSONTypes,
  type WebPubSubClientProtocol,
} from "@azure/web-pubsub-client";
import { ApiError } from "./api";

export type LinkState = "connecting" | "online" | "reconnecting" | "closed";

export interface Listener {
  /** Each "online" after the first may follow a gap in what was heard. */
  state(state: LinkState): void;
  /** A message from the server, docs/chat.md section 7. */
  server(event: string, data: string): void;
  /** What somebody said in a chat. */
  said(chatId: string, userId: string, text: string, key: string | undefined): void;
  /** The session is over: sign in again. */
  ended(): void;
}

/** The server said no; sending the same again will not help. The message is made for people. */
export class Refused extends Error {
  override readonly name = "Refused";
}

/** No answer: it may or may not have happened. Safe to send again. */
export class Lost extends Error {
  override readonly name = "Lost";
}

/** What the page needs of a connection; tests put their own in its place. */
export interface Link {
  start(): void;
  stop(): void;
  sendEvent(name: string, data: JSONTypes, dataType: "json" | "text"): Promise<void>;
  sendText(chatId: string, text: string, key: string, from: { userId: string; userName: string }): Promise<void>;
}

export type OpenLink = (negotiate: () => Promise<string>, listener: Listener) => Link;

const ackTimeoutMs = 20_000;
const pingEveryMs = 10_000;
const deafAfterMs = 30_000;
const slowestRetryMs = 10_000;

export class Connection implements Link {
  readonly #client: WebPubSubClient;
  readonly #listener: Listener;
  readonly #errors = new Map<string, string>(); // the newest `error` text per event name, until its ack takes it
  #state: LinkState = "connecting";
  #stopped = false;

  constructor(negotiate: () => Promise<string>, listener: Listener) {
    this.#listener = listener;
    this.#client = new WebPubSubClient(
      { getClientAccessUrl: () => this.#negotiate(negotiate) },
      {
        protocol: this.#observed(WebPubSubJsonReliableProtocol()),
        autoRejoinGroups: false, // the server puts each connection into its groups
        messageRetryOptions: { maxRetries: 0 }, // what to send again is the store's to decide
        reconnectRetryOptions: { retryDelayInMs: 1000, maxRetryDelayInMs: slowestRetryMs, mode: "Exponential" },
        keepAliveIntervalInMs: pingEveryMs,
        keepAliveTimeoutInMs: deafAfterMs,
      },
    );
    this.#client.on("disconnected", () => this.#enter("reconnecting")); // lost for good: a new one is asked for
    this.#client.on("server-message", ({ message }) => this.#server(message.data));
    this.#client.on("group-message", ({ message }) => this.#group(message.group, message.fromUserId, message.data));
  }

  /** Connects, and stays connected until stop. */
  start(): void {
    void this.#start();
  }

  stop(): void {
    this.#stopped = true;
    this.#enter("closed");
    this.#client.stop();
  }

  async sendEvent(name: string, data: JSONTypes, dataType: "json" | "text"): Promise<void> {
    this.#errors.delete(name);
    await this.#acked(
      (abortSignal) => this.#client.sendEvent(name, data, dataType, { abortSignal }),
      () => this.#errors.get(name),
    );
  }

  async sendText(chatId: string, text: string, key: string, from: { userId: string; userName: string }): Promise<void> {
    // The names are for clients of the original Chatr; the server believes none of them.
    const data = { message: text, fromUserId: from.userId, fromUserName: from.userName, key };
    await this.#acked((abortSignal) => this.#client.sendToGroup(chatId, data, "json", { abortSignal }));
  }

  // The SDK retries only after a first success, so the first one is ours.
  async #start(): Promise<void> {
    for (let delay = 1000; !this.#stopped; delay = Math.min(delay * 2, slowestRetryMs)) {
      try {
        await this.#client.start();
        return;
      } catch {
        await new Promise((resolve) => setTimeout(resolve, delay * (0.5 + Math.random() / 2)));
      }
    }
  }

  async #negotiate(negotiate: () => Promise<string>): Promise<string> {
    if (this.#state === "reconnecting") {
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 1000)); // not all at once after a restart
    }
    try {
      return await negotiate();
    } catch (err) {
      if (err instanceof ApiError && err.status === 401 && !this.#stopped) {
        this.stop();
        this.#listener.ended();
      }
      throw err;
    }
  }

  #observed(inner: WebPubSubClientProtocol): WebPubSubClientProtocol {
    const opening = () => this.#enter(this.#state === "connecting" ? "connecting" : "reconnecting");
    const heard = () => this.#enter("online");
    return {
      get name() {
        opening();
        return inner.name;
      },
      isReliableSubProtocol: inner.isReliableSubProtocol,
      parseMessages(input) {
        const messages = inner.parseMessages(input);
        heard();
        return messages;
      },
      writeMessage: (message) => inner.writeMessage(message),
    };
  }

  #enter(state: LinkState): void {
    if (this.#state === state || this.#state === "closed") return;
    this.#state = state;
    this.#listener.state(state);
  }

  async #acked(send: (signal: AbortSignal) => Promise<unknown>, reason?: () => string | undefined): Promise<void> {
    try {
      await send(AbortSignal.timeout(ackTimeoutMs));
    } catch (err) {
      const detail = err instanceof SendMessageError ? err.errorDetail : undefined;
      if (!detail) throw new Lost("No answer from the server yet.");
      throw new Refused(reason?.() ?? detail.message ?? "The server refused this.");
    }
  }

  #server(data: unknown): void {
    if (!isRecord(data) || typeof data.chatEvent !== "string" || typeof data.data !== "string") return;
    if (data.chatEvent === "error") {
      const error = parseRecord(data.data);
      if (typeof error?.event === "string" && typeof error.message === "string") {
        this.#errors.set(error.event, error.message);
      }
      return;
    }
    this.#listener.server(data.chatEvent, data.data);
  }

  // Plain text in a group is a notice for clients of the original Chatr; memberJoined and memberLeft tell us the same.
  // What somebody says by the chat protocol comes from the server, which alone can send without a fromUserId.
  #group(chatId: string, fromUserId: string | undefined, data: unknown): void {
    if (!isRecord(data) || typeof data.message !== "string") return;
    const author = fromUserId ?? (data.notificationType === "MessageCreated" ? data.fromUserId : undefined);
    if (typeof author !== "string" || !author) return;
    this.#listener.said(chatId, author, data.message, typeof data.key === "string" ? data.key : undefined);
  }
}

export const openConnection: OpenLink = (negotiate, listener) => new Connection(negotiate, listener);

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
