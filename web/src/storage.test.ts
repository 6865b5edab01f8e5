import { expect, it } from "vitest";
import { allowed } from "./storage";

it("does without a storage that the browser forbids or lacks", () => {
  const forbidden = (): Storage => {
    throw new Error("denied");
  };
  expect(allowed(forbidden)).toBeUndefined();
  expect(allowed(() => null)).toBeUndefined();
  const kept = new Map<string, string>() as unknown as Storage;
  expect(allowed(() => kept)).toBe(kept);
});
