"use strict";
// From strokes to an image like MNIST's: the steps of xpnet.data.prepare_digit, once it has found the ink.
// A stroke is a list of points [x, y] in any unit; an image is { height, width, data }, row by row.

const LONGER_SIDE = 100; // pixels of the picture that the strokes are drawn into
const PEN = 0.12; // the width of a stroke, as a share of that side: 2.4 of the box of 20 pixels, as in MNIST

// Draws strokes as large as fits, whatever the size of the drawing. The pen is round and its edge one pixel soft.
function rasterize(strokes) {
  const points = strokes.flat();
  const [xs, ys] = [0, 1].map((axis) => points.map((point) => point[axis]));
  const [left, top] = [Math.min(...xs), Math.min(...ys)];
  const longer = Math.max(Math.max(...xs) - left, Math.max(...ys) - top);
  const radius = (PEN * LONGER_SIDE) / 2;
  const scale = longer > 0 ? (LONGER_SIDE - 2 * radius) / longer : 0;
  const place = ([x, y]) => [(x - left) * scale + radius + 1, (y - top) * scale + radius + 1];
  const side = LONGER_SIDE + 2;
  const data = new Float64Array(side * side);
  for (const stroke of strokes)
    stroke.forEach((point, k) => line(data, side, place(stroke[Math.max(k - 1, 0)]), place(point), radius));
  return { height: side, width: side, data };
}

function line(data, side, [ax, ay], [bx, by], radius) {
  const [dx, dy] = [bx - ax, by - ay];
  const squared = dx * dx + dy * dy || 1;
  const reach = radius + 1;
  for (let y = Math.max(0, Math.floor(Math.min(ay, by) - reach)); y < Math.min(side, Math.max(ay, by) + reach); y++)
    for (let x = Math.max(0, Math.floor(Math.min(ax, bx) - reach)); x < Math.min(side, Math.max(ax, bx) + reach); x++) {
      const [px, py] = [x + 0.5 - ax, y + 0.5 - ay];
      const along = Math.min(Math.max((px * dx + py * dy) / squared, 0), 1);
      const distance = Math.hypot(px - along * dx, py - along * dy);
      const ink = Math.min(Math.max(radius + 0.5 - distance, 0), 1);
      data[y * side + x] = Math.max(data[y * side + x], ink);
    }
}

// Crops an image to its ink; null if there is none.
function crop({ height, width, data }) {
  const rows = range(height).filter((y) => data.subarray(y * width, (y + 1) * width).some((v) => v > 0));
  const columns = range(width).filter((x) => rows.some((y) => data[y * width + x] > 0));
  if (!rows.length) return null;
  const [top, bottom, left, right] = [rows[0], rows.at(-1) + 1, columns[0], columns.at(-1) + 1];
  const cropped = range(bottom - top).flatMap((y) => [...data.subarray((top + y) * width + left, (top + y) * width + right)]);
  return { height: bottom - top, width: right - left, data: Float64Array.from(cropped) };
}

// xpnet.data.ink.lay_out: scales ink to a box, and puts its centre of mass into the middle of a square.
function layOut(ink, size, box, center) {
  const longer = Math.max(ink.height, ink.width);
  const [height, width] = [ink.height, ink.width].map((side) => Math.max(1, roundEven((box * side) / longer)));
  const small = averageAreas(ink, height, width);
  const most = small.reduce((a, b) => Math.max(a, b));
  const total = small.reduce((a, b) => a + b);
  const mass = [0, 0];
  small.forEach((v, k) => {
    mass[0] += (v * Math.floor(k / width)) / total;
    mass[1] += (v * (k % width)) / total;
  });
  const [down, across] = [height, width].map((side, axis) =>
    Math.min(Math.max(roundEven(center - mass[axis]), 0), size - side));
  const image = new Float64Array(size * size);
  small.forEach((v, k) => (image[(down + Math.floor(k / width)) * size + across + (k % width)] = v / most));
  return image;
}

// xpnet.data.ink.average_areas: each new pixel is the mean over the area that it covers of the old ones.
function averageAreas({ height: h, width: w, data }, height, width) {
  const [rows, columns] = [overlaps(h, height), overlaps(w, width)];
  const result = new Float64Array(height * width);
  rows.forEach((row, y) => columns.forEach((column, x) => {
    for (const [i, down] of row) for (const [j, across] of column) result[y * width + x] += down * across * data[i * w + j];
  }));
  return result;
}

// For each new pixel, the old ones [place, share] that it is the mean of.
function overlaps(old, count) {
  return range(count).map((k) => {
    const [start, stop] = [(k * old) / count, ((k + 1) * old) / count];
    const shared = (i) => Math.min(Math.max(Math.min(stop, i + 1) - Math.max(start, i), 0), 1);
    return range(old).map((i) => [i, (shared(i) * count) / old]).filter(([, share]) => share > 0);
  });
}

// Pixels from 0 to pixelMax for a network whose images have `size` rows; null if there is nothing to see.
function pixelsOf(ink, size, pixelMax) {
  const cropped = crop(ink);
  if (!cropped) return null;
  // MNIST's digits have a margin, in a box of 20 of 28 pixels; the bundled ones, of 8 by 8 pixels, have none.
  const [box, center] = size < 16 ? [size, (size - 1) / 2] : [Math.round((size * 20) / 28), size / 2];
  return layOut(cropped, size, box, center).map((v) => roundEven(pixelMax * v));
}

const range = (n) => Array.from({ length: n }, (_, k) => k);
// Python and NumPy round halves to the even neighbour.
const roundEven = (v) => (Math.abs(v % 1) === 0.5 ? 2 * Math.round(v / 2) : Math.round(v));

if (typeof module !== "undefined") module.exports = { rasterize, layOut, pixelsOf };
