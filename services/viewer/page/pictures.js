/** Perceiving a picture that a person drops onto the page, picks or pastes. */

import { byId } from "./dom.js";
import { readScene } from "./scene.js";

/**
 * Has a file perceived by the gateway. Returns its scene with the picture; throws an error whose message is meant for
 * people. limit: most bytes.
 */
export async function perceive(file, limit) {
  if (file.size > limit) {
    throw new Error(`${file.name} has ${megabytes(file.size)}; at most ${megabytes(limit)} can be perceived`);
  }
  const response = await fetch("/perceive", { method: "POST", body: file }).catch(() => {
    throw new Error("the viewer does not answer");
  });
  if (!response.ok) {
    const { error } = await response.json().catch(() => ({ error: response.statusText }));
    throw new Error(error);
  }
  const scene = await readScene(await response.arrayBuffer());
  return { ...scene, picture: await createImageBitmap(file) };
}

/** Calls taken(file) for every picture that is dropped, picked or pasted. */
export function acceptPictures(taken) {
  const hint = byId("drop-hint");
  const carriesFile = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    hint.hidden = false;
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) hint.hidden = true;
  });
  document.addEventListener("drop", (event) => {
    hint.hidden = true;
    if (!carriesFile(event)) return;
    event.preventDefault();
    if (event.dataTransfer.files.length) taken(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData?.files.length) taken(event.clipboardData.files[0]);
  });
  const input = byId("picture-file");
  input.addEventListener("change", () => {
    if (input.files.length) taken(input.files[0]);
    input.value = ""; // so that the same picture can be picked again
  });
  byId("open-picture").addEventListener("click", () => input.click());
}

const megabytes = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
