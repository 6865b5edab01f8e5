// The protobuf subprotocols for the official client, which takes any encoder and decoder that has the form of its own
// ones. These are protobufjs with messages.proto, none of ours.

import protobuf from "protobufjs";

const root = protobuf.loadSync(new URL("messages.proto", import.meta.url).pathname);
export const Upstream = root.lookupType("UpstreamMessage");
export const Downstream = root.lookupType("DownstreamMessage");
export const Any = root.lookupType("Any");

export const WebPubSubProtobufProtocol = () => protocol("protobuf.webpubsub.azure.v1", false);
export const WebPubSubProtobufReliableProtocol = () => protocol("protobuf.reliable.webpubsub.azure.v1", true);

function protocol(name, isReliableSubProtocol) {
  return { name, isReliableSubProtocol, parseMessages, writeMessage };
}

// bytes returns an ArrayBuffer of its own; a Buffer is often part of a larger one.
const bytes = (buffer) => Uint8Array.from(buffer).buffer;

function parseMessages(input) {
  if (typeof input === "string") throw new Error(`got a text frame: ${input}`);
  const message = Downstream.toObject(Downstream.decode(new Uint8Array(input)), { longs: Number });
  const [member] = Object.keys(message);
  const value = message[member];
  switch (member) {
    case "ackMessage":
      return { kind: "ack", success: false, ...value };
    case "pongMessage":
      return { kind: "pong" };
    case "systemMessage":
      return value.connectedMessage ? { kind: "connected", ...value.connectedMessage } : { kind: "disconnected", message: value.disconnectedMessage.reason };
    case "dataMessage": {
      const { from, data, ...rest } = value;
      return { kind: from === "group" ? "groupData" : "serverData", ...rest, ...parseData(data) };
    }
    default:
      return null; // as the official ones do with what they do not know
  }
}

function parseData(data) {
  const [member] = Object.keys(data);
  const value = data[member];
  switch (member) {
    case "textData":
      return { dataType: "text", data: value };
    case "jsonData":
      return { dataType: "json", data: JSON.parse(value) };
    case "binaryData":
      return { dataType: "binary", data: bytes(value) };
    default:
      return { dataType: "protobuf", data: bytes(Any.encode(value).finish()) };
  }
}

function writeMessage(message) {
  const { kind, ...fields } = message;
  const members = {
    joinGroup: "joinGroupMessage", leaveGroup: "leaveGroupMessage", sendToGroup: "sendToGroupMessage", sendEvent: "eventMessage",
    sequenceAck: "sequenceAckMessage", ping: "pingMessage",
  };
  if (!members[kind]) throw new Error(`Unsupported type: ${kind}`);
  for (const [name, value] of Object.entries(fields)) if (value === undefined) delete fields[name];
  if (fields.dataType) fields.data = writeData(fields.data, fields.dataType);
  const frame = { [members[kind]]: fields };
  const wrong = Upstream.verify(frame);
  if (wrong) throw new Error(wrong);
  return bytes(Upstream.encode(Upstream.create(frame)).finish());
}

function writeData(data, dataType) {
  switch (dataType) {
    case "text":
      return { textData: data };
    case "json":
      return { jsonData: JSON.stringify(data) };
    case "binary":
      return { binaryData: new Uint8Array(data) };
    default:
      return { protobufData: Any.decode(new Uint8Array(data)) };
  }
}
