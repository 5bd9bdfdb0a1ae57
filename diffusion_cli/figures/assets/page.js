"use strict";
const data = JSON.parse(document.getElementById("process").textContent);
const byId = name => document.getElementById(name);
const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
const words = text => new Uint16Array(bytes(text).buffer);  // little-endian, as they were written
const INK = "#222222", TRUTH = "#8c8c8c", LINE = "#d4d4d4", BLUE = "#0072B2";
const COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"];  // Okabe and Ito
const FULL = 65535, SECONDS = 6;

const K = data.times.length;
const views = Object.fromEntries(Object.entries(data.views).map(
  ([name, text]) => [name, data.kind === "images" ? bytes(text) : words(text)]));
const density = data.density && bytes(data.density.values);
const outline = (data.outline || []).map(words);
const state = {frame: 0, view: "x", truth: true, trails: false, zoom: false, playing: false};

// what one frame looks like -------------------------------------------------------------------------------------

function mark(ctx, shape, x, y, r) {
  ctx.beginPath();
  if (shape === 0) ctx.arc(x, y, r, 0, 7);
  else if (shape === 1) ctx.rect(x - r, y - r, 2 * r, 2 * r);
  else if (shape === 2) { ctx.moveTo(x, y - 1.3 * r); ctx.lineTo(x + 1.2 * r, y + r); ctx.lineTo(x - 1.2 * r, y + r); }
  else { ctx.moveTo(x, y - 1.4 * r); ctx.lineTo(x + 1.4 * r, y); ctx.lineTo(x, y + 1.4 * r); ctx.lineTo(x - 1.4 * r, y); }
  ctx.fill();
}

const densityImages = new Map();
function densityImage(k) {  // the exact density of x_t in shades of grey, one canvas for each frame
  if (!densityImages.has(k)) {
    const n = data.density.size, image = new ImageData(n, n), from = k * n * n;
    for (let i = 0; i < n * n; i++) {
      const shade = 255 - 110 * density[from + i] / 255, row = n - 1 - Math.floor(i / n), at = 4 * (row * n + i % n);
      image.data[at] = image.data[at + 1] = image.data[at + 2] = shade;
      image.data[at + 3] = 255;
    }
    const canvas = new OffscreenCanvas(n, n);
    canvas.getContext("2d").putImageData(image, 0, 0);
    densityImages.set(k, canvas);
  }
  return densityImages.get(k);
}

function plane(ctx, w, h, k, s) {
  const side = Math.min(w / data.columns, h / Math.ceil(data.panels / data.columns));
  const points = views[s.view], [low, high] = s.zoom ? data.zoom : [0, FULL];
  const at = (q, flip) => { const u = (q - low) / (high - low); return side * (flip ? 1 - u : u); };
  for (let p = 0; p < data.panels; p++) {
    ctx.save();
    ctx.translate((p % data.columns) * side, Math.floor(p / data.columns) * side);
    ctx.beginPath(); ctx.rect(0, 0, side, side); ctx.clip();
    if (density && s.truth && s.view === "x") {
      const a = at(0, false), b = at(FULL, false), top = at(FULL, true);
      ctx.imageSmoothingEnabled = true;
      ctx.drawImage(densityImage(k), a, top, b - a, b - a);
    }
    if (s.truth) {
      ctx.strokeStyle = TRUTH; ctx.lineWidth = Math.max(1, side / 400);
      for (const line of outline) {
        ctx.beginPath();
        for (let i = 0; i < line.length; i += 2) ctx.lineTo(at(line[i], false), at(line[i + 1], true));
        ctx.stroke();
      }
    }
    const r = Math.max(0.8, side / (data.count > 800 ? 320 : 220));
    ctx.globalAlpha = 0.65;
    const first = 2 * data.count * (k * data.panels + p);
    for (let i = 0; i < data.count; i++) {
      const label = data.label ? data.label[i] % COLORS.length : 0;
      ctx.fillStyle = COLORS[label];
      mark(ctx, label % 4, at(points[first + 2 * i], false), at(points[first + 2 * i + 1], true), r);
    }
    ctx.globalAlpha = 1;
    if (s.trails && data.panels === 1) trails(ctx, points, k, at, r);
    ctx.strokeStyle = LINE; ctx.lineWidth = 1;
    if (data.panels > 1) ctx.strokeRect(0, 0, side, side);
    else if (side > 200) ticks(ctx, side, at);
    ctx.restore();
  }
}

