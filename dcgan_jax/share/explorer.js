"use strict";
// The controls of explorer.html. explorer_network.js comes before it.

// --- latent vectors -------------------------------------------------------------------------------------------------

/** Uniform numbers in [0, 1): mulberry32. */
function randomNumbers(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const normal = (random) => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
const noise = (random) => Array.from({ length: DIM }, () => normal(random));
const prior = (random) =>
  model.latent.distribution === "normal" ? noise(random) : Array.from({ length: DIM }, () => 2 * random() - 1);
const USUAL = Math.sqrt(model.latent.distribution === "normal" ? DIM : DIM / 3); // length of a z
const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
const times = (a, factor) => a.map((value) => value * factor);
const plus = (a, b) => a.map((value, i) => value + b[i]);
const mean = (vectors) => times(vectors.reduce(plus), 1 / vectors.length);

// What is drawn is a list of INPUTS numbers: z, and how much of each class.
const CLASSES = model.classes.names;
const zOf = (numbers) => numbers.slice(0, DIM);
const classesOf = (numbers) => numbers.slice(DIM);
const oneClass = (label) => CLASSES.map((_, i) => (i === label ? 1 : 0));

/** A class as often as it has images; no number is drawn where there are none. */
function anyClass(random) {
  const counts = model.classes.counts;
  let left = CLASSES.length && random() * counts.reduce((sum, count) => sum + count);
  return Math.max(0, counts.findIndex((count) => (left -= count) < 0));
}

/** From a to b: z along an arc, the classes on a straight line. */
function between(a, b, t) {
  return [...slerp(zOf(a), zOf(b), t), ...plus(times(classesOf(a), 1 - t), times(classesOf(b), t))];
}

/** From a to b along an arc, t in [0, 1]: the length changes evenly. As `slerp` of the package. */
function slerp(a, b, t) {
  const [la, lb] = [a, b].map((z) => Math.sqrt(dot(z, z)));
  const angle = Math.acos(Math.min(1, Math.max(-1, dot(a, b) / (la * lb))));
  if (!(Math.sin(angle) > 1e-4)) return plus(times(a, 1 - t), times(b, t));
  const length = ((1 - t) * la + t * lb) / Math.sin(angle);
  return plus(times(a, (length * Math.sin((1 - t) * angle)) / la), times(b, (length * Math.sin(t * angle)) / lb));
}

// --- the page -------------------------------------------------------------------------------------------------------

const COUNT = 16, STEPS = 8, NAMES = ["A", "B", "C"];
let samples = []; // {z, pixels, canvas, button}
let run = 0; // counts the draws of the grid, so that one that has been overtaken ends
let tab = "between";
let pair = [0, 1]; // numbers of samples
let terms = [[0], [1], [2]]; // of A − B + C: an example, until one is chosen
const chosen = [false, false, false];
let term = 0; // the one that the next click belongs to
let here = null; // what the walk draws now
let label = -1; // the class of the grid; -1 for all
let given = []; // what a file has put into the first places of the grid

function paint(canvas, pixels) {
  const context = canvas.getContext("2d", { willReadFrequently: true }), picture = context.createImageData(WIDE, HIGH);
  for (let i = 0; i < HIGH * WIDE; i++) {
    for (let c = 0; c < 3; c++) picture.data[4 * i + c] = pixels[i * CHANNELS + (CHANNELS >= 3 ? c : 0)];
    picture.data[4 * i + 3] = ALPHA ? pixels[i * CHANNELS + ALPHA] : 255;
  }
  context.putImageData(picture, 0, 0);
}

function picture(label, parent) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [WIDE, HIGH];
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  parent.append(canvas);
  return canvas;
}

/** Makes of `draw` a function that runs once at a time, and after that once more with the newest arguments. */
function latest(draw) {
  let busy = false, next = null;
  return async (...args) => {
    next = args;
    if (busy) return;
    busy = true;
    while (next) {
      const now = next;
      next = null;
      await draw(...now);
      await pause();
    }
    busy = false;
  };
}

const variety = () => Number($("variety").value);
const seed = () => Number($("seed").value) >>> 0;

