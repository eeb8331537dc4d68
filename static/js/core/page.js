// What pages use: parts by name, templates, local times, drawing at a limited rate, announcements to screen readers.

import { exactTime, localDateTime } from "./format.js";
import { whenReleased } from "./press.js";

/**
 * The element `data-part="name"` below a root; throws if the template lacks it.
 * @param {ParentNode} root
 * @param {string} name
 * @returns {HTMLElement}
 */
export function part(root, name) {
  const found = root.querySelector(`[data-part="${name}"]`);
  if (!(found instanceof HTMLElement)) throw new Error(`the template lacks ${name}`);
  return found;
}

/**
 * A fresh copy of the first element of `<template id="...">`.
 * @param {string} id
 * @returns {HTMLElement}
 */
export function cloneTemplate(id) {
  const template = document.getElementById(id);
  if (!(template instanceof HTMLTemplateElement)) throw new Error(`the page lacks <template id="${id}">`);
  const element = document.importNode(template.content, true).firstElementChild;
  if (!(element instanceof HTMLElement)) throw new Error(`<template id="${id}"> is empty`);
  return element;
}

/**
 * Change a text only if it differs: that saves a layout and keeps a selection in it.
 * @param {Element} element
 * @param {string} text
 */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Give an element these children. Those that stay in place are not moved: a moved one loses the focus and what is pressed in it.
 * @param {Element} parent
 * @param {Element[]} wanted
 */
export function setChildren(parent, wanted) {
  let at = parent.firstElementChild;
  for (const child of wanted) {
    if (child === at) at = at.nextElementSibling;
    else parent.insertBefore(child, at);
  }
  while (at) {
    const next = at.nextElementSibling;
    at.remove();
    at = next;
  }
}

/**
 * Show a time in local time, with UTC as its tooltip.
 * @param {Element} element a `<time>`
 * @param {string} iso RFC 3339
 */
export function setTime(element, iso) {
  if (!(element instanceof HTMLTimeElement)) throw new Error("a time needs a <time> element");
  element.dateTime = iso;
  element.title = exactTime(iso);
  setText(element, localDateTime(iso));
}

const DRAW_EVERY_MS = 100; // fast enough for the eye; drawing every frame would keep a busy page from ever being idle
const DRAW_LATEST_MS = 500;
// For so many times as long as a drawing took, with the layout and the paint of its frame, nothing is drawn: a drawing of many
// rows takes some 30 ms of a slow machine, and ten a second left it too little for what is sent.
const REST = 7;
/** @type {Set<() => void>} drawn together: each drawing by itself would need a frame of its own */
const asked = new Set();
let timer = 0;
let drawnAt = -Infinity;
let every = DRAW_EVERY_MS;

/**
 * Throttle a drawing function: it runs soon after a call, at most ten times a second, less often where drawing is slow, and
 * never while a control is pressed.
 * @param {() => void} draw
 * @returns {() => void}
 */
export function paced(draw) {
  return () => {
    asked.add(draw);
    timer ||= window.setTimeout(() => whenReleased(drawAsked), drawnAt + every - performance.now());
  };
}

function drawAsked() {
  const began = performance.now();
  timer = 0;
  drawnAt = began;
  for (const draw of asked) queueMicrotask(draw); // one that fails keeps no other from drawing
  asked.clear();
  requestAnimationFrame(() => setTimeout(() => {
    every = Math.min(DRAW_LATEST_MS, Math.max(DRAW_EVERY_MS, (REST + 1) * (performance.now() - began)));
  }));
}

const ANNOUNCE_EVERY_MS = 4000; // a screen reader needs about that long for a sentence; a newer sentence replaces a waiting one
let nextAnnouncement = "";
let announcing = 0;

/**
 * Announce a sentence to screen readers, politely and at a limited rate.
 * @param {string} sentence
 */
export function announce(sentence) {
  nextAnnouncement = sentence;
  if (announcing) return;
  const speak = () => {
    announcing = 0;
    const region = document.getElementById("announcer");
    if (!region || !nextAnnouncement) return;
    setText(region, nextAnnouncement);
    nextAnnouncement = "";
    announcing = window.setTimeout(speak, ANNOUNCE_EVERY_MS);
  };
  announcing = window.setTimeout(speak, 100);
}
