// What a key press means, across browsers, systems and input methods.

/**
 * Whether a key press belongs to an input method: it ends or changes a composition (Japanese, Chinese, Korean), and is
 * not meant for us. Safari ends the composition before it tells of the key, so that only the code 229 is left of it.
 */
export function composing(e: KeyboardEvent): boolean {
  return e.isComposing || e.keyCode === 229;
}

/** Whether the person is typing into a field. */
export function typing(e: KeyboardEvent): boolean {
  return writing(e.target);
}

/** Whether something is a field to write in. */
export function writing(target: EventTarget | null): boolean {
  return target instanceof HTMLInputElement || target instanceof HTMLTextAreaElement || (target instanceof HTMLElement && target.isContentEditable);
}

const mac = /mac|iphone|ipad/i.test(navigator.platform);

/**
 * Whether Alt and a letter were pressed as a shortcut. On a Mac they write letters (ñ, ü), and so does AltGr elsewhere, so
 * that in a field they are not for us.
 */
export function altLetter(e: KeyboardEvent, letter: string): boolean {
  return e.altKey && !e.ctrlKey && !e.metaKey && e.code === `Key${letter}` && !(mac && typing(e));
}
