/** Puts the page together: which camera or picture is on show, and what a person does with it. */

import { CameraList, cameraKey, stateName } from "./cameras.js";
import { Connection, socketAddress } from "./connection.js";
import { announce, byId, duration, element, remember, remembered, say, write } from "./dom.js";
import { listen, toggleHelp } from "./keyboard.js";
import { Latency } from "./latency.js";
import { drawDetails, Legend, Stages } from "./panels.js";
import { acceptPictures, perceive } from "./pictures.js";
import { describe, follow, readScene } from "./scene.js";
import { nextTheme, startTheme } from "./theme.js";
import { View } from "./view.js";

const LAYERS = [
  ["picture", "p", "Picture"],
  ["segments", "s", "Segments"],
  ["boxes", "b", "Boxes"],
  ["labels", "l", "Labels"],
  ["tracks", "t", "Tracks"],
];
const DEGRADATIONS = {
  no_attributes: "Attributes are left out to keep up.",
  no_instance_masks: "Attributes and instance masks are left out to keep up.",
};
const PANEL_INTERVAL = 250;
const LIST_SILENCE = 4000;
const TOAST_MILLISECONDS = 8000;

const layers = { picture: true, segments: true, boxes: true, labels: true, tracks: true, opacity: 0.55 };
layers.hidden = new Set();
const view = new View(byId("view"), byId("frame"), layers);
const cameras = new CameraList(watch);
const legend = new Legend(layers.hidden, () => view.refresh());
const stages = new Stages();
const latency = new Latency();

/** What is on show: a camera with its connection, or a picture; null at first. */
let shown = null;
/** The segment that is picked out: {segment, epoch, isGone}, or null. */
let picked = null;
let paused = false;
let maxImageBytes = null;
let toastTimer = 0;

function watch(camera) {
  const key = cameraKey(camera);
  if (shown?.key === key) return;
  clear();
  const own = { key, name: camera.camera, status: null, notice: "", connection: null };
  shown = own;
  const address = socketAddress("/camera", { agent: camera.agent, camera: camera.camera });
  own.connection = new Connection(address, (data) => receive(own, data), () => {});
  const hash = new URLSearchParams({ agent: camera.agent, camera: camera.camera });
  if (location.hash.slice(1) !== hash.toString()) history.pushState(null, "", `#${hash}`);
  cameras.mark(key);
  drawPanels();
}

/** Takes the last camera or picture off the page. */
function clear() {
  shown?.connection?.close();
  shown = null;
  setPaused(false);
  pick(null);
  view.clear();
  legend.clear();
  stages.clear();
  latency.clear();
}

async function receive(own, data) {
  if (typeof data === "string") {
    const { status, notice } = JSON.parse(data);
    takeStatus(own, status, notice);
    return;
  }
  if (paused) return;
  const scene = await readScene(data);
  if (shown !== own) {
    scene.picture?.close();
    return;
  }
  takeStatus(own, scene.status, DEGRADATIONS[scene.degradation] ?? "");
  await show(scene);
}

function takeStatus(own, status, notice) {
  own.status = status;
  own.notice = notice;
  if (status.dropped !== undefined) latency.count(status);
}

function show(scene) {
  if (picked) {
    const segment = follow(picked.segment, picked.epoch, scene);
    picked = segment ? { segment, epoch: scene.epoch, isGone: false } : { ...picked, isGone: true };
  }
  legend.update(scene);
  stages.add(scene);
  latency.add(scene);
  return view.show(scene, picked && !picked.isGone ? picked.segment.id : undefined);
}

function pick(segment) {
  picked = segment ? { segment, epoch: view.scene.epoch, isGone: false } : null;
  view.select(segment?.id);
  drawDetails(segment, view.scene, false);
  if (segment) announce(`${segment.category}${segment.track ? ` ${segment.track.id}` : ""} picked`);
}

