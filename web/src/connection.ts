// The live connection: the official client SDK behind the few things the page needs from it.
//
// A connection survives its sockets. The SDK recovers a lost one by itself and says nothing meanwhile, so the page
// learns what is going on from the subprotocol object it hands to the SDK: it is asked for its name whenever a socket
// is being opened, and for the meaning of whatever arrives.

import {
  InvocationError,
  SendMessageError,
  WebPubSubClient,
  WebPubSubJsonReliableProtocol,
  type JSONTypes,
  type WebPubSubClientProtocol,
} from "@azure/web-pubsub-client";
import { ApiError } from "./api";
import { isRecord, parseEvent, parseRecord, type RoomEvent } from "./wire";

export type LinkState = "connecting" | "online" | "reconnecting" | "closed";

export interface Listener {
  /** Each "online" after the first may follow a gap in what was heard. */
  state(state: LinkState): void;
  /** Something that has happened in a room. */
  event(event: RoomEvent): void;
  /** Somebody is typing in a room that we look at, or does so no longer. */
  typing(roomId: string, userId: string, typing: boolean): void;
  /** A message from the server, docs/chat.md section 7. */
  server(event: string, data: string): void;
  /** The session is over: sign in again. */
  ended(): void;
}

/** The server said no; sending the same again will not help. The message is made for people. */
export class Refused extends Error {
  override readonly name = "Refused";

  constructor(
    message: string,
    readonly code = "",
  ) {
    super(message);
  }
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
  /** Says something to a group that need not arrive. */
  whisper(group: string, data: JSONTypes): void;
  /** Sends an event that is answered, and returns the answer. */
  invoke(name: string, data: JSONTypes): Promise<unknown>;
}

export type OpenLink = (negotiate: () => Promise<string>, listener: Listener) => Link;

const ackTimeoutMs = 10_000; // people wait for it; what comes later counts all the same
const pingEveryMs = 4000;
const deafAfterMs = 4500; // without an answer to a ping; with the time between two a frozen server is seen within 10 s
const hopelessAfterMs = 20_000; // then another socket is tried
const slowestRetryMs = 10_000;

export class Connection implements Link {
  readonly #client: WebPubSubClient;
  readonly #listener: Listener;
  readonly #errors = new Map<string, string>(); // the newest `error` text per event name, until its ack takes it
  #state: LinkState = "connecting";
  #stopped = false;
  #deaf: ReturnType<typeof setTimeout> | undefined;

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
        keepAliveTimeoutInMs: hopelessAfterMs,
      },
    );
    this.#client.on("disconnected", () => this.#enter("reconnecting")); // lost for good: a new one is asked for
    this.#client.on("server-message", ({ message }) => this.#server(message.data));
    this.#client.on("group-message", ({ message }) => this.#group(message.fromUserId, message.data));
  }

  /** Connects, and stays connected until stop. */
  start(): void {
    void this.#start();
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#deaf);
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

  whisper(group: string, data: JSONTypes): void {
    this.#client.sendToGroup(group, data, "json", { fireAndForget: true }).catch(() => undefined);
  }

  async invoke(name: string, data: JSONTypes): Promise<unknown> {
    try {
      return (await this.#client.invokeEvent(name, data, "json", { abortSignal: AbortSignal.timeout(ackTimeoutMs) })).data;
    } catch (err) {
      const detail = err instanceof InvocationError ? err.errorDetail : undefined;
      if (!detail) throw new Lost("No answer from the server yet.");
      throw new Refused(detail.message ?? "The server refused this.", detail.name);
    }
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
    const heard = () => this.#heard();
    const pinged = () => (this.#deaf ??= setTimeout(() => this.#enter("reconnecting"), deafAfterMs));
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
      writeMessage(message) {
        if (message.kind === "ping") pinged();
        return inner.writeMessage(message);
      },
    };
  }

  // A server that hangs keeps its sockets, and a browser takes a minute to give one up: so whoever does not answer a ping
  // counts as away, until something is heard again.
  #heard(): void {
    clearTimeout(this.#deaf);
    this.#deaf = undefined;
    this.#enter("online");
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
    if (!isRecord(data)) return;
    if (data.event !== undefined) this.#event(data);
    if (typeof data.chatEvent !== "string" || typeof data.data !== "string") return;
    if (data.chatEvent === "error") {
      const error = parseRecord(data.data);
      if (typeof error?.event === "string" && typeof error.message === "string") {
        this.#errors.set(error.event, error.message);
      }
      return;
    }
    this.#listener.server(data.chatEvent, data.data);
  }

  // What the service says in a group has no sender; what has one was said by a client, whatever it looks like.
  #group(fromUserId: string | undefined, data: unknown): void {
    if (fromUserId || !isRecord(data)) return;
    this.#event(data);
    if (data.notificationType !== "RoomMemberTyping" || !isRecord(data.body)) return;
    const { roomId, userId, typing } = data.body;
    if (typeof roomId === "string" && typeof userId === "string") this.#listener.typing(roomId, userId, typing === true);
  }

  #event(data: Record<string, unknown>): void {
    const event = parseEvent(data.event, data.message);
    if (event) this.#listener.event(event);
  }
}

export const openConnection: OpenLink = (negotiate, listener) => new Connection(negotiate, listener);