function ticks(ctx, side, at) {
  const [left, right] = data.limits, seen = (at(1, false) - at(0, false)) * FULL / side;  // how often the view fits
  const step = [0.5, 1, 2, 5, 10, 50, 100].find(v => (right - left) / seen / v < 6) || 1000;
  ctx.fillStyle = INK; ctx.font = `${Math.max(10, side / 45)}px sans-serif`;
  for (let v = Math.ceil(left / step) * step; v <= right; v += step) {
    const q = (v - left) / (right - left) * FULL, x = at(q, false), y = at(q, true), name = String(v).replace("-", "−");
    ctx.textAlign = "center"; ctx.textBaseline = "bottom";
    if (x > side * 0.06 && x < side * 0.97) ctx.fillText(name, x, side - 3);
    ctx.textAlign = "left"; ctx.textBaseline = "middle";
    if (y > side * 0.03 && y < side * 0.94) ctx.fillText(name, 4, y);
  }
}

function trails(ctx, points, k, at, r) {
  for (let i = 0; i < Math.min(12, data.count); i++) {
    ctx.beginPath();
    for (let j = 0; j <= k; j++) {
      const from = 2 * (j * data.count + i);
      ctx.lineTo(at(points[from], false), at(points[from + 1], true));
    }
    ctx.strokeStyle = INK; ctx.lineWidth = Math.max(0.8, r / 2); ctx.stroke();
    const from = 2 * (k * data.count + i);
    ctx.fillStyle = INK;
    mark(ctx, 0, at(points[from], false), at(points[from + 1], true), 1.5 * r);
  }
}

function line(ctx, w, h, k, s) {  // a histogram, with the exact density as a curve; each frame has its own height
  const bins = 60, counts = new Array(bins).fill(0), points = views[s.view];
  for (let i = 0; i < data.count; i++) counts[Math.min(bins - 1, Math.floor(points[k * data.count + i] / FULL * bins))]++;
  const width = (data.limits[1] - data.limits[0]) / bins;
  const heights = counts.map(c => c / data.count / width);
  const peak = density && s.truth && s.view === "x" ? data.density.peaks[k] : 0;
  const base = h - 1.8 * fontSize(h), top = Math.max(peak, ...heights) * 1.08;
  ctx.fillStyle = BLUE; ctx.globalAlpha = 0.7;
  heights.forEach((v, i) => ctx.fillRect(i * w / bins, base * (1 - v / top), w / bins - 0.5, base * v / top));
  ctx.globalAlpha = 1;
  if (peak) {
    const n = data.density.size;
    ctx.beginPath();
    for (let i = 0; i < n; i++) ctx.lineTo((i + 0.5) / n * w, base * (1 - density[k * n + i] / 255 * peak / top));
    ctx.strokeStyle = INK; ctx.lineWidth = Math.max(1, w / 400); ctx.stroke();
  }
  ctx.strokeStyle = INK; ctx.lineWidth = 1;
  ctx.beginPath(); ctx.moveTo(0, base); ctx.lineTo(w, base); ctx.stroke();
  ctx.fillStyle = INK; ctx.textAlign = "center"; ctx.font = `${fontSize(h)}px sans-serif`;
  const [left, right] = data.limits;
  for (let v = Math.ceil(left); v <= right; v++) {
    const x = (v - left) / (right - left) * w;
    if (x > 8 && x < w - 8) ctx.fillText(String(v).replace("-", "−"), x, h - 0.4 * fontSize(h));
  }
}

const fontSize = h => Math.max(8, h / 22);

function images(ctx, w, h, k, s) {
  const rows = Math.ceil(data.count / data.columns), cell = w / data.columns, rowHeight = h / rows;
  const [c, height, width] = data.shape, pixels = height * width, values = views[s.view];
  const scale = 0.94 * Math.min(cell / width, rowHeight * (data.label ? 0.86 : 1) / height);
  const small = new OffscreenCanvas(width, height), image = new ImageData(width, height);
  ctx.imageSmoothingEnabled = false;
  ctx.textAlign = "center"; ctx.fillStyle = INK; ctx.font = `${Math.max(8, rowHeight * 0.1)}px sans-serif`;
  for (let i = 0; i < data.count; i++) {
    const from = (k * data.count + i) * c * pixels;
    for (let p = 0; p < pixels; p++) {
      for (let j = 0; j < 3; j++) image.data[4 * p + j] = values[from + (c === 3 ? j * pixels : 0) + p];
      image.data[4 * p + 3] = 255;
    }
    small.getContext("2d").putImageData(image, 0, 0);
    const x = (i % data.columns) * cell + (cell - scale * width) / 2, y = Math.floor(i / data.columns) * rowHeight;
    ctx.drawImage(small, x, y + 1, scale * width, scale * height);
    if (data.label) ctx.fillText(data.names[data.label[i]], x + scale * width / 2, y + rowHeight * 0.965);
  }
}

const paint = {plane, line, images}[data.kind];