/** Picks the segment `step` places after the one that is picked. */
function pickNeighbour(step) {
  const segments = view.scene?.segments.filter(({ category }) => !layers.hidden.has(category)) ?? [];
  segments.sort((a, b) => b.is_thing - a.is_thing || b.area - a.area);
  if (!segments.length) return;
  const at = segments.findIndex(({ id }) => id === picked?.segment.id);
  const next = at < 0 ? (step > 0 ? 0 : segments.length - 1) : (at + step + segments.length) % segments.length;
  pick(segments[next]);
}

/** A camera's status as last heard: of its own connection, unless its agent is known not to answer. */
function currentStatus() {
  const listed = cameras.cameras.get(shown.key)?.status;
  if (!listed || listed.state === "unreachable") return { ...shown.status, ...listed };
  return { ...listed, ...shown.status };
}

function drawPanels() {
  if (!shown) {
    write(byId("title"), "No camera");
    say(byId("notice"), maxImageBytes === null ? "" : "Drop a picture here to have it perceived.");
    return;
  }
  write(byId("title"), shown.name);
  document.title = `${shown.name} · Perception`;
  const status = shown.connection ? currentStatus() : null;
  drawState(status);
  if (picked) drawDetails(picked.segment, view.scene, picked.isGone);
  stages.draw();
  latency.draw(status);
  if (view.scene) byId("view").setAttribute("aria-label", `${shown.name}: ${describe(view.scene)}`);
}

function drawState(status) {
  const state = byId("state");
  state.hidden = !status?.state;
  byId("pause").hidden = !status;
  byId("rates").hidden = !view.scene;
  if (view.scene) write(byId("rates"), sceneText(view.scene, status));
  const streams = !status || status.state === "streaming";
  byId("frame").classList.toggle("stale", !streams);
  if (status?.state) {
    state.className = `state ${status.state}`;
    write(state, stateName(status.state));
  }
  say(byId("notice"), streams ? frameNotice(status) : `${stateName(status.state)}. ${cameras.explain(status)}`);
}

function sceneText({ image_size: size, age }, status) {
  const parts = [`${size.width} × ${size.height}`];
  if (status?.state === "streaming") parts.push(`${status.scenes_per_second.toFixed(1)} scenes/s`);
  if (!status || status.state === "streaming") parts.push(duration(age));
  return parts.join(" · ");
}

function frameNotice(status) {
  if (paused) return "Paused.";
  if (status && status.gateway_connected === false) return "The gateway does not answer.";
  return shown.notice;
}

async function perceivePicture(file) {
  if (maxImageBytes === null) {
    toast("This viewer has no gateway, so it cannot perceive pictures.");
    return;
  }
  toast(`Perceiving ${file.name} …`);
  try {
    const scene = await perceive(file, maxImageBytes);
    clear();
    shown = { key: null, name: file.name, status: null, notice: "", connection: null };
    history.pushState(null, "", "#");
    cameras.mark(null);
    await show(scene);
    toast("");
    announce(`${file.name}: ${describe(scene)}`);
  } catch (error) {
    toast(`${file.name} could not be perceived: ${error.message}`);
  }
  drawPanels();
}

function toast(text) {
  clearTimeout(toastTimer);
  say(byId("toast"), text);
  toastTimer = setTimeout(() => toast(""), TOAST_MILLISECONDS);
}

function takeList(data) {
  const list = JSON.parse(data);
  maxImageBytes = list.max_image_bytes;
  byId("open-picture").hidden = maxImageBytes === null;
  cameras.update(list);
  if (!shown) restore();
  else cameras.mark(shown.key);
}

/** Shows the camera that the address names; where it names none, and nothing is on show, the first one. */
function restore() {
  const hash = new URLSearchParams(location.hash.slice(1));
  const key = cameraKey({ agent: hash.get("agent"), camera: hash.get("camera") });
  const camera = cameras.cameras.get(key) ?? (shown ? null : cameras.neighbour(key, 0));
  if (camera) watch(camera);
}

