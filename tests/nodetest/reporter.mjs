// A reporter for Node's test runner that writes one JSON object a line for package nodetest: what a test is called, below
// which others it stands, where it is defined, and whether it passed.

import { relative } from "node:path";
import { inspect } from "node:util";

export default async function* reporter(events) {
  const path = []; // the names from the file's outermost suite to the test at hand
  for await (const { type, data } of events) {
    switch (type) {
      case "test:start":
        path.length = data.nesting;
        path.push(data.name);
        break;
      case "test:pass":
      case "test:fail":
        yield JSON.stringify({
          path: [...path.slice(0, data.nesting), data.name],
          suite: data.details.type === "suite",
          source: `${relative(process.cwd(), data.file ?? "")}:${data.line ?? 0}`,
          skipped: data.skip !== undefined || data.todo !== undefined,
          failure: type === "test:fail" ? text(data.details.error) : undefined,
        }) + "\n";
        break;
      case "test:stdout":
      case "test:stderr":
        yield JSON.stringify({ output: data.message }) + "\n";
    }
  }
}

// text is what an error says, with what caused it.
function text(error) {
  const cause = error?.cause;
  return [error?.message, cause && (cause.stack ?? cause.message ?? inspect(cause))].filter(Boolean).join("\n") || "failed";
}
