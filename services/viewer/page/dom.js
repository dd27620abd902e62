/** Small help with the document. */

/** The element with this id. */
export const byId = (id) => document.getElementById(id);

/** A new element with attributes (null and false: left out) and children. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** Sets the text only where it differs, so that what a person has marked stays marked. */
export function write(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/** Shows a text; hides its element where there is none. */
export function say(node, text) {
  node.hidden = !text;
  write(node, text);
}

/** Tells a screen reader, once. */
export function announce(text) {
  write(byId("announcer"), text);
}

/** 0xRRGGBB as CSS writes it. */
export const cssColor = (color) => `#${color.toString(16).padStart(6, "0")}`;

/** A small square of a category's colour. */
export function swatch(color) {
  const made = element("span", { class: "swatch", "aria-hidden": "true" });
  made.style.backgroundColor = cssColor(color);
  return made;
}

/** "instance_segmentation" as people write it. */
export function words(name) {
  const spaced = name.replaceAll("_", " ");
  return spaced.charAt(0).toUpperCase() + spaced.slice(1);
}

/** Milliseconds for people. */
export function duration(milliseconds) {
  if (milliseconds >= 10_000) return `${(milliseconds / 1000).toFixed(0)} s`;
  if (milliseconds >= 1000) return `${(milliseconds / 1000).toFixed(1)} s`;
  return milliseconds >= 10 ? `${milliseconds.toFixed(0)} ms` : `${milliseconds.toFixed(1)} ms`;
}

/** Remembers a choice in this browser; where it keeps nothing, the choice lasts as long as the page. */
export function remember(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // private browsing
  }
}

/** A choice that was remembered, or null. */
export function remembered(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}
