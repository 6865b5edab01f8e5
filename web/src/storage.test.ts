import { expect, it } from "vitest";
import { storage } from "./storage";

it("does without a storage that the browser forbids or lacks", () => {
  const forbidden = (): Storage => {
    throw new Error("denied");
  };
  expect(storage(forbidden)).toBeUndefined();
  expect(storage(() => null)).toBeUndefined();
  const kept = new Map<string, string>() as unknown as Storage;
  expect(storage(() => kept)).toBe(kept);
});
