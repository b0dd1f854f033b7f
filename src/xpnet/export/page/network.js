"use strict";
// Reads model.safetensors as xpnet writes it, and runs its network forward: no library, no server.
// A batch is one image, a flat array in xpnet's own order (height, channels, width), so Flatten changes nothing.

function readModel(buffer) {
  const bytes = new Uint8Array(buffer);
  const length = bytes.length < 8 ? Infinity : Number(new DataView(buffer).getBigUint64(0, true));
  if (length > bytes.length - 8) throw new Error("it is not a safetensors file");
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  const meta = (header.__metadata__ || {})["xpnet.meta"];
  if (!meta) throw new Error("xpnet did not write it");
  const { layers, input_shape: inputShape, pixel_max: pixelMax } = JSON.parse(meta).network;
  const arrays = layers.map(() => ({}));
  for (const [name, entry] of Object.entries(header)) {
    const [, layer, key] = /^layers\.(\d+)\.(\w+)$/.exec(name) || [];
    if (key === undefined) continue;
    const data = buffer.slice(8 + length + entry.data_offsets[0], 8 + length + entry.data_offsets[1]);
    arrays[layer][key] = entry.dtype === "F64" ? new Float64Array(data) : new Float32Array(data);
  }
  for (const { class: kind } of layers) if (!LAYERS[kind]) throw new Error(`this page has no layer ${kind}`);
  return { layers, arrays, inputShape, pixelMax };
}

// The output after each layer, for pixels from 0 to pixelMax in the order (height, width, channels).
function forward(model, pixels) {
  const [h, w = 1, c = 1] = model.inputShape;
  let x = { shape: w * c === 1 ? [h] : [h, c, w], data: new Float32Array(pixels.length) };
  for (let k = 0; k < pixels.length; k++) {
    const [row, column, channel] = [Math.floor(k / (w * c)), Math.floor(k / c) % w, k % c];
    x.data[(row * c + channel) * w + column] = pixels[k] / model.pixelMax;
  }
  return model.layers.map((layer, i) => (x = LAYERS[layer.class](x, layer, model.arrays[i])));
}

function softmax(logits) {
  const top = Math.max(...logits);
  const p = Array.from(logits, (z) => Math.exp(z - top));
  const total = p.reduce((a, b) => a + b);
  return p.map((v) => v / total);
}

function dense(x, layer, { weight, bias }) {
  const data = new Float32Array(layer.units);
  for (let j = 0; j < layer.units; j++) {
    let sum = bias ? bias[j] : 0;
    for (let i = 0; i < x.data.length; i++) sum += x.data[i] * weight[i * layer.units + j];
    data[j] = sum;
  }
  return { shape: [layer.units], data };
}

// Puts a border of `value` around an image, and says how large a result a window gives that is moved over it.
function pad(x, value, [top, left], kernel, stride) {
  const [h, channels, w] = x.shape;
  const shape = [h + 2 * top, channels, w + 2 * left];
  const data = new Float64Array(shape[0] * channels * shape[2]).fill(value);
  for (let k = 0; k < h * channels; k++)
    data.set(x.data.subarray(k * w, (k + 1) * w), (k + top * channels) * shape[2] + left);
  const size = [0, 1].map((axis) => Math.floor((shape[2 * axis] - kernel[axis]) / stride[axis]) + 1);
  return { data, w: shape[2], channels, height: size[0], width: size[1] };
}

function conv2d(x, layer, { weight, bias }) {
  const [kernel, stride, filters] = [pair(layer.kernel_size), pair(layer.stride), layer.filters];
  const padding = layer.padding === "same" ? kernel.map((k) => (k - 1) / 2) : pair(layer.padding);
  const { data, w, channels, height, width } = pad(x, 0, padding, kernel, stride);
  const y = new Float64Array(height * filters * width);
  for (let r = 0; r < height; r++)
    for (let f = 0; f < filters; f++) {
      const to = (r * filters + f) * width;
      if (bias) y.fill(bias[f], to, to + width);
      for (let i = 0; i < kernel[0]; i++)
        for (let j = 0; j < kernel[1]; j++)
          for (let c = 0; c < channels; c++) {
            const factor = weight[((i * filters + f) * kernel[1] + j) * channels + c];
            const from = ((r * stride[0] + i) * channels + c) * w + j;
            for (let s = 0; s < width; s++) y[to + s] += factor * data[from + s * stride[1]];
          }
    }
  return { shape: [height, filters, width], data: y };
}

function pool(x, layer, start, join) {
  const size = pair(layer.size);
  const stride = layer.stride === null ? size : pair(layer.stride);
  const { data, w, channels, height, width } = pad(x, start, pair(layer.padding), size, stride);
  const y = new Float64Array(height * channels * width).fill(start);
  for (let k = 0; k < y.length; k++) {
    const [r, c, s] = [Math.floor(k / (channels * width)), Math.floor(k / width) % channels, k % width];
    for (let i = 0; i < size[0]; i++)
      for (let j = 0; j < size[1]; j++)
        y[k] = join(y[k], data[((r * stride[0] + i) * channels + c) * w + s * stride[1] + j], size[0] * size[1]);
  }
  return { shape: [height, channels, width], data: y };
}

function batchNorm(x, layer, { gamma, beta, running_mean: mean, running_variance: variance }) {
  const width = x.shape.length === 3 ? x.shape[2] : 1;
  return map(x, (v, k) => {
    const c = Math.floor(k / width) % gamma.length;
    return ((v - mean[c]) * gamma[c]) / Math.sqrt(variance[c] + layer.epsilon) + beta[c];
  });
}

const pair = (value) => (Array.isArray(value) ? value : [value, value]);
const map = (x, f) => ({ shape: x.shape, data: x.data.map(f) });
const same = (x) => x;
const relu = (x) => map(x, (v) => Math.max(v, 0));
const gelu = (v) => 0.5 * v * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3)));

// Layers for training alone do nothing here.
const LAYERS = {
  Dense: dense, Conv2D: conv2d, BatchNorm: batchNorm,
  MaxPool2D: (x, layer) => pool(x, layer, -Infinity, (a, b) => Math.max(a, b)),
  AveragePool2D: (x, layer) => pool(x, layer, 0, (a, b, count) => a + b / count),
  Flatten: (x) => ({ shape: [x.data.length], data: x.data }),
  ReLU: relu, TutorialReLU: relu,
  LeakyReLU: (x, layer) => map(x, (v) => (v > 0 ? v : layer.slope * v)),
  Tanh: (x) => map(x, Math.tanh),
  Sigmoid: (x) => map(x, (v) => 0.5 + 0.5 * Math.tanh(0.5 * v)),
  GELU: (x) => map(x, gelu),
  Dropout: same, CoinDropout: same, TutorialDropout: same, RandomShift: same,
};

if (typeof module !== "undefined") module.exports = { readModel, forward, softmax };
