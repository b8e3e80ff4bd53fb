"use strict";
// Runs the generator of explorer.html: in WebGL2 if a graphics card does that with float targets, else in plain
// JavaScript, which is faster than WebGL2 without a card. "#cpu" or "#gpu" in the address decides otherwise.
// window.dcgan is for scripts and tests.

const $ = (id) => document.getElementById(id);
const model = JSON.parse($("model").textContent);
const [HIGH, WIDE] = model.map.map((side) => side * 2 ** (model.layers.length - 1));
const CHANNELS = model.layers.at(-1)[1];
const ALPHA = model.alpha ? CHANNELS - 1 : 0; // the channel that is alpha
const DIM = model.latent.dim;
const INPUTS = model.layers[0][0]; // z, and after it how much of each class, if there are any
const groups = (channels) => Math.ceil(channels / 4);

const [layers, modulations] = (() => {
  const binary = atob($("weights").textContent.trim());
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  $("weights").remove();
  const halves = new Uint16Array(bytes.buffer);
  let start = 0;
  const layers = model.layers.map(([inputs, outputs], i) => {
    const [height, width] = model.map.map((side) => side * 2 ** i), first = i === 0;
    const taps = first ? height * width : 16; // of the kernel: that of the first layer is as large as its map
    const length = groups(inputs) * groups(outputs) * taps * 16 + groups(outputs) * 4;
    start += length;
    return {
      inputs,
      outputs,
      first,
      last: i === model.layers.length - 1,
      height,
      width,
      taps,
      halves: halves.subarray(start - length, start),
    };
  });
  const dense = (inputs, outputs) => {
    const part = (length) => Float32Array.from(halves.subarray(start, (start += length)), toFloat);
    return { kernel: part(inputs * outputs), bias: part(outputs) };
  };
  if (!model.hidden) return [layers, null];
  const hidden = dense(INPUTS, model.hidden);
  const parts = layers.map(({ outputs }, i) =>
    i < model.modulated ? [dense(model.hidden, outputs), dense(model.hidden, outputs)] : []);
  return [layers, { hidden, parts }];
})();

/** A float16, given by its bits. */
function toFloat(half) {
  const exponent = (half >> 10) & 31, fraction = half & 1023;
  return (half >> 15 ? -1 : 1) * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24);
}

/** What self-modulation makes of an array of INPUTS numbers: for each layer [] or [scales, shifts]. */
function modulation(numbers) {
  if (!modulations) return layers.map(() => []);
  function apply({ kernel, bias }, inputs) {
    const sums = Float64Array.from(bias), length = bias.length;
    for (let i = 0; i < inputs.length; i++) {
      const value = inputs[i], start = i * length;
      for (let o = 0; o < length; o++) sums[o] += value * kernel[start + o];
    }
    return sums;
  }
  const hidden = apply(modulations.hidden, numbers).map((value) => Math.max(value, 0));
  return modulations.parts.map((parts) => parts.map((part) => apply(part, hidden)));
}

const WORK = layers.reduce((sum, l) => sum + l.inputs * l.outputs * l.height * l.width * (l.first ? 1 : 4), 0);

const ASKED = ["cpu", "gpu"].find((name) => new URLSearchParams(location.hash.slice(1)).has(name));

