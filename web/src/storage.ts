// What the browser keeps for us, where it may.

export type Kept = Pick<Storage, "getItem" | "setItem">;

/**
 * Returns what get names, or undefined where the browser forbids it: in private windows, by policy, and in pages of others
 * even looking at it throws. What would be kept then lasts as long as the page.
 */
export function allowed<T>(get: () => T | null): T | undefined {
  try {
    return get() ?? undefined;
  } catch {
    return undefined;
  }
}
