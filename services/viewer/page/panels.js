/** What stands beside the picture: the segment picked out, the classes, and the stages. */

import { byId, duration, element, swatch, words, write } from "./dom.js";
import { countCategories } from "./scene.js";

/** The details of a segment; undefined: none is picked. isGone: it is not in the scene any more. */
export function drawDetails(segment, scene, isGone) {
  const panel = byId("details");
  if (!segment) {
    panel.replaceChildren(element("p", { class: "hint" }, "Click a segment in the picture, or press n."));
    return;
  }
  const name = element("p", { class: "segment-name" }, swatch(segment.color), segment.category);
  if (segment.track) name.append(element("span", { class: "identity" }, `#${segment.track.id}`));
  if (isGone) name.append(element("span", { class: "hint" }, "not in this frame"));
  const rows = detailRows(segment, scene).map(([term, value]) => [element("dt", {}, term), element("dd", {}, value)]);
  panel.replaceChildren(name, element("dl", { class: isGone ? "gone" : null }, ...rows.flat()));
}

function detailRows(segment, { map_size: map }) {
  const [left, top, right, bottom] = segment.box.map(Math.round);
  const share = (100 * segment.area) / Math.max(1, map.width * map.height);
  const rows = [
    ["Confidence", `${(100 * segment.score).toFixed(1)} %`],
    ["Kind", segment.is_thing ? "thing" : "stuff"],
    ["Area", `${share.toFixed(2)} % of the picture`],
    ["Box", `${left}, ${top} to ${right}, ${bottom} (${right - left} × ${bottom - top} pixels)`],
    ["Segment id", String(segment.id)],
  ];
  if (segment.track) {
    const { frames, age, velocity } = segment.track;
    rows.push(["Seen for", `${duration(age)} in ${frames} frames`]);
    rows.push(["Speed", `${Math.hypot(...velocity).toFixed(0)} pixels/s ${direction(velocity)}`]);
  }
  for (const { name, value, score } of segment.attributes) {
    rows.push([words(name), `${value} (${(100 * score).toFixed(0)} %)`]);
  }
  return rows;
}

function direction([x, y]) {
  if (Math.hypot(x, y) < 1) return "";
  const arrows = ["→", "↘", "↓", "↙", "←", "↖", "↑", "↗"];
  return arrows[(Math.round((4 * Math.atan2(y, x)) / Math.PI) + 8) % 8];
}

/** The classes seen so far with what is there now; pressing one hides it or shows it again. */
export class Legend {
  #entries = new Map();
  #hidden;
  #changed;

  /** hidden: set of the categories that are left out. changed(): called when a person has changed it. */
  constructor(hidden, changed) {
    this.#hidden = hidden;
    this.#changed = changed;
  }

  /** Shows a scene's classes. Those that it has none of stay, so that the list does not jump. */
  update(scene) {
    const found = new Map(countCategories(scene.segments).map((entry) => [entry.category, entry]));
    const added = [...found.values()].filter(({ category }) => !this.#entries.has(category));
    for (const entry of added) this.#add(entry);
    for (const [category, { item, count, isThing }] of this.#entries) {
      const there = found.get(category)?.count ?? 0;
      item.classList.toggle("absent", there === 0);
      write(count, isThing || there === 0 ? String(there) : "✓");
      count.setAttribute("aria-label", isThing ? `${there} in the picture` : there ? "in the picture" : "absent");
    }
    byId("no-classes").hidden = this.#entries.size > 0;
  }

  /** Forgets all classes. */
  clear() {
    this.#entries.clear();
    byId("legend").replaceChildren();
    byId("no-classes").hidden = false;
  }

  #add({ category, id, color, isThing }) {
    const count = element("span", { class: "count", role: "img" });
    const button = element(
      "button",
      { type: "button", "aria-pressed": String(!this.#hidden.has(category)), title: `Show or hide ${category}` },
      swatch(color),
      element("span", { class: "name" }, category),
      count,
    );
    button.addEventListener("click", () => {
      const hide = !this.#hidden.has(category);
      if (hide) this.#hidden.add(category);
      else this.#hidden.delete(category);
      button.setAttribute("aria-pressed", String(!hide));
      this.#changed();
    });
    const item = element("li", {}, button);
    this.#entries.set(category, { item, count, id, isThing });
    // Things first, in the taxonomy's order.
    const sorted = [...this.#entries.values()].sort((a, b) => b.isThing - a.isThing || a.id - b.id);
    byId("legend").append(...sorted.map((entry) => entry.item));
  }
}

const NEWEST = 0.2;

/** How long each stage takes, smoothed over the last frames, in a table by task. */
export class Stages {
  #smoothed = new Map();

  /** Takes the timings of a scene in. */
  add({ timings, task_status: statuses }) {
    const before = this.#smoothed;
    this.#smoothed = new Map(statuses.map(({ task, state, reason }) => [task, { state, reason, stages: new Map() }]));
    for (const { task, stage, milliseconds } of timings) {
      if (!this.#smoothed.has(task)) this.#smoothed.set(task, { state: "ok", reason: "", stages: new Map() });
      const last = before.get(task)?.stages.get(stage) ?? milliseconds;
      this.#smoothed.get(task).stages.set(stage, last + NEWEST * (milliseconds - last));
    }
  }

  /** Forgets everything. */
  clear() {
    this.#smoothed.clear();
    this.draw();
  }

  /** Writes the table. */
  draw() {
    const longest = Math.max(1, ...[...this.#smoothed.values()].flatMap(({ stages }) => [...stages.values()]));
    const bodies = [...this.#smoothed].map(([task, { state, reason, stages }]) => {
      const note = state === "ok" ? "" : words(state);
      const title = element("th", { scope: "rowgroup", colspan: "3", title: reason || null }, words(task), " ");
      if (note) title.append(element("span", { class: state === "skipped" ? "hint" : "trouble" }, note));
      const rows = [...stages].map(([stage, milliseconds]) => stageRow(stage, milliseconds, longest));
      return element("tbody", {}, element("tr", {}, title), ...rows);
    });
    const table = byId("stages");
    for (const body of [...table.tBodies]) body.remove();
    table.append(...bodies);
    table.hidden = bodies.length === 0;
    byId("no-stages").hidden = bodies.length > 0;
  }
}

function stageRow(stage, milliseconds, longest) {
  const bar = element("span", { class: "bar" });
  bar.style.width = `${(100 * milliseconds) / longest}%`;
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, words(stage)),
    element("td", { class: "bars", "aria-hidden": "true" }, bar),
    element("td", {}, duration(milliseconds)),
  );
}
