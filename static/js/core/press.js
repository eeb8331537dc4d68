// What a person presses stays where it is. A browser sends a click only if the pointer goes down and up on one element: a list
// that moves in between, or a button that hides, loses the click or gives it to a neighbour. So whatever draws without being
// asked to waits until the control is released, and its click has arrived.

const CONTROLS = "button, a[href], label, summary, input[type=checkbox], [role=tab]"; // a select's own list takes the release
const CLICK_MS = 50; // a tap's click comes a moment after the finger has left; a mouse's comes at once

/** @type {Set<() => void>} drawings that wait */
const waiting = new Set();
/** @type {"pointer" | "key" | null} what presses a control */
let by = null;
let timer = 0;

/** @param {EventTarget | null} target @param {"pointer" | "key"} means */
function press(target, means) {
  if (!(target instanceof Element) || !target.closest(CONTROLS)) return;
  clearTimeout(timer);
  by = means;
}

/** The control is released: its click comes now, or not at all. */
function release() {
  if (by === null) return;
  clearTimeout(timer);
  timer = window.setTimeout(() => {
    by = null;
    for (const draw of waiting) queueMicrotask(draw); // one that fails keeps no other from drawing
    waiting.clear();
  }, CLICK_MS);
}

if (globalThis.document) {
  const capture = { capture: true, passive: true };
  addEventListener("pointerdown", ({ target, isPrimary, button }) => { if (isPrimary && button === 0) press(target, "pointer"); }, capture);
  addEventListener("keydown", ({ target, key }) => { if (key === " ") press(target, "key"); }, capture); // a button clicks when Space is released
  for (const type of ["pointerup", "pointercancel", "keyup"]) addEventListener(type, release, capture);
  for (const type of ["blur", "pagehide"]) addEventListener(type, release); // of the window: the release is somewhere else
  addEventListener("pointermove", ({ buttons }) => { if (by === "pointer" && buttons === 0) release(); }, capture); // it was outside of the window
}

/**
 * Draw now, or as soon as no control is pressed any more.
 * @param {() => void} draw one that waits already is not added again
 */
export function whenReleased(draw) {
  if (by === null) draw();
  else waiting.add(draw);
}

/** @returns {Promise<void>} over when no control is pressed any more */
export const released = () => new Promise((resolve) => whenReleased(resolve));
