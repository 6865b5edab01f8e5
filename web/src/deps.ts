// What the stores need of the world outside; tests put their own in its place.

import type { Api } from "./api";
import type { Clock } from "./clock";
import type { OpenLink } from "./connection";
import type { Kept } from "./storage";

/** Something worth a look for somebody whose page is hidden. */
export interface Alert {
  title: string;
  body: string;
  chatId: string;
}

export interface Deps {
  api: Api;
  openLink: OpenLink;
  clock: Clock;
  /** Remembers across visits; may lack. */
  storage?: Kept;
  /** Remembers as long as the tab; may lack. */
  tabStorage?: Kept;
  /** May lack, or forbid everything. */
  database?: IDBFactory;
  alert?: (alert: Alert) => void;
}

let current: Deps | undefined;

export function provideDeps(deps: Deps): void {
  current = deps;
}

export function deps(): Deps {
  if (!current) throw new Error("no dependencies provided");
  return current;
}