/** Reads seed and variety from the address. */
function readAddress() {
  const there = new URLSearchParams(location.hash.slice(1));
  $("seed").value = /^\d{1,9}$/.test(there.get("seed") ?? "") ? there.get("seed") : "0";
  const value = Number(there.get("variety") ?? 1);
  $("variety").value = value >= 0.1 && value <= 1 ? value : 1;
  label = CLASSES.indexOf(there.get("class"));
}

function writeAddress() {
  const chosen = label < 0 ? "" : `&class=${encodeURIComponent(CLASSES[label])}`;
  history.replaceState(null, "", `#seed=${seed()}&variety=${variety()}${chosen}${ASKED ? `&${ASKED}` : ""}`);
}

const drawGrid = latest(async () => {
  const mine = ++run, random = randomNumbers(seed()), start = performance.now();
  // Not a shorter z, as elsewhere: with the statistics of BatchNorm it fades all pictures, and with statistics of its
  // own it draws the same as before. On the way to the first z the length stays, and each picture is a whole one.
  const own = samples.map(() => prior(random)).map((z, i) => (given[i] ? zOf(given[i]) : z));
  samples.forEach((sample, i) => {
    const any = anyClass(random);
    sample.z = given[i] ?? [...slerp(own[0], own[i], variety()), ...oneClass(label < 0 ? any : label)];
  });
  await decode(samples.map((sample) => sample.z), (i, pixels) => {
    samples[i].pixels = pixels;
    paint(samples[i].canvas, pixels);
    return mine === run;
  });
  if (mine !== run) return;
  const took = Math.max(1, Math.round(performance.now() - start));
  $("speed").textContent = `${COUNT} images in ${took} ms, ${backend.name}`;
  here = null;
  await drawTab();
  document.body.dataset.ready = run;
});

function redraw() {
  run++;
  [...$("classes").children].forEach((button, i) => button.setAttribute("aria-pressed", i - 1 === label));
  return drawGrid();
}

const drawTab = latest(async () => {
  mark();
  if (samples.some(({ pixels }) => !pixels)) return; // the first grid is still being drawn, and calls this at its end
  if (tab === "between") await drawBetween();
  if (tab === "walk") await drawWalk();
  if (tab === "steer") await drawSteer();
  if (tab === "arithmetic") await drawArithmetic();
});

/** Shows on the samples which ones are in use. */
function mark() {
  samples.forEach(({ button }, i) => {
    let letters = [];
    if (tab === "between") letters = pair.flatMap((of, k) => (of === i ? [k === 0 ? "from" : "to"] : []));
    if (tab === "steer" && i === steerFrom) letters = ["here"];
    if (tab === "arithmetic") letters = terms.flatMap((term, k) => (term.includes(i) ? [NAMES[k]] : []));
    button.querySelector("span").textContent = letters.join(" ");
    button.setAttribute("aria-pressed", letters.length > 0);
    button.setAttribute("aria-label", `Sample ${i + 1}${letters.length ? `, ${letters.join(" ")}` : ""}`);
  });
}

async function drawBetween() {
  $("between-hint").textContent = pair.length === 1 ? "Now click the image to end with." : "Click two images of the grid.";
  if (pair.length < 2) return;
  const [a, b] = pair.map((i) => samples[i].z), t = Number($("position").value);
  const zs = [between(a, b, t), ...strip.map((_, k) => between(a, b, k / (STEPS - 1)))];
  const key = [...a, ...b].join();
  const canvases = [$("between-picture"), ...strip];
  const some = drawBetween.key === key ? 1 : zs.length; // the slider moves only the large picture
  drawBetween.key = key;
  await decode(zs.slice(0, some), (k, pixels) => paint(canvases[k], pixels));
}

async function drawWalk() {
  here ??= samples[walkFrom].z;
  await decode([here], (_, pixels) => paint($("walk-picture"), pixels));
}

const REACH = 3; // along a direction: pictures change clearly, and stay whole
let steerFrom = 0;

/** The chosen sample, so far along each direction. */
function steered(amounts) {
  const { z } = samples[steerFrom];
  return [...model.directions.reduce((sum, direction, k) => plus(sum, times(direction, amounts[k])), zOf(z)), ...classesOf(z)];
}

