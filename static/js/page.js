// What every page has: its data, its parts by name, the theme button, local times, a way to speak to screen readers.

import { exactTime, localDateTime } from "./format.js";
import { mountThemeButton } from "./theme.js";

/**
 * The element `data-part="name"` below a root; a missing one is a defect of the template.
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
 * Change a text only if it differs: an unchanged row costs no layout and a selection in it survives.
 * @param {Element} element
 * @param {string} text
 */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Show a moment in local time, and in UTC on hover.
 * @param {Element} element a `<time>`
 * @param {string} iso RFC 3339
 */
export function setTime(element, iso) {
  if (!(element instanceof HTMLTimeElement)) throw new Error("a moment stands in a <time>");
  element.dateTime = iso;
  element.title = exactTime(iso);
  setText(element, localDateTime(iso));
}

const DRAW_EVERY_MS = 100; // fast enough for the eye; every frame would keep a busy page from ever resting

/**
 * Make a drawing function that may be asked for at any rate: it runs soon, and at most ten times a second.
 * @param {() => void} draw
 * @returns {() => void}
 */
export function paced(draw) {
  let isAsked = false;
  let last = -Infinity;
  return () => {
    if (isAsked) return;
    isAsked = true;
    setTimeout(() => {
      isAsked = false;
      last = performance.now();
      draw();
    }, last + DRAW_EVERY_MS - performance.now());
  };
}

const ANNOUNCE_EVERY_MS = 4000; // a screen reader needs about that long for a sentence; newer ones replace older ones
let nextAnnouncement = "";
let announcing = 0;

/**
 * Have a sentence read aloud, politely and not too often.
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

const button = document.getElementById("theme-button");
if (button instanceof HTMLButtonElement) mountThemeButton(button);

for (const time of document.querySelectorAll("time[data-local]")) setTime(time, /** @type {HTMLTimeElement} */ (time).dateTime);
