// Brings the events of a room into their order: each once, none left out. They come live, from lists that were read, and in
// answers to what we did; in any order, doubled, and late.

import type { RoomEvent } from "../wire";

const mostAhead = 500;

export class Sequence {
  /** Everything up to this number has been taken. */
  number: number;
  /** The newest number that has been heard of. */
  known: number;
  private ahead = new Map<number, RoomEvent>(); // not #ahead: private names do not reach through a reactive proxy

  constructor(number = 0) {
    this.number = number;
    this.known = number;
  }

  /** Whether something is missing that is known to have happened. */
  get behind(): boolean {
    return this.number < this.known;
  }

  /** Whether an event would be new here. */
  isNew(e: RoomEvent): boolean {
    return e.number > this.number && !this.ahead.has(e.number);
  }

  /** Takes an event and returns those whose turn has come by it. */
  take(e: RoomEvent): RoomEvent[] {
    this.known = Math.max(this.known, e.number);
    if (e.number <= this.number) return [];
    if (this.ahead.size < mostAhead || e.number === this.number + 1) this.ahead.set(e.number, e); // what does not fit is known to be missing
    return this.due();
  }

  /** Something that was read reflects everything up to number. Returns the events whose turn has come by that. */
  reach(number: number): RoomEvent[] {
    this.number = Math.max(this.number, number);
    return this.resume();
  }

  /** Goes on from number, wherever it was. What is read and taken from then on starts there. */
  begin(number: number): RoomEvent[] {
    this.number = number;
    return this.resume();
  }

  private resume(): RoomEvent[] {
    this.known = Math.max(this.known, this.number);
    for (const n of this.ahead.keys()) if (n <= this.number) this.ahead.delete(n);
    return this.due();
  }

  private due(): RoomEvent[] {
    const due: RoomEvent[] = [];
    for (let next = this.ahead.get(this.number + 1); next; next = this.ahead.get(this.number + 1)) {
      this.ahead.delete(next.number);
      this.number = next.number;
      due.push(next);
    }
    return due;
  }
}
