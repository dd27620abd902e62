/** A scene as the viewer sends it (services/viewer/messages.py): reading, asking, following a segment. */

import { decodeGrey16 } from "./png.js";

const PARTS = 3;

/**
 * The scene of a message: its header, with `picture` (ImageBitmap, or null where the message carries none) and `map`
 * ({width, height, ids}, or null). Whoever is done with the scene closes the picture.
 */
export async function readScene(buffer) {
  const [header, picture, map] = split(buffer);
  const [bitmap, ids] = await Promise.all([
    picture.length ? createImageBitmap(new Blob([picture], { type: "image/jpeg" })) : null,
    map.length ? decodeGrey16(map) : null,
  ]);
  return { ...JSON.parse(new TextDecoder().decode(header)), picture: bitmap, map: ids };
}

function split(buffer) {
  const lengths = new DataView(buffer, 0, 4 * PARTS);
  let at = 4 * PARTS;
  return Array.from({ length: PARTS }, (_, part) => {
    const length = lengths.getUint32(4 * part, true);
    at += length;
    return new Uint8Array(buffer, at - length, length);
  });
}

/** The segment at a place of the picture, in its pixels; undefined where there is none. */
export function segmentAt({ map, image_size: size, segments }, x, y) {
  if (!map) return undefined;
  const column = Math.floor((x * map.width) / size.width);
  const row = Math.floor((y * map.height) / size.height);
  if (column < 0 || row < 0 || column >= map.width || row >= map.height) return undefined;
  const id = map.ids[row * map.width + column];
  return segments.find((segment) => segment.id === id);
}

/**
 * The segment that another scene's segment has become: of the same track, of the same category for stuff, or the one
 * that overlaps it most where things are not tracked. Undefined where it is gone.
 */
export function follow(segment, epoch, scene) {
  if (segment.track) {
    const kept = (other) => other.track?.id === segment.track.id && scene.epoch === epoch;
    return scene.segments.find(kept);
  }
  const alike = scene.segments.filter((other) => other.category === segment.category);
  if (!segment.is_thing) return alike[0];
  const overlaps = alike.map((other) => [intersectionOverUnion(segment.box, other.box), other]);
  const [best, other] = overlaps.reduce((a, b) => (b[0] > a[0] ? b : a), [0, undefined]);
  return best > 0.3 ? other : undefined;
}

function intersectionOverUnion(a, b) {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  if (width <= 0 || height <= 0) return 0;
  const area = ([left, top, right, bottom]) => (right - left) * (bottom - top);
  return (width * height) / (area(a) + area(b) - width * height);
}

/** Segments by category, in the taxonomy's order: [{category, id, color, count}]. Stuff counts one. */
export function countCategories(segments) {
  const counts = new Map();
  for (const { category, category_id: id, color, is_thing: isThing } of segments) {
    const known = counts.get(category) ?? { category, id, color, isThing, count: 0 };
    counts.set(category, { ...known, count: known.count + 1 });
  }
  return [...counts.values()].sort((a, b) => a.id - b.id);
}

/** A scene in words: "2 car, 1 pedestrian". */
export function describe(scene) {
  const things = countCategories(scene.segments.filter((segment) => segment.is_thing));
  return things.map(({ category, count }) => `${count} ${category}`).join(", ") || "no objects";
}