function setLayer(name, on) {
  layers[name] = on;
  byId(`layer-${name}`).setAttribute("aria-pressed", String(on));
  view.refresh();
}

function setOpacity(percent) {
  const value = Math.max(0, Math.min(100, percent));
  layers.opacity = value / 100;
  byId("opacity").value = value;
  write(byId("opacity-value"), `${value} %`);
  remember("opacity", value);
  view.refresh();
}

function setPaused(value) {
  paused = value;
  byId("pause").setAttribute("aria-pressed", String(value));
  write(byId("pause"), value ? "Go on" : "Pause");
}

function toggleFullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else byId("frame").requestFullscreen();
}

function setUpControls() {
  for (const [name, key, text] of LAYERS) {
    const attributes = { id: `layer-${name}`, type: "button", "aria-pressed": "true", "aria-keyshortcuts": key };
    const button = element("button", attributes, text);
    button.addEventListener("click", () => setLayer(name, !layers[name]));
    byId("layers").append(button);
  }
  byId("opacity").addEventListener("input", ({ target }) => setOpacity(Number(target.value)));
  byId("pause").addEventListener("click", () => setPaused(!paused));
  byId("help-button").addEventListener("click", toggleHelp);
  byId("view").addEventListener("click", (event) => pick(view.segmentUnder(event)));
  byId("view").addEventListener("pointermove", ({ clientX, clientY, target }) => {
    target.classList.toggle("over-segment", Boolean(view.segmentUnder({ clientX, clientY })));
  });
  const lastOpacity = remembered("opacity");
  if (lastOpacity !== null && lastOpacity !== "") setOpacity(Number(lastOpacity) || 0);
}

function setUpKeyboard() {
  const layerKeys = LAYERS.map(([name, key, text]) => ({
    keys: [key],
    shown: [key],
    text: `Show or hide: ${text.toLowerCase()}`,
    run: () => setLayer(name, !layers[name]),
  }));
  const another = (step) => {
    const camera = cameras.neighbour(shown?.key, step);
    if (camera) watch(camera);
  };
  listen([
    { keys: ["j"], shown: ["j"], text: "Next camera", run: () => another(1) },
    { keys: ["k"], shown: ["k"], text: "Previous camera", run: () => another(-1) },
    { keys: ["n", "ArrowRight"], shown: ["n", "→"], text: "Next segment", run: () => pickNeighbour(1) },
    { keys: ["N", "ArrowLeft"], shown: ["N", "←"], text: "Previous segment", run: () => pickNeighbour(-1) },
    { keys: ["Escape"], shown: ["Esc"], text: "No segment", run: () => pick(null) },
    { keys: [" ", "."], shown: ["Space", "."], text: "Pause or go on", run: () => setPaused(!paused) },
    ...layerKeys,
    { keys: ["+", "="], shown: ["+"], text: "More opaque", run: () => setOpacity(100 * layers.opacity + 10) },
    { keys: ["-"], shown: ["-"], text: "Less opaque", run: () => setOpacity(100 * layers.opacity - 10) },
    { keys: ["o"], shown: ["o"], text: "Open a picture", run: () => byId("open-picture").click() },
    { keys: ["f"], shown: ["f"], text: "Full screen", run: toggleFullScreen },
    { keys: ["d"], shown: ["d"], text: "Dark, light, or as the system", run: nextTheme },
    { keys: ["?"], shown: ["?"], text: "This help", run: toggleHelp },
  ]);
}

startTheme();
setUpControls();
setUpKeyboard();
acceptPictures(perceivePicture);
drawDetails(undefined, null, false);
addEventListener("popstate", restore);
setInterval(drawPanels, PANEL_INTERVAL);
const reportList = (open) => write(byId("connection"), open ? "" : "The viewer does not answer. Trying again …");
new Connection(socketAddress("/cameras"), takeList, reportList, LIST_SILENCE);
