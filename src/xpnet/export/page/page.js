"use strict";
// The page: takes strokes, and shows what the network answers.

const root = document.getElementById("xpnet-draw");
const find = (selector) => root.querySelector(selector);
const [board, seen, first, bars, answer] = [".pad", ".seen", ".first", ".bars", ".answer"].map(find);
const STEP = 20; // how far an arrow key moves the pen, on a pad of 560 by 560
let model, strokes, pen, cursor;

function use(buffer) {
  const found = readModel(buffer);
  const side = Math.round(Math.sqrt(found.inputShape.reduce((a, b) => a * b)));
  const [height, width = height / side, channels = 1] = found.inputShape.length > 1 ? found.inputShape : [side * side];
  const square = found.inputShape.length > 1 ? height === width && channels === 1 : height === width * side;
  if (!square || side * side !== found.inputShape.reduce((a, b) => a * b)) throw new Error("it takes no square grey images");
  forward(found, new Float64Array(side * side)); // Fails here, and not while one draws, if arrays are missing.
  model = { ...found, side };
  clear();
}

function clear() {
  [strokes, pen, cursor] = [[], null, [280, 280]];
  update();
  say();
}

// Drawing ----------------------------------------------------------------------------------------------------------

function show() {
  const g = board.getContext("2d");
  g.clearRect(0, 0, 560, 560);
  const style = getComputedStyle(root);
  [g.lineCap, g.lineJoin, g.lineWidth, g.strokeStyle] = ["round", "round", 40, style.getPropertyValue("--pen")];
  for (const stroke of strokes) {
    g.beginPath();
    stroke.forEach(([x, y], k) => (k ? g.lineTo(x, y) : g.moveTo(x, y)));
    if (stroke.length === 1) g.lineTo(...stroke[0]);
    g.stroke();
  }
  if (document.activeElement === board && keys) {
    [g.lineWidth, g.strokeStyle] = [pen ? 8 : 4, style.getPropertyValue("--focus")];
    g.beginPath();
    g.arc(...cursor, 24, 0, 2 * Math.PI);
    g.stroke();
  }
}

function place(event) {
  const { left, top, width, height } = board.getBoundingClientRect();
  return [((event.clientX - left) / width) * 560, ((event.clientY - top) / height) * 560];
}

let keys = false; // whether the pen is moved by the keyboard
board.addEventListener("pointerdown", (event) => {
  if (event.button || pen) return;
  keys = false;
  board.setPointerCapture(event.pointerId);
  pen = event.pointerId;
  strokes.push([place(event)]);
  update();
});
board.addEventListener("pointermove", (event) => {
  if (pen !== event.pointerId) return;
  const events = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
  strokes.at(-1).push(...(events.length ? events : [event]).map(place));
  update();
});
for (const end of ["pointerup", "pointercancel"])
  board.addEventListener(end, (event) => {
    if (pen !== event.pointerId) return;
    pen = null;
    say();
  });

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
board.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const arrow = ARROWS[event.key];
  if (!arrow && ![" ", "Backspace", "Escape"].includes(event.key)) return;
  event.preventDefault();
  keys = true;
  if (event.key === "Escape") return clear();
  if (event.key === "Backspace") return undo();
  if (arrow) {
    cursor = cursor.map((v, axis) => Math.min(Math.max(v + STEP * arrow[axis], 20), 540));
    if (pen) strokes.at(-1).push(cursor);
  } else {
    pen = pen ? null : "keys";
    if (pen) strokes.push([cursor]);
    else say();
  }
  update();
});
board.addEventListener("focus", () => show());
board.addEventListener("blur", () => show());

function undo() {
  strokes.pop();
  pen = null;
  update();
  say();
}

find("[data-do=undo]").addEventListener("click", undo);
find("[data-do=clear]").addEventListener("click", clear);

// The answer -------------------------------------------------------------------------------------------------------

let outputs = null;
let due = false;

// Answers at most once a frame, however many points a hand gives.
function update() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    look();
  });
}

function look() {
  show();
  const pixels = strokes.length ? pixelsOf(rasterize(strokes), model.side, model.pixelMax) : null;
  outputs = pixels && forward(model, pixels);
  grid(seen, [{ data: pixels || new Float64Array(model.side ** 2), most: model.pixelMax }], model.side, model.side);
  seen.setAttribute("aria-label", pixels ? `Your drawing, ${model.side} by ${model.side} pixels.` : "Nothing is drawn yet.");
  firstLayer();
  const shares = outputs && softmax(outputs.at(-1).data);
  const count = shares ? shares.length : classes();
  if (bars.children.length !== count) {
    const row = (k) => `<li><span>${k}</span><span class="track"><span class="fill"></span></span><span class="share"></span></li>`;
    bars.innerHTML = Array.from({ length: count }, (_, k) => row(k)).join("");
  }
  [...bars.children].forEach((item, k) => {
    const share = shares ? shares[k] : 0;
    item.className = shares && share === Math.max(...shares) ? "best" : "";
    item.querySelector(".fill").style.width = `${100 * share}%`;
    item.querySelector(".share").textContent = `${Math.round(100 * share)}%`;
  });
}

