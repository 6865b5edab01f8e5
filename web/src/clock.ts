// The time as the server has it. A computer's clock may be wrong by years, and be set while we look; what is said "now" must
// not be "10 minutes ago" because of that. So the page asks the server for the time and counts on from there.

/** What counts milliseconds evenly, whatever is done to the computer's clock. */
export type Counter = () => number;

const apart = 1500; // answers are no better than a second

export class Clock {
  readonly #counter: Counter;
  #ahead: number | undefined; // server time − counter

  constructor(counter: Counter = () => performance.now()) {
    this.#counter = counter;
  }

  /** The server's time in ms since 1970. Before the server has told, what the computer believes. */
  now(): number {
    return this.#ahead === undefined ? Date.now() : this.#counter() + this.#ahead;
  }

  /** Where the counter stands, for `answered`. */
  mark(): number {
    return this.#counter();
  }

  /** Takes the Date of an answer to what was asked at the mark `asked`. */
  answered(date: string | null, asked: number): void {
    const at = Date.parse(date ?? "");
    if (Number.isNaN(at)) return;
    const ahead = at + 500 - (asked + this.#counter()) / 2; // whole seconds, cut off
    if (this.#ahead === undefined || Math.abs(this.#ahead - ahead) > apart) this.#ahead = ahead;
  }

  /** Takes the time of something that has happened just now or before. */
  happened(at: number): void {
    if (this.#ahead !== undefined && at > this.now()) this.#ahead = at - this.#counter();
  }
}

export const clock = new Clock();
