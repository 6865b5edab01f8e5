// What views take from their surroundings.

import { onBeforeUnmount, onMounted, readonly, ref, type Ref } from "vue";
import { deps } from "./deps";

/** The server's time in ms, good to half a minute. */
export function useNow(): Readonly<Ref<number>> {
  const { clock } = deps();
  const now = ref(clock.now());
  let timer: ReturnType<typeof setInterval>;
  onMounted(() => (timer = setInterval(() => (now.value = clock.now()), 30_000)));
  onBeforeUnmount(() => clearInterval(timer));
  return readonly(now);
}

/** Listens to an event of the window or the document while the view is there. */
export function useEvent<K extends keyof WindowEventMap>(target: Window, event: K, listener: (e: WindowEventMap[K]) => void): void;
export function useEvent<K extends keyof DocumentEventMap>(target: Document, event: K, listener: (e: DocumentEventMap[K]) => void): void;
export function useEvent(target: Window | Document, event: string, listener: (e: never) => void): void {
  onMounted(() => target.addEventListener(event, listener as EventListener));
  onBeforeUnmount(() => target.removeEventListener(event, listener as EventListener));
}
