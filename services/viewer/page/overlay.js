/** Paints a panoptic map: a colour for each segment, and an outline around things. */

const FAINT = 0.35;

/**
 * Paints the map of a scene into a canvas of the map's size.
 *
 * isHidden(segment): whether it is left out. opacity: 0 to 1. selected: id of the segment that stands out, or undefined.
 */
export function paintOverlay(canvas, scene, isHidden, opacity, selected) {
  const { width, height, ids } = scene.map;
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const { fill, outline } = colours(scene.segments, isHidden, opacity, selected);
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  for (let y = 0, at = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1, at += 1) {
      const id = ids[at];
      const left = x > 0 ? ids[at - 1] : id;
      const above = y > 0 ? ids[at - width] : id;
      const inside = id === left && id === above;
      pixels[at] = inside ? fill[id] : outline[id] || outline[left] || outline[above] || fill[id];
    }
  }
  context.putImageData(image, 0, 0);
}

/** The colour of a segment, as 0xRRGGBB: its category's; things of one category differ by shade. */
export function shade({ color, is_thing: isThing, track, id }) {
  if (!isThing) return color;
  return lighter(color, 0.12 * ((track?.id ?? id) % 5));
}

/** Red, green and blue of 0xRRGGBB. */
export const channels = (color) => [(color >> 16) & 255, (color >> 8) & 255, color & 255];

/** Colours by id, each as the four bytes of a canvas' pixel. */
function colours(segments, isHidden, opacity, selected) {
  // An id that no segment has, as a broken map may hold, reads as undefined, and is painted as nothing.
  const most = segments.reduce((highest, { id }) => Math.max(highest, id), 0);
  const [fill, outline] = [new Uint32Array(most + 1), new Uint32Array(most + 1)];
  for (const segment of segments) {
    if (isHidden(segment)) continue;
    const stands = selected === undefined || segment.id === selected;
    const strength = stands ? opacity : opacity * FAINT;
    const color = shade(segment);
    fill[segment.id] = pixel(color, strength);
    if (segment.is_thing) outline[segment.id] = pixel(lighter(color, 0.6), Math.min(1, 1.7 * strength));
  }
  return { fill, outline };
}

/** A colour mixed with white; part: 0 leaves it as it is. */
function lighter(color, part) {
  const [red, green, blue] = channels(color).map((value) => Math.round(value + (255 - value) * part));
  return (red << 16) | (green << 8) | blue;
}

/** The colour, lightened as far as dark letters on it and thin lines on a dark picture need. */
export function readable(color) {
  for (let part = 0; part < 1; part += 0.1) {
    const candidate = lighter(color, part);
    if (luminance(candidate) > 0.22) return candidate;
  }
  return 0xffffff;
}

/** Relative luminance, 0 to 1, as WCAG 2.2 defines it. */
function luminance(color) {
  const [red, green, blue] = channels(color).map((value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function pixel(color, strength) {
  const [red, green, blue] = channels(color);
  // Every browser's machine is little-endian. `>>> 0` keeps the number positive.
  return ((Math.round(255 * strength) << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}