/** Draws on the graphics card; null where that is not possible. */
function webgl() {
  const gl = document.createElement("canvas").getContext("webgl2", { antialias: false, depth: false });
  if (!gl || !gl.getExtension("EXT_color_buffer_float")) return null;
  const about = gl.getExtension("WEBGL_debug_renderer_info");
  const card = gl.getParameter(about ? about.UNMASKED_RENDERER_WEBGL : gl.RENDERER);
  if (/swiftshader|llvmpipe|softpipe|software|basic render/i.test(card) && ASKED !== "gpu") return null;
  const WIDTH = 2048; // as in the shader
  const highest = gl.getParameter(gl.MAX_TEXTURE_SIZE);
  const rows = (texels) => Math.ceil(texels / WIDTH);
  const floats = (l) => groups(l.outputs) * l.height * l.width; // texels for one image
  const largest = Math.max(groups(INPUTS), ...layers.map(floats));
  if (Math.max(...layers.map((l) => rows(l.halves.length / 4)), rows(largest)) > highest) return null;

  const program = gl.createProgram();
  const vertex = "#version 300 es\nvoid main() { gl_Position = vec4(ivec2(gl_VertexID & 1, gl_VertexID >> 1) * 4 - 1, 0, 1); }";
  for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, $("shader").textContent.trim()]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) return null;
  gl.useProgram(program);
  const at = (name) => gl.getUniformLocation(program, name);
  gl.uniform1i(at("kernel"), 1);
  gl.uniform1i(at("modulation"), 2);
  gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());

  function texture(format, height, type, data) {
    const texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, texture);
    for (const which of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, which, gl.NEAREST);
    gl.texImage2D(gl.TEXTURE_2D, 0, format, WIDTH, height, 0, gl.RGBA, type, data);
    return texture;
  }
  gl.activeTexture(gl.TEXTURE1);
  const kernels = layers.map(({ halves }) => {
    const whole = new Uint16Array(rows(halves.length / 4) * WIDTH * 4);
    whole.set(halves);
    return texture(gl.RGBA16F, rows(halves.length / 4), gl.HALF_FLOAT, whole);
  });

  /** For each layer a texture of the scales and shifts of all images, or null. */
  function scales(zs) {
    const ofImages = zs.map(modulation);
    return layers.map(({ outputs }, i) => {
      if (!ofImages[0][i].length) return null;
      const step = groups(outputs) * 4, values = new Float32Array(rows((zs.length * step) / 2) * WIDTH * 4);
      ofImages.forEach((parts, image) => parts[i].forEach((part, k) => values.set(part, (2 * image + k) * step)));
      return texture(gl.RGBA32F, values.length / WIDTH / 4, gl.FLOAT, values);
    });
  }

  function draw(zs) {
    gl.activeTexture(gl.TEXTURE2);
    const modulated = scales(zs);
    gl.activeTexture(gl.TEXTURE0);
    const z = new Float32Array(rows(zs.length * groups(INPUTS)) * WIDTH * 4);
    zs.forEach((numbers, i) => z.set(numbers, i * groups(INPUTS) * 4));
    let source = texture(gl.RGBA32F, z.length / WIDTH / 4, gl.FLOAT, z);
    let height;
    layers.forEach((layer, i) => {
      height = rows(zs.length * floats(layer));
      const target = layer.last
        ? texture(gl.RGBA8, height, gl.UNSIGNED_BYTE, null)
        : texture(gl.RGBA32F, height, gl.FLOAT, null);
      gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, target, 0);
      for (const [unit, bound] of [source, kernels[i], modulated[i] ?? kernels[i]].entries()) {
        gl.activeTexture(gl.TEXTURE0 + unit);
        gl.bindTexture(gl.TEXTURE_2D, bound);
      }
      gl.activeTexture(gl.TEXTURE0);
      gl.uniform2i(at("size"), layer.width, layer.height);
      gl.uniform1i(at("groupsIn"), groups(layer.inputs));
      gl.uniform1i(at("groupsOut"), groups(layer.outputs));
      gl.uniform1i(at("first"), layer.first);
      gl.uniform1i(at("last"), layer.last);
      gl.uniform1i(at("modulated"), modulated[i] !== null);
      gl.uniform1i(at("alpha"), ALPHA);
      gl.viewport(0, 0, WIDTH, height);
      gl.drawArrays(gl.TRIANGLES, 0, 3);
      gl.deleteTexture(source);
      source = target;
    });
    const rgba = new Uint8Array(WIDTH * height * 4);
    gl.readPixels(0, 0, WIDTH, height, gl.RGBA, gl.UNSIGNED_BYTE, rgba);
    for (const used of [source, ...modulated]) gl.deleteTexture(used);
    if (gl.getError() || gl.isContextLost()) return null;
    return zs.map((_, n) => {
      const count = HIGH * WIDE, pixels = new Uint8Array(count * CHANNELS), start = n * count;
      for (let i = 0; i < count; i++)
        for (let c = 0; c < CHANNELS; c++) pixels[i * CHANNELS + c] = rgba[(start + i) * 4 + c];
      return pixels;
    });
  }
  // Few enough that no call keeps the screen waiting, and that everything fits.
  const most = Math.min(2e9 / WORK, (Math.min(highest, 4096) * WIDTH) / largest);
  return { name: "WebGL2", draw, most: Math.max(1, Math.floor(most)) };
}

