/** The picture with its scene drawn over it. */

import { channels, paintOverlay, readable, shade } from "./overlay.js";
import { segmentAt } from "./scene.js";

const TRAIL_MILLISECONDS = 3000;
const MOST_PIXEL_RATIO = 2;
const FONT = '600 12px system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';
const SMALL_FONT = FONT.replace("12px", "10px");
const NARROW = 480;

export class View {
  #canvas;
  #frame;
  #overlay = document.createElement("canvas");
  #layers;
  #scene = null;
  #selected;
  #trails = new Map();
  #pending = null;

  /**
   * canvas: to draw on. frame: the element around it, which takes the picture's shape. layers: what is shown, with
   * picture, segments, boxes, labels, tracks (true or false), opacity (0 to 1), and hidden (a set of categories).
   */
  constructor(canvas, frame, layers) {
    this.#canvas = canvas;
    this.#frame = frame;
    this.#layers = layers;
    new ResizeObserver(() => this.refresh()).observe(canvas);
  }

  /** The scene on show, or null. */
  get scene() {
    return this.#scene;
  }

  /** Shows a scene, with the segment of that id standing out; resolves once it is drawn. */
  show(scene, selected) {
    if (this.#scene?.picture !== scene.picture) this.#scene?.picture?.close();
    if (this.#scene?.epoch !== scene.epoch) this.#trails.clear();
    this.#scene = scene;
    this.#remember(scene);
    const { width, height } = scene.image_size;
    this.#frame.style.setProperty("--ratio", `${width} / ${height}`);
    this.#frame.style.setProperty("--ratio-number", `${width / height}`);
    return this.select(selected);
  }

  /** Lets the segment of that id stand out; undefined: none. */
  select(id) {
    this.#selected = id;
    return this.refresh();
  }

  /** Shows nothing. */
  clear() {
    this.#scene?.picture?.close();
    this.#scene = null;
    this.#trails.clear();
    return this.refresh();
  }

  /** Draws again with the next frame of the screen, after layers have changed, say. */
  refresh() {
    this.#pending ??= new Promise((drawn) => {
      requestAnimationFrame(() => {
        this.#pending = null;
        this.#draw();
        drawn();
      });
    });
    return this.#pending;
  }

  /** The segment under a pointer event, or undefined. */
  segmentUnder(event) {
    if (!this.#scene) return undefined;
    const { left, top, width, height } = this.#canvas.getBoundingClientRect();
    const size = this.#scene.image_size;
    const x = ((event.clientX - left) * size.width) / width;
    const y = ((event.clientY - top) * size.height) / height;
    const found = segmentAt(this.#scene, x, y);
    return found && !this.#isHidden(found) ? found : undefined;
  }

  #isHidden = (segment) => this.#layers.hidden.has(segment.category);

  /** Adds where things are now to their trails, and forgets what is too long ago. */
  #remember(scene) {
    if (scene.capture_time === undefined) return;
    const since = scene.capture_time - TRAIL_MILLISECONDS;
    for (const { track, box } of scene.segments) {
      if (!track) continue;
      const trail = this.#trails.get(track.id) ?? [];
      trail.push({ time: scene.capture_time, x: (box[0] + box[2]) / 2, y: (box[1] + box[3]) / 2 });
      this.#trails.set(track.id, trail);
    }
    for (const [id, trail] of this.#trails) {
      const kept = trail.filter(({ time }) => time >= since);
      if (kept.length) this.#trails.set(id, kept);
      else this.#trails.delete(id);
    }
  }

  #draw() {
    const canvas = this.#canvas;
    const ratio = Math.min(devicePixelRatio, MOST_PIXEL_RATIO);
    const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    if (!this.#scene) return;
    if (this.#layers.picture && this.#scene.picture) context.drawImage(this.#scene.picture, 0, 0, width, height);
    if (this.#layers.segments && this.#scene.map) this.#drawOverlay(context, width, height);
    context.scale(ratio, ratio);
    const size = this.#scene.image_size;
    this.#drawThings(context, canvas.clientWidth / size.width, canvas.clientHeight / size.height);
  }

  #drawOverlay(context, width, height) {
    paintOverlay(this.#overlay, this.#scene, this.#isHidden, this.#layers.opacity, this.#selected);
    context.drawImage(this.#overlay, 0, 0, width, height);
  }

  #drawThings(context, scaleX, scaleY) {
    const shown = this.#scene.segments.filter(
      (segment) => !this.#isHidden(segment) && (segment.is_thing || segment.id === this.#selected),
    );
    // Large things first, so that small ones stay visible.
    shown.sort((a, b) => b.area - a.area);
    const labels = [];
    for (const segment of shown) {
      const [left, top, right, bottom] = segment.box;
      const box = [left * scaleX, top * scaleY, (right - left) * scaleX, (bottom - top) * scaleY];
      const color = readable(shade(segment));
      const isSelected = segment.id === this.#selected;
      if (this.#layers.tracks && segment.track) this.#drawTrail(context, segment.track.id, color, scaleX, scaleY);
      if (this.#layers.boxes || isSelected) drawBox(context, box, color, isSelected);
      labels.push({ text: this.#label(segment), box, color, isSelected });
    }
    drawLabels(context, labels, this.#canvas.clientWidth);
  }

  #label({ category, track }) {
    const name = this.#layers.labels ? category : "";
    const identity = this.#layers.tracks && track ? `#${track.id}` : "";
    return [name, identity].filter(Boolean).join(" ");
  }

  #drawTrail(context, id, color, scaleX, scaleY) {
    const trail = this.#trails.get(id) ?? [];
    context.strokeStyle = `rgb(${channels(color)})`;
    context.lineCap = "round";
    for (let step = 1; step < trail.length; step += 1) {
      context.globalAlpha = step / trail.length;
      context.lineWidth = 1 + (2 * step) / trail.length;
      context.beginPath();
      context.moveTo(trail[step - 1].x * scaleX, trail[step - 1].y * scaleY);
      context.lineTo(trail[step].x * scaleX, trail[step].y * scaleY);
      context.stroke();
    }
    context.globalAlpha = 1;
  }
}

function drawBox(context, [x, y, width, height], color, isSelected) {
  context.lineWidth = isSelected ? 5 : 3;
  context.strokeStyle = "rgb(0 0 0 / 45%)";
  context.strokeRect(x, y, width, height);
  context.lineWidth = isSelected ? 3 : 1.5;
  context.strokeStyle = isSelected ? "#fff" : `rgb(${channels(color)})`;
  context.strokeRect(x, y, width, height);
}

/** Names above their boxes, or inside of them; the one picked out first, then large things, each where there is room. */
function drawLabels(context, labels, width) {
  context.font = width < NARROW ? SMALL_FONT : FONT;
  context.textBaseline = "middle";
  const high = width < NARROW ? 15 : 18;
  const taken = [];
  for (const { text, box, color } of labels.sort((a, b) => b.isSelected - a.isSelected)) {
    if (!text) continue;
    const wide = context.measureText(text).width + 10;
    const left = Math.max(0, Math.min(box[0], width - wide));
    const places = [box[1] - high, box[1], box[1] + box[3]].map((top) => [left, top, left + wide, top + high]);
    const place = places.find((free) => free[1] >= 0 && !taken.some((other) => overlap(free, other)));
    if (!place) continue;
    taken.push(place);
    context.fillStyle = `rgb(${channels(color)})`;
    context.beginPath();
    context.roundRect(left, place[1], wide, high, 4);
    context.fill();
    context.fillStyle = "#10151c";
    context.fillText(text, left + 5, place[1] + high / 2 + 0.5);
  }
}

const overlap = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
