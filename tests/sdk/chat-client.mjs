// A client of the chat protocol as small as its tests need, on the transport of the official one: it sends the same
// invocations, takes the same notifications, keeps the same cache of rooms, and is as strict where that one is.

import { EventEmitter } from "node:events";

export class ChatError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

export class ChatClient extends EventEmitter {
  rooms = new Map(); // by id, of those that may be written to
  received = []; // every notification, for tests that count
  #connection;
  #sdk;
  #starting;
  #stopped;

  // sdk is the module of the transport, access a function that returns a client access URL.
  constructor(sdk, access, options) {
    super();
    this.#sdk = sdk;
    this.#connection = new sdk.WebPubSubClient({ getClientAccessUrl: access }, options);
    this.#connection.on("group-message", ({ message }) => this.#notified(message.data));
    this.#connection.on("server-message", ({ message }) => this.#notified(message.data));
    this.#connection.on("connected", (e) => this.emit("connected", e));
    this.#connection.on("stopped", () => {
      this.rooms.clear();
      this.#stopped?.();
    });
  }

  // Everything that concerns the chat is asked for by an invocation; a failed one has a code.
  async invoke(event, data, type = "json") {
    let result;
    try {
      result = (await this.#connection.invokeEvent(event, data, type)).data;
    } catch (error) {
      if (error instanceof this.#sdk.InvocationError && error.errorDetail?.name) throw new ChatError(error.errorDetail.name, error.errorDetail.message);
      throw error;
    }
    if (typeof result?.code === "string") throw new ChatError(result.code, `a success with the code ${result.code}`);
    return result;
  }

  start() {
    return (this.#starting ??= this.#start());
  }

  async #start() {
    await this.#connection.start();
    try {
      const login = await this.invoke("chat.login", "", "text");
      if (!login.userId) throw new Error("the login names no user");
      const rooms = await Promise.all((login.roomIds ?? []).map((id) => this.invoke("chat.getRoom", { id, withMembers: false })));
      this.userId = login.userId;
      for (const room of rooms) this.#keep(room);
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  async stop() {
    if (!this.#starting) return;
    const stopped = new Promise((resolve) => (this.#stopped = resolve));
    this.#starting = undefined;
    this.#connection.stop();
    await stopped;
  }

  #keep(room) {
    if (!room.roomId || !room.defaultConversationId) throw new Error(`not a room: ${JSON.stringify(room)}`);
    this.rooms.set(room.roomId, room);
  }

  #notified(data) {
    if (!this.#starting || typeof data?.notificationType !== "string") return; // not for this protocol
    this.received.push(data);
    const { notificationType: type, body } = data;
    if (type === "RoomJoined") this.#keep(body);
    if (type === "RoomLeft") this.rooms.delete(body.roomId);
    if (type === "MessageCreated") {
      if (!body.conversation.roomId || !body.message.messageId || typeof body.message.content.text !== "string" || !body.message.messageBodyType)
        throw new Error(`not a message: ${JSON.stringify(body)}`);
    }
    this.emit(type, body);
  }

  #conversation(roomId) {
    const id = this.rooms.get(roomId)?.defaultConversationId;
    if (!id) throw new ChatError("UnknownRoom", `${roomId} is not among the rooms of this client`);
    return { conversationId: id };
  }

  async createRoom(title, members, roomId) {
    const room = await this.invoke("chat.createRoom", { title, members: [...new Set([...members, this.userId])], ...(roomId && { roomId }) });
    this.#keep(room);
    this.emit("RoomJoined", room); // by itself: the connection that asks is not notified
    return room;
  }

  getRoom(id) {
    return this.invoke("chat.getRoom", { id, withMembers: true });
  }

  async addUser(roomId, userId) {
    const self = userId === this.userId;
    try {
      await this.invoke("chat.manageRoomMember", { roomId, operation: "Add", userId });
    } catch (error) {
      if (!self || error.code !== "UserAlreadyInRoom") throw error;
    }
    if (self && !this.rooms.has(roomId)) this.#keep(await this.invoke("chat.getRoom", { id: roomId, withMembers: false }));
  }

  async removeUser(roomId, userId) {
    await this.invoke("chat.manageRoomMember", { roomId, operation: "Delete", userId });
    if (userId === this.userId) this.rooms.delete(roomId);
  }

  async send(roomId, text) {
    const { id } = await this.invoke("chat.sendTextMessage", { conversation: this.#conversation(roomId), content: text });
    if (!id || typeof id !== "string") throw new Error(`the message got the id ${id}`);
    // By itself, as the connection that sends is not notified.
    this.emit("MessageCreated", { conversation: { roomId }, message: { messageId: id, createdBy: this.userId, content: { text } } });
    return id;
  }

  // history returns the pages of a room's messages.
  async *pages(roomId, { start = null, end = null, size = 100 } = {}) {
    let query = { conversation: this.#conversation(roomId), start, end, maxCount: size };
    while (query) {
      const { messages, nextQuery } = await this.invoke("chat.queryMessageHistory", { ...query, maxCount: size });
      if (messages.length === 0) return;
      yield messages;
      query = nextQuery;
    }
  }
}
