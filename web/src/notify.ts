// Notifications of the browser, for people whose page is hidden.

import type { Alert } from "./deps";

export type Permission = "unsupported" | "default" | "granted" | "denied";

export function permission(): Permission {
  return available() ? Notification.permission : "unsupported"; // over http it is "denied", which nobody can change
}

function available(): boolean {
  return isSecureContext && typeof window.Notification === "function";
}

/** Asks; to be called when somebody has pressed a button for it. */
export async function askPermission(): Promise<Permission> {
  return available() ? Notification.requestPermission() : "unsupported";
}

const mostBody = 140;

/** Shows an alert if the page is hidden and may do so. One per chat: a newer one takes the place of an older. */
export function notify(alert: Alert, onClick: () => void): void {
  if (!document.hidden || permission() !== "granted") return;
  try {
    const body = alert.body.length > mostBody ? `${alert.body.slice(0, mostBody)}…` : alert.body;
    const shown = new Notification(alert.title, { body, tag: alert.chatId });
    shown.onclick = () => {
      window.focus();
      onClick();
      shown.close();
    };
  } catch {
    // Some phones allow them from a service worker only; the badge in the title remains.
  }
}