async function drawSteer() {
  const amounts = sliders.map(({ input }) => Number(input.value));
  const ends = sliders.flatMap((_, k) => [-REACH, REACH].map((end) => steered(amounts.map((amount, i) => (i === k ? end : amount)))));
  const canvases = [$("steer-picture"), ...sliders.flatMap(({ canvases }) => canvases)];
  const some = sliders.some(({ held }) => held) ? 1 : canvases.length; // the small ones follow when it is let go
  await decode([steered(amounts), ...ends].slice(0, some), (k, pixels) => paint(canvases[k], pixels));
}

async function drawArithmetic() {
  const vectors = terms.map((term) => (term.length ? mean(term.map((i) => samples[i].z)) : null));
  document.querySelectorAll("#terms button").forEach((button, k) => {
    button.setAttribute("aria-pressed", k === term);
    button.setAttribute("aria-label", `${NAMES[k]}: ${terms[k].map((i) => `sample ${i + 1}`).join(", ") || "empty"}`);
    const thumbs = button.querySelector("div");
    thumbs.replaceChildren();
    for (const i of terms[k]) paint(picture(`sample ${i + 1}`, thumbs), samples[i].pixels);
  });
  if (vectors.includes(null)) return;
  const [a, b, c] = vectors;
  const sum = plus(plus(a, times(b, -1)), c);
  let z = zOf(sum);
  z = times(z, Math.min(1, USUAL / Math.sqrt(dot(z, z)))); // of single images it is too long
  const parts = classesOf(sum).map((part) => Math.max(part, 0)), whole = parts.reduce((all, part) => all + part, 0);
  z = [...z, ...times(parts, 1 / (whole || 1))];
  const canvases = [...document.querySelectorAll("#terms > button > canvas"), $("arithmetic-picture")];
  await decode([...vectors, z], (k, pixels) => paint(canvases[k], pixels));
}

let walkFrom = 0;
const PACE = 0.35; // radians in a second: from one sample to another in about five
let moving = !matchMedia("(prefers-reduced-motion: reduce)").matches;
let strolling = false;
let goal = null; // z that the walk goes to

/** Walks from one z to another while its tab is open and nobody drags. */
async function stroll() {
  if (strolling) return;
  strolling = true;
  for (let before = performance.now(); tab === "walk" && moving; ) {
    const now = await new Promise(requestAnimationFrame);
    if (moving && here && !drag) { // it may have been paused while the frame was waited for
      const angle = (Math.min(Math.max(now - before, 0), 250) / 1000) * PACE;
      const z = zOf(here);
      if (!goal || dot(z, goal) > Math.cos(2 * angle) * Math.sqrt(dot(z, z) * dot(goal, goal))) goal = prior(Math.random);
      walk(goal, angle);
      await drawTab();
    }
    before = now;
  }
  strolling = false;
}

function move(on) {
  moving = on;
  $("move").textContent = moving ? "Pause" : "Go on";
  stroll();
}

function choose(i) {
  if (tab === "between") pair = pair.length === 1 ? [pair[0], i] : [i];
  if (tab !== "arithmetic") { steerFrom = walkFrom = i; here = null; } // the other tabs go on from it
  if (tab === "arithmetic") {
    const there = chosen[term] ? terms[term] : [];
    chosen[term] = true;
    terms[term] = there.includes(i) ? there.filter((other) => other !== i) : [...there, i].slice(-3);
  }
  drawTab();
}

/** Moves z along a great circle through `here`, towards a direction of the drag's own. The class stays. */
function walk(direction, angle) {
  const z = zOf(here), length = Math.sqrt(dot(z, z)) || 1e-9;
  let side = plus(direction, times(z, -dot(direction, z) / length ** 2));
  side = times(side, length / Math.sqrt(dot(side, side)));
  here = [...plus(times(z, Math.cos(angle)), times(side, Math.sin(angle))), ...classesOf(here)];
}

