// Times and names as people read them: words in the language of the page, the clock as their device has it.

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const weekday = new Intl.DateTimeFormat("en", { weekday: "long" });
const dayMonth = new Intl.DateTimeFormat("en", { day: "numeric", month: "long" });
const full = new Intl.DateTimeFormat("en", { dateStyle: "long" });
const exact = new Intl.DateTimeFormat("en", { dateStyle: "full", timeStyle: "short" });
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });

const minute = 60_000;

/** "now", "3 min. ago" within the hour, then the time of day. */
export function ago(at: number, now: number): string {
  const minutes = Math.floor((now - at) / minute);
  if (minutes < 1) return "now";
  if (minutes < 60) return relative.format(-minutes, "minute");
  return clock.format(at);
}

export function timeOfDay(at: number): string {
  return clock.format(at);
}

export function exactTime(at: number): string {
  return exact.format(at);
}

/** "Today", "Yesterday", a weekday within the week, then a date. */
export function day(at: number, now: number): string {
  const days = Math.round((startOfDay(now) - startOfDay(at)) / 86_400_000);
  if (days === 0) return "Today";
  if (days === 1) return "Yesterday";
  if (days > 1 && days < 7) return weekday.format(at);
  return new Date(at).getFullYear() === new Date(now).getFullYear() ? dayMonth.format(at) : full.format(at);
}

export function sameDay(a: number, b: number): boolean {
  return startOfDay(a) === startOfDay(b);
}

function startOfDay(at: number): number {
  return new Date(at).setHours(0, 0, 0, 0);
}

/** One or two letters that stand for a name. */
export function initials(name: string): string {
  const words = name.trim().split(/\s+/);
  const letters = words.length > 1 ? [words[0], words.at(-1)] : [words[0]];
  return letters.map((w) => Array.from(w ?? "")[0] ?? "").join("").toUpperCase();
}

/** One of eight colours, always the same for the same id. */
export function hue(id: string): number {
  let h = 0;
  for (let i = 0; i < id.length; i++) h = (h * 31 + id.charCodeAt(i)) >>> 0;
  return h % 8;
}

/** Order of names: as in the reader's language, and "Topic 9" before "Topic 10". */
export const byName = new Intl.Collator(undefined, { numeric: true }).compare;

export function count(n: number): string {
  return n > 99 ? "99+" : String(n);
}