const classes = () => forward(model, new Float64Array(model.side ** 2)).at(-1).data.length;

// Says the answer when a stroke ends: a screen reader could not keep up with every point.
function say(text) {
  if (text) return (answer.textContent = text);
  look();
  if (!outputs) return (answer.textContent = "Draw a digit.");
  const ranked = softmax(outputs.at(-1).data).map((share, k) => [share, k]).sort((a, b) => b[0] - a[0]);
  const [[most, best], [second, next]] = ranked;
  const doubt = second >= 0.01 ? `, or a ${next} (${Math.round(100 * second)}%)` : "";
  return (answer.textContent = `The network reads a ${best} (${Math.round(100 * most)}%)${doubt}.`);
}

// Paints arrays of numbers as tiles, from black at 0 to white at their most.
function grid(canvas, tiles, height, width) {
  const across = Math.ceil(Math.sqrt(tiles.length));
  const down = Math.ceil(tiles.length / across);
  const gap = tiles.length > 1 && width > 1 ? 1 : 0;
  [canvas.width, canvas.height] = [across * (width + gap) - gap, down * (height + gap) - gap];
  const g = canvas.getContext("2d");
  tiles.forEach(({ data, most }, tile) => {
    const picture = g.createImageData(width, height);
    data.forEach((v, k) => {
      const grey = most > 0 ? (255 * Math.max(v, 0)) / most : 0;
      picture.data.set([grey, grey, grey, 255], 4 * k);
    });
    g.putImageData(picture, (tile % across) * (width + gap), Math.floor(tile / across) * (height + gap));
  });
}

// The first layer with weights, after the activation that follows it.
function firstLayer() {
  const kinds = model.layers.map((layer) => layer.class);
  const learns = kinds.findIndex((kind, i) => Object.keys(model.arrays[i]).length);
  const active = kinds.findIndex((kind, i) => i > learns && /ReLU|GELU|Tanh|Sigmoid/.test(kind));
  const next = kinds.findIndex((kind, i) => i > learns && (kind === "Dense" || kind === "Conv2D"));
  const shown = active > 0 && (next < 0 || active < next) ? active : Math.max(learns, 0);
  const { shape, data } = outputs ? outputs[shown] : forward(model, new Float64Array(model.side ** 2))[shown];
  const most = outputs ? data.reduce((a, b) => Math.max(a, b), 0) : 0;
  const [height, channels, width] = shape.length === 3 ? shape : [1, shape[0], 1];
  const tile = (c) => Float64Array.from({ length: height * width }, (_, k) =>
    data[(Math.floor(k / width) * channels + c) * width + (k % width)]);
  grid(first, Array.from({ length: channels }, (_, c) => ({ data: tile(c), most })), height, width);
  const on = Array.from({ length: channels }, (_, c) => tile(c).some((v) => v > 0)).filter(Boolean).length;
  first.setAttribute("aria-label", outputs ? `${on} of ${channels} ${width > 1 ? "feature maps" : "units"} are active.` : "Nothing is drawn yet.");
}

// Another network --------------------------------------------------------------------------------------------------

async function open(file) {
  try {
    use(await file.arrayBuffer());
    find(".about").textContent = `This is the network of ${file.name}.`;
    say("Draw a digit for your own network.");
  } catch (error) {
    say(`${file.name} cannot be used: ${error.message}. Choose the model.safetensors of a run.`);
  }
}

find("input").addEventListener("change", (event) => {
  if (event.target.files.length) open(event.target.files[0]);
  event.target.value = "";
});
root.addEventListener("dragover", (event) => {
  event.preventDefault();
  root.classList.add("dropping");
});
root.addEventListener("dragleave", () => root.classList.remove("dropping"));
root.addEventListener("drop", (event) => {
  event.preventDefault();
  root.classList.remove("dropping");
  if (event.dataTransfer.files.length) open(event.dataTransfer.files[0]);
});

use(Uint8Array.from(atob(find(".model").textContent), (letter) => letter.charCodeAt(0)).buffer);
