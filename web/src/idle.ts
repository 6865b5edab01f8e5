// Tells when nobody has touched mouse, keys, screen or wheel for a while, and when somebody does again.

// People scroll by wheel, touch, key or a pressed scrollbar. A scroll event alone proves nobody: the page scrolls by
// itself when a message arrives.
const signs = ["pointerdown", "pointermove", "keydown", "touchstart", "touchmove", "wheel"] as const;

/** Watches the page until the returned function is called. onChange hears of changes only. */
export function watchIdle(afterMs: number, onChange: (idle: boolean) => void): () => void {
  let idle = false;
  let last = Date.now();
  let timer = setTimeout(check, afterMs);

  // One timer that looks at the time of the last sign; a sign itself costs next to nothing.
  function check(): void {
    const left = last + afterMs - Date.now();
    if (left > 0) {
      timer = setTimeout(check, left);
      return;
    }
    idle = true;
    onChange(true);
  }

  function active(): void {
    last = Date.now();
    if (!idle) return;
    idle = false;
    timer = setTimeout(check, afterMs);
    onChange(false);
  }

  for (const sign of signs) window.addEventListener(sign, active, { capture: true, passive: true });
  return () => {
    clearTimeout(timer);
    for (const sign of signs) window.removeEventListener(sign, active, { capture: true });
  };
}
