// Two addresses of a release of the chart, as an Ingress would be: the gateway's paths to a gateway, all others to the API
// service. Each leads to a gateway of its own, by kubectl port-forward. Prints, on a line each, the two
// addresses and one more that kills every pod of ours when somebody posts to it, and answers when all are well again.
//
//   KUBECTL     the command, with arguments if need be (default kubectl)
//   NAMESPACE   where the release is

import { execFile, spawn } from "node:child_process";
import { createServer, request } from "node:http";
import { connect } from "node:net";
import { createInterface } from "node:readline";
import { setTimeout } from "node:timers/promises";
import { promisify } from "node:util";

const [command, ...given] = (process.env.KUBECTL ?? "kubectl").split(" ");
const kubectl = (...args) => [command, [...given, "--namespace", process.env.NAMESPACE, ...args]];
const ours = "app.kubernetes.io/name=chatr,app.kubernetes.io/component in (gateway, events, api)";
const toGateway = /^\/((clients?|ws)([/?]|$)|api\/hubs\/|api\/(v1\/)?health$|livetrace([?]|$))/;

async function pods() {
  const { stdout } = await promisify(execFile)(...kubectl("get", "pods", "--selector", ours, "--output", "json"));
  return JSON.parse(stdout).items.map(({ metadata, status }) => ({
    name: metadata.name,
    component: metadata.labels["app.kubernetes.io/component"],
    ready: !metadata.deletionTimestamp && (status.conditions ?? []).some((c) => c.type === "Ready" && c.status === "True"),
  }));
}

/** Forwards a free port of this machine to a pod, and returns the port and the process that does it. */
async function forward(pod) {
  const child = spawn(...kubectl("port-forward", `pod/${pod}`, ":8080"), { stdio: ["ignore", "pipe", "inherit"] });
  for await (const line of createInterface({ input: child.stdout })) {
    const port = /^Forwarding from 127\.0\.0\.1:(\d+)/.exec(line)?.[1];
    if (port) {
      child.stdout.resume();
      return { port: Number(port), child };
    }
  }
  throw new Error(`kubectl port-forward pod/${pod} has ended`);
}

let forwards = []; // of now: the gateway of each front, and the API service
async function open() {
  const ready = (await pods()).filter((p) => p.ready);
  const of = (component) => ready.filter((p) => p.component === component).map((p) => p.name);
  const gateways = of("gateway");
  if (gateways.length < 2) throw new Error(`${gateways.length} gateways are ready; two are needed`);
  forwards = await Promise.all([...gateways.slice(0, 2), of("api")[0]].map(forward));
}

function close() {
  for (const { child } of forwards) child.kill();
  forwards = [];
}

function listen(server) {
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(`http://127.0.0.1:${server.address().port}`)));
}

/** A front that leads to one of the gateways. While the pods are away it answers 502. */
function front(gateway) {
  const port = (url) => (toGateway.test(url) ? forwards[gateway] : forwards[2])?.port ?? 0;
  const forwarded = (incoming) => ({
    ...incoming.headers,
    "x-forwarded-for": incoming.socket.remoteAddress, "x-forwarded-proto": "http", "x-forwarded-host": incoming.headers.host,
  });
  const server = createServer((incoming, outgoing) => {
    const upstream = request(
      { host: "127.0.0.1", port: port(incoming.url), method: incoming.method, path: incoming.url, headers: forwarded(incoming) },
      (answer) => answer.pipe(outgoing.writeHead(answer.statusCode, answer.headers)),
    );
    upstream.on("error", () => (outgoing.headersSent ? outgoing.destroy() : outgoing.writeHead(502).end()));
    incoming.pipe(upstream);
  });
  server.on("upgrade", (incoming, socket, head) => {
    const upstream = connect(port(incoming.url), "127.0.0.1", () => {
      const headers = Object.entries(forwarded(incoming)).map(([name, value]) => `${name}: ${value}\r\n`).join("");
      upstream.write(`GET ${incoming.url} HTTP/1.1\r\n${headers}\r\n`);
      upstream.write(head);
      upstream.pipe(socket).pipe(upstream);
    });
    upstream.on("error", () => socket.destroy());
    socket.on("error", () => upstream.destroy());
  });
  return listen(server);
}

const restart = createServer(async (_incoming, outgoing) => {
  try {
    const before = await pods();
    const names = before.map((p) => p.name);
    await promisify(execFile)(...kubectl("delete", "--force", "--grace-period=0", "--wait=false", "pod", ...names));
    close();
    const well = (now) => now.length === before.length && now.every((p) => p.ready && !names.includes(p.name));
    for (const end = Date.now() + 120_000; !well(await pods()); await setTimeout(200)) {
      if (Date.now() > end) throw new Error("the pods are not back within two minutes");
    }
    await open();
    outgoing.end();
  } catch (err) {
    outgoing.writeHead(500).end(String(err.stderr ?? err));
  }
});

process.on("SIGTERM", () => {
  close();
  process.exit();
});
await open();
for (const address of [await front(0), await front(1), await listen(restart)]) console.log(address);
