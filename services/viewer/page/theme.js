/** Dark and light: as the system says, or as a person chose. */

import { byId, remember, remembered } from "./dom.js";

const THEMES = ["system", "light", "dark"];

/** Takes up the theme that was chosen last. */
export function startTheme() {
  const last = remembered("theme");
  setTheme(THEMES.includes(last) ? last : "system");
  byId("theme").addEventListener("click", nextTheme);
}

/** Goes on to the next theme. */
export function nextTheme() {
  const now = document.documentElement.dataset.theme ?? "system";
  setTheme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  byId("theme").setAttribute("aria-label", `Theme: ${theme}`);
  byId("theme").title = `Theme: ${theme}`;
  remember("theme", theme);
}
