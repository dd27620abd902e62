/** The last minute's latency: a chart and the numbers that belong to it. */

import { byId, duration, element, write } from "./dom.js";

const MINUTE = 60_000;
const RATE_WINDOW = 3000;
/** A longer pause between two frames is a gap in the line. */
const GAP = 2000;
const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 60_000];

export class Latency {
  #samples = [];
  #drops = [];
  #dropped = null;
  #number = null;
  #missed = 0;
  #canvas = byId("latency");

  /** Takes in a scene: its age, and whether scenes before it were missed by this page. */
  add({ age, number }) {
    this.#samples.push({ time: performance.now(), age });
    if (this.#number !== null && number > this.#number) this.#missed += number - this.#number - 1;
    this.#number = number;
  }

  /** Takes in a camera's counts. */
  count({ dropped }) {
    if (this.#dropped !== null && dropped > this.#dropped) this.#drops.push(performance.now());
    this.#dropped = dropped;
  }

  /** Forgets everything. */
  clear() {
    this.#samples = [];
    this.#drops = [];
    this.#dropped = null;
    this.#number = null;
    this.#missed = 0;
  }

  /** Writes the numbers and draws the chart. status: of the camera, or null for a picture. */
  draw(status) {
    const now = performance.now();
    this.#samples = this.#samples.filter(({ time }) => time > now - MINUTE);
    this.#drops = this.#drops.filter((time) => time > now - MINUTE);
    const ages = this.#samples.map(({ age }) => age).sort((a, b) => a - b);
    const middle = quantile(ages, 0.5);
    const slow = quantile(ages, 0.95);
    this.#write(status, now, middle, slow);
    this.#canvas.hidden = false;
    byId("no-latency").hidden = true;
    this.#canvas.setAttribute(
      "aria-label",
      ages.length ? `Median ${duration(middle)}, 95th percentile ${duration(slow)}` : "No frames yet",
    );
    this.#chart(now, ages);
  }

  #write(status, now, middle, slow) {
    const shown = this.#samples.filter(({ time }) => time > now - RATE_WINDOW).length / (RATE_WINDOW / 1000);
    const rate = (value) => `${value.toFixed(1)}/s`;
    const numbers = [
      ["Median", middle === undefined ? "–" : duration(middle)],
      ["95th percentile", slow === undefined ? "–" : duration(slow)],
    ];
    if (status) {
      numbers.push(
        ["Source", rate(status.source_frames_per_second ?? 0)],
        ["Scenes", rate(status.scenes_per_second ?? 0)],
        ["Shown here", rate(shown)],
        ["Missed here", this.#missed.toLocaleString("en")],
        ["Dropped", (status.dropped ?? 0).toLocaleString("en")],
        ["Failed", (status.failed ?? 0).toLocaleString("en")],
        ["Reconnects", (status.reconnects ?? 0).toLocaleString("en")],
        ["Gateway", { true: "connected", false: "not connected" }[status.gateway_connected] ?? "unknown"],
      );
    }
    const list = byId("numbers");
    if (list.children.length !== numbers.length) {
      const pairs = numbers.map(([term]) => element("div", {}, element("dt", {}, term), element("dd")));
      list.replaceChildren(...pairs);
    }
    numbers.forEach(([, value], at) => write(list.children[at].lastChild, value));
  }

  #chart(now, ages) {
    const canvas = this.#canvas;
    const ratio = devicePixelRatio;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const style = getComputedStyle(canvas);
    const [ink, line] = [style.color, style.getPropertyValue("border-top-color")];
    const accent = style.getPropertyValue("outline-color");
    const area = { left: 48, top: 8, right: width - 4, bottom: height - 18 };
    const most = ages.length ? ages[ages.length - 1] : 100;
    const step = STEPS.find((candidate) => most / candidate <= 3) ?? most;
    const top = step * Math.max(1, Math.ceil(most / step));
    const x = (time) => area.right - ((now - time) / MINUTE) * (area.right - area.left);
    const y = (age) => area.bottom - (age / top) * (area.bottom - area.top);

    context.font = '11px system-ui, "DejaVu Sans", sans-serif';
    context.fillStyle = ink;
    context.strokeStyle = line;
    context.lineWidth = 1;
    context.textBaseline = "middle";
    context.textAlign = "right";
    for (let age = 0; age <= top; age += step) {
      context.beginPath();
      context.moveTo(area.left, Math.round(y(age)) + 0.5);
      context.lineTo(area.right, Math.round(y(age)) + 0.5);
      context.stroke();
      context.fillText(age ? duration(age).replace(".0", "") : "0", area.left - 6, y(age));
    }
    context.textBaseline = "alphabetic";
    context.fillText("now", area.right, height - 4);
    context.textAlign = "left";
    context.fillText("60 s ago", area.left, height - 4);

    context.fillStyle = style.getPropertyValue("caret-color");
    for (const time of this.#drops) context.fillRect(x(time) - 0.5, area.bottom - 6, 1.5, 6);
    context.strokeStyle = accent;
    context.lineWidth = 1.5;
    context.lineJoin = "round";
    context.beginPath();
    this.#samples.forEach(({ time, age }, at) => {
      const joined = at > 0 && time - this.#samples[at - 1].time < GAP;
      if (joined) context.lineTo(x(time), y(age));
      else {
        context.moveTo(x(time), y(age));
        context.lineTo(x(time) + 1, y(age));
      }
    });
    context.stroke();
  }
}

/** The value below which that part of ascending values lies; undefined of none. */
function quantile(values, part) {
  return values[Math.min(values.length - 1, Math.floor(part * values.length))];
}