/** Draws with plain loops over typed arrays. */
function javascript() {
  const float = new Float32Array(65536).map((_, half) => toFloat(half));
  const network = layers.map((layer) => {
    const { inputs, outputs, taps, halves } = layer, groupsIn = groups(inputs);
    const kernel = new Float32Array(taps * inputs * outputs); // [tap][in][out], row by row
    for (let o = 0; o < outputs; o++) for (let i = 0; i < inputs; i++) for (let tap = 0; tap < taps; tap++) {
      const texel = (((o >> 2) * groupsIn + (i >> 2)) * taps + tap) * 4 + (i & 3);
      kernel[(tap * inputs + i) * outputs + o] = float[halves[texel * 4 + (o & 3)]];
    }
    const bias = Float32Array.from(halves.subarray(groupsIn * groups(outputs) * taps * 16), (h) => float[h]);
    return { ...layer, kernel, bias };
  });

  function apply({ inputs, outputs, first, last, height, width, kernel, bias }, source, [scales, shifts]) {
    const target = new Float32Array(height * width * outputs), before = [height / 2, width / 2];
    const values = new Float32Array(4 * inputs + 3), places = new Int32Array(4 * inputs + 3);
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
      let count = 0; // of the inputs that are not 0: after a ReLU that is about half
      const gather = (start, tap) => {
        for (let i = 0; i < inputs; i++) if (source[start + i] !== 0) {
          values[count] = source[start + i];
          places[count++] = (tap * inputs + i) * outputs;
        }
      };
      if (first) gather(0, y * width + x);
      else for (let ky = (y + 1) % 2; ky < 4; ky += 2) for (let kx = (x + 1) % 2; kx < 4; kx += 2) {
        const sy = (y + 1 - ky) / 2, sx = (x + 1 - kx) / 2;
        if (sy >= 0 && sx >= 0 && sy < before[0] && sx < before[1]) gather((sy * before[1] + sx) * inputs, ky * 4 + kx);
      }
      const start = (y * width + x) * outputs;
      for (let o = 0; o < outputs; o++) target[start + o] = bias[o];
      while (count % 4) { values[count] = 0; places[count++] = 0; }
      for (let n = 0; n < count; n += 4) accumulate(target, start, outputs, kernel, values, places, n);
    }
    if (scales) for (let i = 0; i < target.length; i++) target[i] = target[i] * scales[i % outputs] + shifts[i % outputs];
    for (let i = 0; i < target.length; i++) target[i] = last ? Math.tanh(target[i]) : Math.max(target[i], 0);
    return target;
  }

  /** Adds four inputs times their kernels. Math.fround everywhere keeps the arithmetic in float32. */
  function accumulate(target, start, outputs, kernel, values, places, n) {
    const f = Math.fround;
    const a = f(values[n]), b = f(values[n + 1]), c = f(values[n + 2]), d = f(values[n + 3]);
    const ka = places[n], kb = places[n + 1], kc = places[n + 2], kd = places[n + 3];
    for (let o = 0; o < outputs; o++) {
      const ab = f(f(a * kernel[ka + o]) + f(b * kernel[kb + o]));
      const cd = f(f(c * kernel[kc + o]) + f(d * kernel[kd + o]));
      target[start + o] = f(target[start + o] + f(ab + cd));
    }
  }

  /** Colours that are multiplied by alpha, in [-1, 1], to those of files: divided by it. */
  function straighten(values) {
    for (let i = 0; ALPHA && i < values.length; i += CHANNELS) {
      const alpha = (values[i + ALPHA] + 1) / 2, seen = alpha * 255 >= 0.5;
      for (let c = i; c < i + ALPHA; c++) values[c] = seen ? Math.min((values[c] + 1) / alpha - 1, 1) : -1;
    }
    return values;
  }

  function one(z) {
    const ofImage = modulation(z);
    const values = network.reduce((source, layer, i) => apply(layer, source, ofImage[i]), Float32Array.from(z));
    return Uint8Array.from(straighten(values), (value) => Math.round((value + 1) * 127.5));
  }
  const draw = (zs) => zs.map(one);
  return { name: "JavaScript", draw, most: 1 };
}

let backend = (ASKED === "cpu" ? null : webgl()) || javascript();

const pause = () => new Promise((resolve) => setTimeout(resolve));

/**
 * Arrays of INPUTS numbers -> Uint8Arrays (H, W, C), as files hold them: with alpha the colours are not multiplied by it.
 * `seen(i, pixels)` is called as soon as image i is there.
 */
async function decode(zs, seen = () => true) {
  const images = [];
  while (images.length < zs.length) {
    if (images.length) await pause();
    const drawn = backend.draw(zs.slice(images.length, images.length + backend.most));
    if (!drawn) backend = javascript(); // the card is gone, or its memory is full
    for (const image of drawn ?? []) {
      images.push(image);
      if (seen(images.length - 1, image) === false) return images;
    }
  }
  return images;
}

window.dcgan = { decode, get backend() { return backend.name; }, shape: [HIGH, WIDE, CHANNELS] };
