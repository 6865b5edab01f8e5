// Kills the services of ours that Compose runs whenever somebody posts here, and answers when all are well again. Its
// address is its first line of output. What to run and where is in COMPOSE_FILE and COMPOSE_PROJECT_NAME.

import { execFile } from "node:child_process";
import { createServer } from "node:http";
import { promisify } from "node:util";

const compose = (...args) => promisify(execFile)("docker", ["compose", ...args]);

const server = createServer(async (_request, response) => {
  try {
    await compose("kill", "gateway-1", "gateway-2", "events", "api");
    await compose("up", "--detach", "--no-build", "--wait", "--wait-timeout", "120");
    response.end();
  } catch (err) {
    response.writeHead(500).end(String(err.stderr ?? err));
  }
});
server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}`));