/** Saves pictures in rows as one, enlarged without blur to 1,024 pixels or more. */
function save(canvases, columns, name) {
  const rows = Math.ceil(canvases.length / columns);
  const scale = Math.ceil(1024 / Math.max(columns * WIDE, rows * HIGH));
  const [wide, high] = [WIDE * scale, HIGH * scale];
  const canvas = document.createElement("canvas");
  canvas.width = columns * wide;
  canvas.height = rows * high;
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  canvases.forEach((one, i) => context.drawImage(one, (i % columns) * wide, Math.floor(i / columns) * high, wide, high));
  canvas.toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
}

const strip = Array.from({ length: STEPS }, (_, k) => picture(`step ${k + 1} of ${STEPS}`, $("strip")));
for (const id of ["between-picture", "walk-picture", "steer-picture", "arithmetic-picture"]) [$(id).width, $(id).height] = [WIDE, HIGH];

samples = Array.from({ length: COUNT }, (_, i) => {
  const button = document.createElement("button");
  const canvas = picture("", button);
  canvas.setAttribute("aria-hidden", true);
  button.append(document.createElement("span"));
  button.addEventListener("click", () => choose(i));
  $("grid").append(button);
  return { button, canvas };
});

const sliders = model.directions.map((_, k) => {
  const input = document.createElement("input"), slider = { input, held: false };
  Object.assign(input, { type: "range", min: -REACH, max: REACH, step: 0.1, value: 0 });
  input.setAttribute("aria-label", `Direction ${k + 1}`);
  input.addEventListener("input", () => { slider.held = true; drawTab(); });
  input.addEventListener("change", () => { slider.held = false; drawTab(); });
  const low = picture(`direction ${k + 1}, left end`, $("sliders"));
  $("sliders").append(input);
  slider.canvases = [low, picture(`direction ${k + 1}, right end`, $("sliders"))];
  return slider;
});
$("straight").addEventListener("click", () => {
  for (const { input } of sliders) input.value = 0;
  drawTab();
});

NAMES.forEach((name, k) => {
  const button = document.createElement("button");
  button.append(["", "−", "+"][k] + " " + name);
  picture(`average of ${name}`, button);
  button.append(document.createElement("div"));
  button.addEventListener("click", () => { term = k; drawTab(); });
  $("terms").append(button);
});

document.body.classList.toggle("alpha", Boolean(ALPHA));
$("classes").hidden = !CLASSES.length;
["All", ...CLASSES].forEach((name, i) => {
  const button = document.createElement("button");
  button.textContent = name;
  button.addEventListener("click", () => { label = i - 1; writeAddress(); redraw(); });
  $("classes").append(button);
});

document.title = $("title").textContent = model.title;
$("introduction").textContent = model.introduction;
$("facts").textContent = model.facts.join(" · ");

$("new").addEventListener("click", () => {
  $("seed").value = Math.floor(Math.random() * 1e6);
  writeAddress();
  redraw();
});
for (const id of ["seed", "variety"]) $(id).addEventListener("input", () => { writeAddress(); redraw(); });
addEventListener("hashchange", () => { readAddress(); redraw(); });
$("position").addEventListener("input", drawTab);
$("save").addEventListener("click", () => save(samples.map((s) => s.canvas), 4, `pictures-${seed()}.png`));
$("save-strip").addEventListener("click", () => save(strip, STEPS, "between.png"));
$("save-walk").addEventListener("click", () => save([$("walk-picture")], 1, "walk.png"));
$("save-steer").addEventListener("click", () => save([$("steer-picture")], 1, "steered.png"));
$("save-arithmetic").addEventListener("click", () => save([$("arithmetic-picture")], 1, "arithmetic.png"));
const sharpen = () => document.body.classList.toggle("sharp", $("sharp").checked);
$("sharp").addEventListener("change", sharpen);
$("sharp").checked = HIGH * WIDE <= 32 ** 2; // larger pictures are seldom made of pixels to be seen
sharpen();

