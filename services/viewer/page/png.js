/**
 * Reads grey 16-bit PNGs. A canvas keeps 8 bits of every channel, and some browsers add noise to what is read back from
 * one; segment ids must be exact. Decompression is the browser's own.
 *
 * PNG Specification, third edition: https://www.w3.org/TR/png-3/
 */

const SIGNATURE = 0x89504e47;
const HEADER = 0x49484452; // "IHDR"
const DATA = 0x49444154; // "IDAT"
const BYTES_PER_PIXEL = 2;
const MOST_PIXELS = 2 ** 27;

/** The values of a grey 16-bit PNG: {width, height, ids: Uint16Array, row by row}. Throws where it is anything else. */
export async function decodeGrey16(bytes) {
  const { width, height, data } = readChunks(bytes);
  const stream = new Blob(data).stream().pipeThrough(new DecompressionStream("deflate"));
  const rows = new Uint8Array(await new Response(stream).arrayBuffer());
  if (rows.length !== height * (1 + BYTES_PER_PIXEL * width)) {
    throw new Error(`PNG: expected ${height} rows of ${width} pixels, found ${rows.length} bytes`);
  }
  return { width, height, ids: readRows(rows, width, height) };
}

function readChunks(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.byteLength < 33 || view.getUint32(0) !== SIGNATURE || view.getUint32(12) !== HEADER) {
    throw new Error("PNG: expected a PNG, found something else");
  }
  const [width, height] = [view.getUint32(16), view.getUint32(20)];
  const [depth, colour, interlace] = [bytes[24], bytes[25], bytes[28]];
  if (depth !== 16 || colour !== 0 || interlace !== 0) {
    throw new Error(`PNG: expected 16 bits of grey, found ${depth} bits of colour type ${colour}`);
  }
  if (width * height > MOST_PIXELS) throw new Error(`PNG: ${width} x ${height} pixels are too many`);
  const data = [];
  for (let at = 8; at + 12 <= view.byteLength; ) {
    const length = view.getUint32(at);
    if (view.getUint32(at + 4) === DATA) data.push(bytes.subarray(at + 8, at + 8 + length));
    at += 12 + length;
  }
  return { width, height, data };
}

/** Undoes the filter of every row, in place, and joins high and low bytes. */
function readRows(rows, width, height) {
  const length = BYTES_PER_PIXEL * width;
  const ids = new Uint16Array(width * height);
  for (let y = 0, at = 0; y < height; y += 1) {
    const filter = rows[at];
    at += 1;
    const above = y > 0 ? at - length - 1 : -1;
    unfilter(filter, rows, at, above, length);
    for (let x = 0, id = y * width; x < length; x += 2, id += 1) ids[id] = (rows[at + x] << 8) | rows[at + x + 1];
    at += length;
  }
  return ids;
}

/** One row at `at`, of `length` bytes; `above` is where the row before it starts, or -1. */
function unfilter(filter, rows, at, above, length) {
  if (filter === 0 || (filter === 2 && above < 0)) return;
  if (filter === 2) {
    for (let x = 0; x < length; x += 1) rows[at + x] += rows[above + x];
    return;
  }
  for (let x = 0; x < length; x += 1) {
    const left = x >= BYTES_PER_PIXEL ? rows[at + x - BYTES_PER_PIXEL] : 0;
    const up = above < 0 ? 0 : rows[above + x];
    const upLeft = above < 0 || x < BYTES_PER_PIXEL ? 0 : rows[above + x - BYTES_PER_PIXEL];
    rows[at + x] += predict(filter, left, up, upLeft);
  }
}

function predict(filter, left, up, upLeft) {
  if (filter === 1) return left;
  if (filter === 3) return (left + up) >> 1;
  if (filter !== 4) throw new Error(`PNG: expected a row filter of 0 to 4, found ${filter}`);
  // Paeth: the neighbour nearest to left + up - upLeft.
  const [fromLeft, fromUp] = [Math.abs(up - upLeft), Math.abs(left - upLeft)];
  const fromUpLeft = Math.abs(left + up - 2 * upLeft);
  if (fromLeft <= fromUp && fromLeft <= fromUpLeft) return left;
  return fromUp <= fromUpLeft ? up : upLeft;
}
