// People who sit at other clients: a page of the original Chatr, and an application on the protocol of the official chat
// client. They speak on the wire as those do, from a bare page of a browser that has sockets and nothing else.

const bare = "/api/config"; // an answer of the server itself: a browser would not let a page from elsewhere reach into this machine

export class OtherClient {
  /** Lets somebody come in with the given client: "original" or "official". */
  static async at(browser, url, name, kind) {
    const context = await browser.newContext();
    context.setDefaultTimeout(60_000);
    const signedIn = await context.request.post(new URL("/.auth/login/guest", url).href, { data: { name } });
    const { userId } = (await signedIn.json()).clientPrincipal;
    const page = await context.newPage();
    await page.goto(new URL(bare, url).href);
    const address = kind === "original"
      ? (await (await context.request.get(new URL(`/api/getToken?userId=${userId}`, url).href)).json()).url
      : (await (await context.request.post(new URL("/api/negotiate", url).href)).json()).url;
    await page.evaluate(connect, { address, kind, name });
    return Object.assign(new OtherClient(), { context, page, kind, userId, name });
  }

  /** Joins a public chat. */
  join(chatId) {
    return this.page.evaluate((id) => window.client.join(id), chatId);
  }

  say(chatId, text) {
    return this.page.evaluate(([id, t]) => window.client.say(id, t), [chatId, text]);
  }

  /** What has been heard in a chat, in the order of this client: as it came, or by its message ids. */
  heard(chatId) {
    return this.page.evaluate((id) => window.client.heard(id), chatId);
  }

  /** What the history has, oldest first; of the official client only. */
  history(chatId) {
    return this.page.evaluate((id) => window.client.history(id), chatId);
  }
}

/** Runs in the page. */
async function connect({ address, kind, name }) {
  const official = kind === "official";
  const socket = new WebSocket(address, official ? "json.reliable.webpubsub.azure.v1" : "json.webpubsub.azure.v1");
  const lines = [];
  const answers = new Map();
  let ids = 0;
  const send = (frame) => socket.send(JSON.stringify(frame));
  const invoke = (event, data) => new Promise((resolve, reject) => {
    const invocationId = String(++ids);
    answers.set(invocationId, (a) => (a.success ? resolve(a.data) : reject(new Error(`${event}: ${JSON.stringify(a.error)}`))));
    send({ type: "invoke", invocationId, target: "event", event, dataType: typeof data === "string" ? "text" : "json", data });
  });
  const usable = new Promise((resolve, reject) => {
    socket.onerror = () => reject(new Error(`no socket for ${name}`));
    socket.onopen = () => {
      if (official) invoke("chat.login", "").then(resolve, reject);
      else send({ type: "event", event: "userConnected", dataType: "json", data: { userName: name, userProvider: "guest" } });
    };
    socket.onmessage = ({ data: text }) => {
      const frame = JSON.parse(text);
      if (frame.sequenceId) send({ type: "sequenceAck", sequenceId: frame.sequenceId });
      if (frame.type === "invokeResponse") answers.get(frame.invocationId)?.(frame);
      if (frame.type !== "message") return;
      const { data } = frame;
      if (official) {
        if (data?.notificationType === "MessageCreated") lines.push({ chatId: data.body.conversation.roomId, text: data.body.message.content.text, id: Number(data.body.message.messageId) });
      } else if (frame.from === "group" && typeof data?.message === "string") {
        lines.push({ chatId: frame.group, text: data.message });
      } else if (data?.chatEvent === "userOnline" && JSON.parse(data.data).userName === name) {
        resolve();
      }
    };
  });
  await usable;
  const conversations = new Map();
  const conversationOf = async (chatId) => {
    if (!conversations.has(chatId)) conversations.set(chatId, (await invoke("chat.getRoom", { id: chatId, withMembers: false })).defaultConversationId);
    return conversations.get(chatId);
  };
  window.client = {
    // Every door lets people into a public chat; an application without a page of its own uses the original's event.
    join: (chatId) => send({ type: "event", event: "joinChat", dataType: "text", data: chatId }),
    async say(chatId, text) {
      if (!official) return send({ type: "sendToGroup", group: chatId, dataType: "json", data: { message: text, fromUserId: "", fromUserName: name } });
      const { id } = await invoke("chat.sendTextMessage", { conversation: { conversationId: await conversationOf(chatId) }, content: text });
      lines.push({ chatId, text, id: Number(id) }); // which is not told to who has said it
    },
    heard(chatId) {
      const here = lines.filter((l) => l.chatId === chatId);
      return (official ? here.sort((a, b) => a.id - b.id) : here).map((l) => l.text);
    },
    async history(chatId) {
      const { messages } = await invoke("chat.queryMessageHistory", { conversation: { conversationId: await conversationOf(chatId) }, maxCount: 200 });
      return messages.map((m) => m.content.text).reverse();
    },
  };
}
