import { describe, expect, it, vi } from "vitest";

const Field = class Field {
  isContentEditable = false;
};
vi.stubGlobal("HTMLInputElement", Field);
vi.stubGlobal("HTMLTextAreaElement", Field);
vi.stubGlobal("HTMLElement", Field);

async function on(platform: string): Promise<typeof import("./keys")> {
  vi.resetModules();
  vi.stubGlobal("navigator", { platform });
  return import("./keys");
}

function press(more: object): KeyboardEvent {
  return { isComposing: false, keyCode: 13, altKey: false, ctrlKey: false, metaKey: false, target: {}, ...more } as KeyboardEvent;
}

describe("keys", () => {
  it("leaves to an input method what is its own, also where the composition has ended before the key is told", async () => {
    const { composing } = await on("Linux x86_64");
    expect(composing(press({ isComposing: true }))).toBe(true);
    expect(composing(press({ keyCode: 229 }))).toBe(true);
    expect(composing(press({}))).toBe(false);
  });

  it("leaves letters to fields where Alt writes them", async () => {
    const inField = press({ altKey: true, code: "KeyN", target: new Field() });
    const elsewhere = press({ altKey: true, code: "KeyN" });
    const onMac = (await on("MacIntel")).altLetter;
    expect([onMac(inField, "N"), onMac(elsewhere, "N")]).toEqual([false, true]);
    const onLinux = (await on("Linux x86_64")).altLetter;
    expect([onLinux(inField, "N"), onLinux(elsewhere, "N"), onLinux(elsewhere, "U")]).toEqual([true, true, false]);
    expect(onLinux(press({ altKey: true, ctrlKey: true, code: "KeyN" }), "N")).toBe(false); // AltGr on Windows
  });
});
