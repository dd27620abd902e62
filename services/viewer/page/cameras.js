/** The list of cameras, and how each one is. */

import { announce, byId, element, write } from "./dom.js";

const WORDS = {
  connecting: "Connecting",
  streaming: "Streaming",
  stalled: "Stalled",
  waiting: "Waiting to retry",
  ended: "Ended",
  unreachable: "Agent unreachable",
};

/** A state for people. */
export const stateName = (state) => WORDS[state] ?? "Unknown";

/** What a camera is called in addresses and lists. */
export const cameraKey = ({ agent, camera }) => `${agent}/${camera}`;

export class CameraList {
  #choose;
  #entries = new Map();
  /** Every camera by key: {agent, camera, status}. */
  cameras = new Map();
  /** How far the viewer's clock is ahead of this browser's, in milliseconds. */
  clockAhead = 0;

  /** choose(camera): called when a person picks one. */
  constructor(choose) {
    this.#choose = choose;
  }

  /** Takes over what the viewer says of all cameras. */
  update({ agents, now }) {
    this.clockAhead = now - Date.now();
    const before = this.cameras;
    this.cameras = new Map();
    for (const { address, cameras } of agents) {
      for (const status of cameras) {
        const camera = { agent: address, camera: status.name, status };
        this.cameras.set(cameraKey(camera), camera);
      }
    }
    for (const [key, camera] of this.cameras) this.#tellChange(before.get(key)?.status, camera.status);
    this.#draw(agents);
  }

  /** Marks the camera of that key as the one on show; null: none. */
  mark(key) {
    for (const [other, { button }] of this.#entries) {
      if (other === key) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
  }

  /** The camera `step` places after that of the key. */
  neighbour(key, step) {
    const keys = [...this.cameras.keys()];
    const at = keys.indexOf(key);
    const next = at < 0 ? 0 : (at + step + keys.length) % keys.length;
    return this.cameras.get(keys[next]);
  }

  /** Why a camera does not stream, with the time that is left until it is tried again. */
  explain({ reason, retry_time: retryTime }) {
    const left = retryTime ? retryTime - this.clockAhead - Date.now() : 0;
    return [reason, left > 0 ? `next try in ${Math.ceil(left / 1000)} s` : ""].filter(Boolean).join("; ");
  }

  #tellChange(before, now) {
    if (!before || before.state === now.state) return;
    announce(`${now.name}: ${stateName(now.state)}${now.reason ? `, ${now.reason}` : ""}`);
  }

  #draw(agents) {
    const list = byId("cameras");
    for (const [key, { item }] of this.#entries) {
      if (this.cameras.has(key)) continue;
      item.remove();
      this.#entries.delete(key);
    }
    const several = agents.length > 1;
    for (const [key, camera] of this.cameras) {
      if (!this.#entries.has(key)) this.#entries.set(key, this.#entry(camera, several));
      const { item, state, detail } = this.#entries.get(key);
      list.append(...(item.isConnected ? [] : [item]));
      const { status } = camera;
      state.className = `state ${status.state}`;
      write(state, stateName(status.state));
      const rates = `${status.scenes_per_second.toFixed(1)} scenes/s`;
      write(detail, status.state === "streaming" ? rates : this.explain(status));
    }
    const silent = agents.filter(({ reason, cameras }) => reason && !cameras.length).map(({ reason }) => reason);
    const none = agents.length ? "No camera yet." : "No camera agent is configured (CAMERA_AGENTS).";
    byId("no-cameras").hidden = !silent.length && this.cameras.size > 0;
    byId("no-cameras").className = silent.length ? "trouble" : "hint";
    write(byId("no-cameras"), silent.join("; ") || none);
  }

  #entry(camera, several) {
    const state = element("span", { class: "state" });
    const detail = element("span", { class: "hint" });
    const name = element("span", { class: "name" }, camera.camera);
    const agent = several ? [element("span", { class: "hint" }, camera.agent)] : [];
    const button = element("button", { type: "button" }, name, ...agent, state, detail);
    button.addEventListener("click", () => this.#choose(camera));
    return { item: element("li", {}, button), button, state, detail };
  }
}
