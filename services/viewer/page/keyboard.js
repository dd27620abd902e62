/** The keyboard: one table says what keys do, what the help shows, and what runs. */

import { byId, element } from "./dom.js";

/**
 * Listens to the keyboard and fills the help. shortcuts: [{keys: what `KeyboardEvent.key` may be, shown: as the help
 * writes them, text, run}]. Single keys are left alone while a person types, and where they are switched off.
 */
export function listen(shortcuts) {
  const rows = shortcuts.flatMap(({ shown, text }) => [
    element("dt", {}, ...shown.map((key) => element("kbd", {}, key))),
    element("dd", {}, text),
  ]);
  byId("shortcuts").replaceChildren(...rows);
  document.addEventListener("keydown", (event) => {
    const isModified = event.ctrlKey || event.metaKey || event.altKey;
    if (event.defaultPrevented || isModified || !byId("shortcuts-on").checked || usesKeys(event)) return;
    // The help covers the page: Escape closes it, as the browser does, and nothing happens behind it.
    if (byId("help").open && event.key !== "?") return;
    const found = shortcuts.find(({ keys }) => keys.includes(event.key));
    if (!found) return;
    event.preventDefault();
    found.run(event.key);
  });
}

/** Whether the focused element needs this key itself. */
function usesKeys({ target, key }) {
  if (target.matches("input[type=range]")) return key.startsWith("Arrow");
  if (target.matches("button, summary, input")) return key === " " || key === "Enter";
  return target.isContentEditable;
}

/** Opens and closes the help. */
export function toggleHelp() {
  const help = byId("help");
  if (help.open) help.close();
  else help.showModal();
}