/** What a file of `project` puts into the grid: lists of INPUTS numbers. Throws what is wrong with it, in words. */
async function read(file) {
  if (/^image\//.test(file.type)) throw Error("it is a picture: python -m dcgan_jax.project --image makes a z.json of it");
  if (file.size > 1e6) throw Error("it is larger than what python -m dcgan_jax.project writes");
  let content;
  try { content = JSON.parse(await file.text()); } catch { /* said below */ }
  const pictures = content?.pictures;
  if (typeof content?.weights !== "string" || !Array.isArray(pictures)) throw Error("it is no z.json that python -m dcgan_jax.project wrote");
  if (content.weights !== model.weights)
    throw Error(`it belongs to other weights than this page, those of ${String(content.run).slice(0, 80)}, step ${content.step}: open the page of that step`);
  const whole = pictures.length >= 1 && pictures.length <= COUNT && pictures.every((one) =>
    one?.z?.length === DIM && one.z.every?.(Number.isFinite) && (!CLASSES.length || CLASSES.includes(one.class)));
  if (!whole) throw Error("its numbers are not whole: let python -m dcgan_jax.project write it anew");
  return pictures.map((one) => [...one.z, ...oneClass(CLASSES.indexOf(one.class))]);
}

function say(text) {
  $("opened").hidden = !text && !given.length;
  $("opened").querySelector("p").textContent = text;
  $("close").hidden = !given.length;
}

/** Shows the pictures of a file in the first places of the grid, and lets all tabs start from the first. */
async function openFile(file) {
  try {
    given = await read(file);
  } catch (error) {
    return say(`${file.name} was not opened: ${error.message}.`);
  }
  const classes = new Set(given.map((numbers) => classesOf(numbers).indexOf(1)));
  label = classes.size === 1 ? [...classes][0] : -1;
  pair = [0, 1];
  walkFrom = steerFrom = 0;
  say(given.length === 1 ? "The first picture is yours. With less variety the others are nearer to it." : `The first ${given.length} pictures are yours.`);
  writeAddress();
  return redraw();
}

$("open").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", async () => {
  const [file] = $("file").files;
  if (file) await openFile(file);
  $("file").value = ""; // or the same file could not be chosen again
});
$("close").addEventListener("click", () => { given = []; say(""); redraw(); });
const dropping = (event) => event.dataTransfer?.types.includes("Files");
for (const [kind, over] of [["dragover", true], ["dragleave", false], ["drop", false]])
  addEventListener(kind, (event) => {
    if (!dropping(event)) return;
    event.preventDefault();
    document.body.classList.toggle("drop", over);
    if (kind === "drop") openFile(event.dataTransfer.files[0]);
  });

const tabs = [...document.querySelectorAll("[role=tab]")];
function open(name) {
  tab = name;
  for (const button of tabs) {
    const chosen = button.dataset.tab === name;
    button.setAttribute("aria-selected", chosen);
    button.tabIndex = chosen ? 0 : -1;
    $(button.dataset.tab).hidden = !chosen;
  }
  drawTab();
  stroll();
}
tabs.forEach((button, i) => {
  button.addEventListener("click", () => open(button.dataset.tab));
  button.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const other = tabs[(i + step + tabs.length) % tabs.length];
    other.focus();
    open(other.dataset.tab);
  });
});

const surface = $("walk-picture");
let drag = null; // {x, y, directions: one to the right, one downwards}
const directions = () => [noise(Math.random), noise(Math.random)];
surface.addEventListener("pointerdown", (event) => {
  surface.setPointerCapture(event.pointerId);
  drag = { x: event.clientX, y: event.clientY, directions: directions() };
});
surface.addEventListener("pointermove", (event) => {
  if (!drag || !here) return;
  const turn = Math.PI / 2 / surface.clientWidth; // a drag over the whole picture leaves nothing of it
  walk(drag.directions[0], (event.clientX - drag.x) * turn);
  walk(drag.directions[1], (event.clientY - drag.y) * turn);
  [drag.x, drag.y] = [event.clientX, event.clientY];
  drawTab();
});
for (const end of ["pointerup", "pointercancel"]) surface.addEventListener(end, () => { drag = null; });
let keys = null; // the directions of the arrow keys
surface.addEventListener("focus", () => { keys = directions(); });
surface.addEventListener("keydown", (event) => {
  const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 1], ArrowUp: [1, -1] }[event.key];
  if (!step || !here) return;
  event.preventDefault();
  move(false);
  walk(keys[step[0]], 0.1 * step[1]);
  drawTab();
});

$("move").addEventListener("click", () => move(!moving));
move(moving);
readAddress();
redraw();