function draw(canvas, k, s) {
  const width = canvas.clientWidth || 120, ratio = window.devicePixelRatio || 1;
  const w = Math.round(width * ratio), h = Math.round(w / data.aspect);
  if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
  const ctx = canvas.getContext("2d");
  ctx.setTransform(1, 0, 0, 1, 0, 0);
  ctx.fillStyle = "#ffffff"; ctx.fillRect(0, 0, w, h);
  paint(ctx, w, h, k, s);
}

// the player ----------------------------------------------------------------------------------------------------

const slider = byId("slider"), canvas = byId("canvas"), play = byId("play");
const tidy = v => v === 0 ? "0" : v >= 100 ? v.toFixed(0) : v >= 10 ? v.toFixed(1) : v >= 0.1 ? v.toFixed(2) : v.toPrecision(2);
const timeOf = k => `t = ${Number.isInteger(data.times[k]) ? data.times[k] : data.times[k].toFixed(1)}`;

function show(frame) {
  state.frame = Math.max(0, Math.min(K - 1, frame));
  slider.value = state.frame;
  const text = `${timeOf(state.frame)} of ${data.T}, noise to signal σ/α = ${tidy(data.ratios[state.frame])}`;
  slider.setAttribute("aria-valuetext", text);
  canvas.setAttribute("aria-label", `${data.what} at ${text}`);
  byId("where").textContent = text;
  draw(canvas, state.frame, state);
  let best = 0;
  strip.forEach(([k], i) => { if (Math.abs(k - state.frame) < Math.abs(strip[best][0] - state.frame)) best = i; });
  strip.forEach(([, button], i) => button.setAttribute("aria-current", i === best));
}

function setPlaying(on) {
  if (on && state.frame === K - 1) show(0);
  state.playing = on;
  play.textContent = on ? "Pause" : "Play";
  let begun = null;
  const first = state.frame, rate = (K - 1) / SECONDS / 1000;
  const step = now => {
    if (!state.playing) return;
    begun ??= now;
    const frame = first + Math.floor((now - begun) * rate);
    if (frame !== state.frame) show(frame);
    if (state.frame === K - 1) setPlaying(false); else requestAnimationFrame(step);
  };
  if (on) requestAnimationFrame(step);
}

function option(name, text) {
  const label = document.createElement("label"), box = document.createElement("input");
  box.type = "checkbox"; box.id = `show-${name}`; box.checked = Boolean(state[name]);
  box.addEventListener("change", () => { state[name] = box.checked; refresh(); });
  label.append(box, ` ${text}`);
  byId("options").append(label);
}

if (density || outline.length) option("truth", density ? "true density" : "true curve");
if ("x0" in views) {
  state.guess = false;
  option("guess", "what the denoiser predicts for x₀");
}
if (data.kind === "plane" && data.panels === 1) option("trails", "paths of 12 samples");
if (data.zoom) option("zoom", "zoom in on the data");

if (data.label && data.kind === "plane") {
  data.names.forEach((name, i) => {
    const item = document.createElement("span"), sign = document.createElement("canvas");
    sign.width = sign.height = 28;
    const ctx = sign.getContext("2d");
    ctx.fillStyle = COLORS[i % COLORS.length];
    mark(ctx, (i % COLORS.length) % 4, 14, 14, 9);
    item.append(sign, `label ${name}`);
    byId("legend").append(item);
  });
}

const strip = Array.from({length: Math.min(6, K)}, (_, i) => {
  const k = Math.round(i * (K - 1) / Math.max(1, Math.min(6, K) - 1)), button = document.createElement("button");
  button.type = "button";
  button.append(document.createElement("canvas"), timeOf(k));
  button.addEventListener("click", () => { setPlaying(false); show(k); });
  byId("strip").append(button);
  return [k, button];
});

function refresh() {
  state.view = state.guess ? "x0" : "x";
  show(state.frame);
  strip.forEach(([k, button]) => draw(button.firstChild, k, {...state, trails: false}));
}

slider.addEventListener("input", () => { setPlaying(false); show(Number(slider.value)); });
play.addEventListener("click", () => setPlaying(!state.playing));
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const to = {ArrowLeft: state.frame - 1, ArrowRight: state.frame + 1, Home: 0, End: K - 1}[event.key];
  const own = event.target !== slider && /^(INPUT|BUTTON|SUMMARY)$/.test(event.target.tagName);  // Space presses it
  if (event.key === " " && !own) setPlaying(!state.playing);
  else if (to !== undefined) { setPlaying(false); show(to); }
  else return;
  event.preventDefault();
});
addEventListener("resize", refresh);
addEventListener("beforeprint", () => { document.querySelectorAll("details").forEach(d => { d.open = true; }); refresh(); });
refresh();
