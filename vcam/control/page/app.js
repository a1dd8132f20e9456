// The settings page: shows what the daemon says at /events and sends changes to it.

import { lend, seen, testCall, welcome } from "/welcome.js";
import { lendLook, showLook, showTag } from "/look.js";
import { lendRoom, showRoom } from "/room.js";
import { call, comeBack, events, goAway, picture, pictures, takeTicket, whenSignedOut } from "/session.js";
import { lendPlace, showPlace } from "/place.js";
import { _, language, told } from "/words.js";
import { forget, look, place } from "/you.js";

const $ = (id) => document.getElementById(id);
const PICTURES = ["jpg", "jpeg", "png", "webp", "heic", "heif", "avif", "bmp", "tif", "tiff", "gif", "mp4", "mkv", "webm", "mov", "avi", "m4v", "3gp", "ts", "mpg", "wmv"];
const MAX_UPLOAD = 64 * 1024 * 1024;
const SIZES = [[640, 360], [640, 480], [960, 540], [1280, 720], [1920, 1080]];
const LONG = 60; // seconds shown by the graphs

const STATES = {
  live: [_("Live"), _("This is what others see.")],
  idle: [_("Ready"), _("Your webcam is off until a program watches.")],
  starting: [_("Looking for you"), _("Others see this card until you are found.")],
  paused: [_("Paused"), _("Others see this card.")],
  frozen: [_("Frozen"), _("Others see this still picture.")],
  fault: [_("Problem"), _("Others see this card.")],
  room: [_("Room visible"), _("Others see your room.")],
  off: [_("Not running"), ""],
};
// The same where there is no virtual camera, and where the picture goes into a file alone.
const ALONE = {
  live: [_("Preview only"), _("Only you see this.")],
  starting: [_("Looking for you"), _("Shown until you are found.")],
  paused: [_("Paused"), _("Your webcam is off.")],
  frozen: [_("Frozen"), _("A still picture of you.")],
  fault: [_("Problem"), ""],
};
const RECORDING = { live: [_("Recording"), _("This goes into your recording.")] };

let status = {};
let values = {};
let revealed = false; // others see the room, by the user's own word
let view = "composite";
let presets = [];

// Talking to the daemon

async function ask(method, path, body) {
  const headers = {};
  if (body && !(body instanceof Blob)) {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify(body);
  }
  let response;
  try {
    response = await call(path, { method, body, headers });
  } catch {
    throw { error: _("VBG Camera does not answer."), hint: _("Run `vcam start`.") };
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw answer.error ? answer : { error: _("The daemon refused ({0}).", response.status) };
  return answer;
}

function toast(text, more = "", bad = false, deed = null) {
  const box = make("div", bad ? "toast error" : "toast", make("strong", "", text), more && make("span", "", more), deed);
  if (bad) box.setAttribute("role", "alert");
  const cross = make("button", "small icon shut", sign("M6 6l12 12M18 6 6 18"));
  cross.type = "button";
  cross.setAttribute("aria-label", _("Close this message"));
  cross.addEventListener("click", () => box.remove());
  box.append(cross);
  $("toasts").append(box);
  setTimeout(() => box.remove(), bad || deed ? 9000 : 3500);
  // Not over what is being set.
  const under = document.activeElement?.closest?.(".row, .tile, button")?.getBoundingClientRect();
  const over = $("toasts").getBoundingClientRect();
  if (under && under.bottom > over.top - 8 && under.right > over.left && under.left < over.right) scrollBy(0, under.bottom - over.top + 8);
  return box;
}

function complain(problem) {
  const lines = problem.problems?.length ? problem.problems.join("\n") : problem.error;
  toast(told(lines ?? String(problem)), told(problem.hint), true);
}

// One request at a time; a dragged slider sends its newest value as soon as the last was taken.
let waiting = null;
let sending = false;
const change = (section, key, value) => changeAll(section, { [key]: value });
async function changeAll(section, keys) {
  waiting ??= {};
  Object.assign(waiting[section] ??= {}, keys);
  if (values[section]) Object.assign(values[section], keys);
  if (sending) return;
  sending = true;
  try {
    while (waiting) {
      const batch = waiting;
      waiting = null;
      const answer = await ask("PATCH", "/settings", batch);
      if (!waiting) ({ values, revealed } = answer);
      offerUndo(answer.undo);
    }
  } catch (problem) {
    waiting = null;
    complain(problem);
    await load();
  } finally {
    sending = false;
    show();
  }
}

async function load() {
  const answer = await ask("GET", "/settings");
  ({ values, revealed } = answer);
  defaults = answer.schema ?? defaults;
  offerUndo(answer.undo);
  show();
}

let defaults = {}; // what the settings are, by section and key
async function reset(names) {
  const wanted = {};
  for (const [section, key] of names.map((name) => name.split("."))) (wanted[section] ??= {})[key] = defaults[section][key].default;
  await send("PATCH", "/settings", wanted);
}

async function send(method, path, body) {
  try {
    const answer = await ask(method, path, body);
    ({ values, revealed } = answer);
    offerUndo(answer.undo);
  } catch (problem) {
    complain(problem);
  }
  show();
}

// For a minute the last change can be taken back.
const UNDO = 60000; // milliseconds
let undoEnds = 0;
function offerUndo(names = []) {
  const all = names.join();
  if (!all || $("undo").dataset.told !== all) clearTimeout(undoEnds);
  $("undo").dataset.told = all;
  $("undo").hidden = !all;
  $("undo").title = names.length ? _("Take back the change of {0}", names.map(called).join(", ")) : "";
  if (all) undoEnds = setTimeout(() => offerUndo(), UNDO);
}

// A press shows at once; a status that was on its way already does not take it back.
let pressed = "";
async function mode(name) {
  const wanted = { pause: "paused", freeze: "frozen", resume: "live" }[name];
  pressed = wanted;
  report(status);
  try {
    await ask("POST", `/${name}`);
  } catch (problem) {
    complain(problem);
  }
  setTimeout(() => {
    if (pressed === wanted) pressed = "";
    report(status);
  }, 300);
}

// Building blocks

// What others wrote shows, and neither hides, turns round nor breaks a line; as vcam/foreign_text.py has it.
const UNSEEN = /(?!\n)[\p{C}\p{Zl}\p{Zp}\u{34f}\u{115f}\u{1160}\u{17b4}\u{17b5}\u{180b}-\u{180f}\u{3164}\u{fe00}-\u{fe0d}\u{ffa0}\u{e0100}-\u{e01ef}]/gu;
const plain = (text) => String(text).replace(UNSEEN, (sign) => {
  const number = sign.codePointAt(0).toString(16);
  return number.length > 4 ? `\\u{${number}}` : `\\u${number.padStart(4, "0")}`;
});

function make(tag, kind = "", ...inside) {
  const element = document.createElement(tag);
  if (kind) element.className = kind;
  element.append(...inside.filter(Boolean).map((part) => (typeof part === "string" ? plain(part) : part)));
  return element;
}

function sign(path) {
  const box = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  box.setAttribute("viewBox", "0 0 24 24");
  box.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", path);
  box.append(line);
  return box;
}

// A setting by its name, a background by its own: those that are drawn have words, a file has a name.
const called = (name) => (name.startsWith("presets.") ? name.slice(8) : _(nice(name.split(".")[1].replaceAll("_", " "))));
const titled = ({ name, mine }) => (mine ? name : name === "daily" ? _("Surprise me each day") : _(nice(name)));
const nice = (name) => name.charAt(0).toUpperCase() + name.slice(1);
const say = (element, text) => { const shown = plain(text ?? ""); if (element.textContent !== shown) element.textContent = shown; };

// The gallery

// One small picture after the other: a browser opens six connections, and a press of a button must
// not wait behind all of them.
let drawing = Promise.resolve();
function later(draw) {
  drawing = drawing.then(draw);
}

async function loadPresets() {
  presets = (await ask("GET", "/presets")).presets;
  const looks = { clip: _("Clip"), look: _("Look") };
  const tiles = presets.map((preset) => {
    const small = make("img");
    small.alt = "";
    small.decoding = "async";
    small.addEventListener("load", () => URL.revokeObjectURL(small.src));
    later(() => picture(`/presets/${encodeURIComponent(preset.name)}/thumbnail`).then((made) => { small.src = made; }, () => {}));
    const thumb = make("span", "thumb", small, place(), looks[preset.kind] && make("span", "kind", looks[preset.kind]));
    const made = tile(`preset:${preset.name}`, titled(preset), thumb);
    if (preset.mine && !preset.watched) {
      const cross = make("button", "delete", sign("M6 6l12 12M18 6 6 18"));
      cross.type = "button";
      cross.setAttribute("aria-label", _("Delete {0}", plain(preset.name)));
      cross.addEventListener("click", () => drop(preset.name));
      made.append(cross);
    }
    return made;
  });
  showCredits();
  $("gallery").replaceChildren(
    tile("blur", _("Blur"), make("span", "thumb blur")),
    ...tiles,
    tile("colour", _("Colour"), make("span", "thumb colour", place())),
    another(),
  );
  show();
}

// Author, source and licence of every picture that is shipped.
function showCredits() {
  $("credits").replaceChildren(...presets.filter((one) => one.credit).map((one) => {
    const { title, author, source, licence, licence_url: terms } = one.credit;
    const link = (text, address) => {
      const made = make("a", "", text);
      Object.assign(made, { href: address, target: "_blank", rel: "noopener noreferrer" });
      return made;
    };
    const from = source.includes("://") ? link(title || source, source) : source;
    return make("li", "", `${titled(one)}: ${author}, `, from, ", ", link(licence, terms));
  }));
}

function tile(value, name, thumb) {
  const input = make("input");
  const label = make("label", "", input, thumb, make("span", "name", name));
  label.title = plain(name);
  Object.assign(input, { type: "radio", name: "background", value });
  input.addEventListener("change", () => choose(value));
  return make("div", "tile", label);
}

function another() {
  const button = make("button", "thumb", sign("M12 5v14M5 12h14"));
  button.type = "button";
  button.setAttribute("aria-label", _("Add a picture or clip"));
  button.addEventListener("click", () => $("file").click());
  const name = make("span", "name", _("Add…"));
  name.setAttribute("aria-hidden", "true");
  return make("div", "tile more", button, name);
}

function choose(value) {
  if (value.startsWith("preset:")) take(`${encodeURIComponent(value.slice(7))}/use`);
  else change("background", "use", value === "colour" ? $("colour").value : value);
}

// A preset is chosen by its name, which the daemon cannot take for a word of its own.
async function take(which) {
  try {
    await ask("POST", `/presets/${which}`);
  } catch (problem) {
    complain(problem);
  }
  await load();
}

async function wish(which) {
  try {
    ({ values, revealed } = await ask("POST", `/${which}`, which === "reveal" ? { by: "settings page" } : {}));
    show();
  } catch (problem) {
    complain(problem);
  }
}

async function keep() {
  const name = prompt(_("Keep this background and look as:"))?.trim();
  if (!name) return;
  try {
    await ask("PUT", `/presets/${encodeURIComponent(name)}`);
    await loadPresets();
    toast(_("Kept as “{0}”.", name));
  } catch (problem) {
    complain(problem);
  }
}

const fits = (preset) => preset.values.background.use !== undefined && Object.entries(preset.values).every(([section, keys]) =>
  Object.entries(keys).every(([key, wanted]) => values[section][key] === wanted));

const blurred = (use) => use === "blur" || use.startsWith("blur:");

function chosen() {
  if (revealed) return "";
  const preset = presets.findLast(fits); // a look outranks its background
  if (preset) return `preset:${preset.name}`;
  const use = values.background.use;
  if (use.startsWith("#")) return "colour";
  return blurred(use) ? "blur" : "";
}

// No question: it can be taken back.
async function drop(name) {
  await send("DELETE", `/presets/${encodeURIComponent(name)}`);
  await loadPresets();
  if (presets.some((one) => one.name === name)) return;
  const back = make("button", "small", _("Undo"));
  back.type = "button";
  const box = toast(_("Deleted “{0}”.", name), "", false, back);
  back.addEventListener("click", () => { box.remove(); undo(); });
}

async function undo() {
  await send("POST", "/undo");
  await loadPresets();
}

async function upload(files) {
  for (const file of files) {
    const kind = file.name.split(".").pop().toLowerCase();
    if (!PICTURES.includes(kind)) {
      complain({ error: _("“{0}” is neither a picture nor a clip.", file.name), hint: _("Use JPEG, PNG, WebP or MP4.") });
      continue;
    }
    if (file.size > MAX_UPLOAD) {
      complain({ error: _("“{0}” is larger than 64 MiB.", file.name), hint: _("Scale it down; 1920×1080 is plenty.") });
      continue;
    }
    document.body.setAttribute("aria-busy", "true");
    try {
      const preset = await ask("POST", `/presets?name=${encodeURIComponent(file.name)}`, file);
      await loadPresets();
      await take(`${encodeURIComponent(preset.name)}/use`);
      toast(_("Added “{0}”.", preset.name));
    } catch (problem) {
      complain(problem);
    } finally {
      document.body.removeAttribute("aria-busy");
    }
  }
}

// What the settings say

function show() {
  if (!values.background) return;
  const now = chosen();
  for (const input of document.querySelectorAll('[name="background"]')) input.checked = input.value === now;
  document.documentElement.style.setProperty("--picked", $("colour").value);
  const use = values.background.use;
  if (use.startsWith("#")) $("colour").value = use;
  $("colour-row").hidden = !use.startsWith("#");
  $("colour-row").lastElementChild.value = $("colour").value;
  $("blur-row").hidden = !blurred(use);
  showPlace(now.startsWith("preset:") ? presets.find((one) => one.values.background.use === use && one.kind !== "look") : null);
  for (const input of document.querySelectorAll("[data-set]")) {
    const [section, key] = input.dataset.set.split(".");
    const value = values[section][key];
    if (input.type === "checkbox") input.checked = value;
    else if (document.activeElement !== input || !(sending || input.type === "text")) input.value = value;
    if (input.type === "range") paint(input);
  }
  if (values.background.use.startsWith("blur:")) {
    $("blur").value = values.background.use.slice(5);
    paint($("blur"));
  }
  showLook();
  $("language").value = values.control.language;
  $("only-me").checked = values.matte.people === "only-me";
  $("mirror").setAttribute("aria-pressed", values.control.mirror_preview);
  mirror();
  for (const input of document.querySelectorAll('[name="quality"]')) input.checked = input.value === values.matte.quality;
  $("room").hidden = revealed;
  $("hide").hidden = !revealed;
  offerCameras();
  offerSizes();
  const { width, height, fps } = values.output;
  offer($("out-size"), SIZES.map(([w, h]) => [`${w}x${h}`, `${w} × ${h}`]), `${width}x${height}`, _("{0} × {1}, {2} a second", width, height, fps));
}

// As a mirror shows it; the card has words, which stay readable.
function mirror() {
  $("frame").classList.toggle("mirrored", values.control?.mirror_preview && !card);
}

function paint(input) {
  const part = (input.value - input.min) / (input.max - input.min);
  input.style.setProperty("--part", `${part * 100}%`);
  const shown = { "×": () => `${Number(input.value).toLocaleString(document.documentElement.lang, { minimumFractionDigits: 2, maximumFractionDigits: 2 })} ×`, "±": () => `${Math.round(input.value * 100)} %` }[input.dataset.unit];
  input.parentElement.querySelector("output").value = shown?.() ?? `${Math.round(input.max > 1 ? input.value : part * 100)} %`;
}

let cameras = [];
function offerCameras() {
  const options = [["auto", _("Automatic")], ...cameras, ["demo", _("Demo picture")]];
  offer($("source"), options, values.camera.source);
}

function offerSizes() {
  const { width, height, fps } = values.camera;
  offer($("size"), SIZES.map(([w, h]) => [`${w}x${h}`, `${w} × ${h}`]), `${width}x${height}`, _("{0} × {1}, {2} a second", width, height, fps));
}

function offer(select, options, value, words = value) {
  if (!options.some(([known]) => known === value)) options = [...options, [value, words]];
  const wanted = JSON.stringify(options);
  if (select.dataset.options !== wanted) {
    select.dataset.options = wanted;
    select.replaceChildren(...options.map(([known, name]) => new Option(plain(name), known)));
  }
  select.value = value;
}

async function loadDevices() {
  const found = await ask("GET", "/devices").catch(() => ({ cameras: [] }));
  cameras = (found.cameras ?? []).map((camera) => [camera.name ?? camera.path, camera.label ?? camera.name ?? camera.path]);
  show();
}

// The webcam's own knobs: exposure, white balance, zoom. Set at once, and kept for that webcam.

let knobs = { controls: [], reason: "" };
let turning = null;
let busy = false;

async function loadKnobs() {
  const found = await ask("GET", "/camera").catch(() => null);
  if (!found || busy) return;
  knobs = found;
  showKnobs();
}

async function turn(name, value) {
  turning = { ...turning, [name]: value };
  if (busy) return;
  busy = true;
  try {
    while (turning) {
      const batch = turning;
      turning = null;
      knobs = await ask("PATCH", "/camera", batch);
    }
  } catch (problem) {
    turning = null;
    complain(problem);
    knobs = await ask("GET", "/camera").catch(() => knobs);
  } finally {
    busy = false;
    showKnobs();
  }
}

function showKnobs() {
  const box = $("knob-rows");
  const kinds = JSON.stringify(knobs.controls.map(({ name, minimum, maximum, choices }) => [name, minimum, maximum, choices]));
  if (box.dataset.kinds !== kinds) {
    box.dataset.kinds = kinds;
    box.replaceChildren(...knobs.controls.map(knobRow));
  }
  for (const knob of knobs.controls) {
    const input = $(`knob-${knob.name}`);
    if (input.type === "checkbox") input.checked = knob.value === 1;
    else input.value = knob.value;
    input.disabled = knob.inactive;
    const range = input.type === "range" ? _("{0} to {1}, {2} at first", knob.minimum, knob.maximum, knob.default) : "";
    say(input.parentElement.querySelector("small"), knob.inactive ? _("The camera sets this by itself") : range);
    if (input.type === "range") paintKnob(input);
  }
  const none = !knobs.controls.length;
  $("knobs").inert = none;
  if (none) $("knobs").open = false;
  say($("knobs-reason"), told(knobs.reason));
}

function knobRow(knob) {
  const kind = knob.kind === "boolean" ? "switch" : knob.choices.length ? "select" : "range";
  const input = make(kind === "select" ? "select" : "input", kind === "switch" ? "switch" : "");
  input.id = `knob-${knob.name}`;
  if (kind === "select") input.append(...knob.choices.map(([value, label]) => new Option(plain(label), value)));
  else if (kind === "switch") {
    input.type = "checkbox";
    input.setAttribute("role", "switch");
  } else Object.assign(input, { type: "range", min: knob.minimum, max: knob.maximum, step: knob.step || 1 });
  input.addEventListener(kind === "range" ? "input" : "change", () => {
    if (kind === "range") paintKnob(input);
    turn(knob.name, Number(kind === "switch" ? input.checked : input.value));
  });
  const label = make("label", "", nice(knob.name.replaceAll("_", " ")), make("small"));
  label.htmlFor = input.id;
  return make("div", kind === "switch" ? "row toggle" : "row", label, input, kind === "range" && make("output"));
}

function paintKnob(input) {
  const part = (input.value - input.min) / (input.max - input.min);
  input.style.setProperty("--part", `${part * 100}%`);
  input.parentElement.querySelector("output").value = input.value;
}

// What the daemon is doing

// The state in one word, from what the daemon says and from the picture beside it: nothing is
// called live while the card is on the screen.
function stateNow() {
  const { mode } = status;
  if (mode === "paused" || mode === "frozen") return mode;
  if (status.state === "paused" || status.state === "frozen") return "starting";
  if (status.state === "fault") return status.reason === "looking for you" ? "starting" : "fault";
  if (status.state !== "live") return status.state;
  if (status.revealed) return "room";
  return card === true || (card === null && performance.now() < FIRST) ? "starting" : "live";
}

function report(fresh) {
  if (!fresh.state) return;
  status = pressed ? { ...fresh, mode: pressed } : fresh;
  const state = stateNow();
  const words = { page: ALONE, file: RECORDING }[status.shown_to] ?? {};
  const [word, caption] = words[state] ?? STATES[state] ?? [nice(state), ""];
  document.body.dataset.state = state === "live" && status.shown_to === "page" ? "preview" : state;
  showYou(state === "live" && !revealed && !document.hidden && (status.views ?? []).includes("matte"));
  say($("state-word"), word);
  const mirrored = state === "live" && status.shown_to !== "page" && values.control?.mirror_preview;
  const seen = mirrored ? _("This is what others see, mirrored for you.") : caption;
  const shown = status.reason && state === "fault" ? nice(told(status.reason)) : seen;
  if (!peeking) say($("caption"), view === "matte" ? _("White is shown, black is replaced. Only you see this.") : shown);
  const held = status.mode !== "live";
  $("pause").classList.toggle("held", held);
  say($("pause").querySelector("span"), held ? _("Resume") : _("Pause"));
  $("freeze").setAttribute("aria-pressed", status.mode === "frozen");
  const who = (status.watchers ?? []).filter((name) => name !== "settings page");
  const nobody = status.shown_to === "page" ? "" : _("No program is watching");
  say($("who"), who.length ? _("In use by {0}", who.join(", ")) : nobody);
  say($("version"), `VBG Camera ${status.version}`);
  say($("path"), status.config_path ?? "config.toml");

  const late = status.latency_ms?.p50 ?? 0;
  say($("fps"), status.fps ? status.fps.toFixed(status.fps < 10 ? 1 : 0) : "–");
  say($("ms"), late ? late.toFixed(late < 10 ? 1 : 0) : "–");
  say($("cpu"), String(Math.round(status.cpu_percent ?? 0)));
  plot($("fps-graph"), status.fps, Math.max(values.output?.fps ?? 30, 1) * 1.15);
  plot($("ms-graph"), late, 50);
  plot($("cpu-graph"), status.cpu_percent, 60);
  stages(status.stages_ms ?? {});
  const engine = status.engine ?? {};
  const now = status.quality?.asked === "auto" && status.quality.now ? ` · ${_("quality now {0}", _(nice(status.quality.now)))}` : "";
  say($("engine"), engine.model ? `${_("{0} on {1}", engine.model, engine.device ?? "CPU")}${engine.size ? `, ${engine.size[0]} × ${engine.size[1]}` : ""}${now}` : "");
  const source = status.source ?? {};
  say($("granted"), source.open ? _("{0} gives {1} × {2} at {3} frames a second.", nice(source.name), source.width, source.height, Math.round(source.fps)) : _("The webcam is closed."));
  showRoom(status);
  programs();
  const receipt = status.receipts?.at(-1);
  say($("receipt"), receipt ? _("Last call, {0}: {1}.", new Date(receipt.begun * 1000).toLocaleTimeString(language, { hour: "2-digit", minute: "2-digit" }), told(receipt.text)) : "");
  health();
  const about = JSON.stringify([status.shown_to, status.missing, status.problems, state, engine.problem, source.name]);
  if (facts && facts !== about) examineIn(400);
  if (facts !== about) showFindings();
  facts = about;
  const views = status.views ?? ["composite"];
  $("matte").hidden = !views.includes("matte");
  if (source.name !== webcam) loadKnobs();
  webcam = source.name;
  if (stamp !== undefined && stamp !== status.presets_stamp) loadPresets().catch(() => {});
  stamp = status.presets_stamp;
}

// The gallery shows you in front of each background, as you were when the page was opened.
let tiled = false;
function showYou(live) {
  if (live === tiled) return;
  tiled = live;
  if (live) look();
  else forget();
}

let webcam = ""; // the one in use
let stamp; // changes when a preset came or went, by whatever hand

const history = new Map();
function plot(graph, value, top) {
  const past = history.get(graph) ?? [];
  past.push([performance.now() / 1000, value || 0]);
  while (past.length > 2 && past.at(-1)[0] - past[1][0] > LONG) past.shift();
  history.set(graph, past);
  const highest = Math.max(top, ...past.map(([, seen]) => seen * 1.1));
  const end = past.at(-1)[0];
  const points = past.map(([at, seen]) => [240 - ((end - at) / LONG) * 240, 54 - (seen / highest) * 50]);
  const line = points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
  graph.querySelector(".line").setAttribute("d", line);
  graph.querySelector(".area").setAttribute("d", `${line}L240 56L${points[0][0].toFixed(1)} 56Z`);
}

const WORDS = { prepare: _("Prepare"), infer: _("Find you"), smooth: _("Steady"), refine: _("Edges"), compose: _("Compose"), write: _("Hand over") };
function stages(times) {
  const order = Object.keys(WORDS);
  const place = ([name]) => (order.includes(name) ? order.indexOf(name) : order.length);
  const rows = Object.entries(times).sort((a, b) => place(a) - place(b));
  const bar = $("stages");
  const names = rows.map(([name]) => name).join();
  if (bar.dataset.names !== names) {
    bar.dataset.names = names;
    bar.replaceChildren(...rows.map((_row, i) => make("i", `s${i % 7}`)));
    $("legend").replaceChildren(...rows.map((_row, i) => make("li", `s${i % 7}`)));
  }
  rows.forEach(([name, ms], i) => {
    bar.children[i].style.setProperty("--share", Math.max(ms, 0.01));
    say($("legend").children[i], `${WORDS[name] ?? nice(name)} ${ms.toFixed(ms < 10 ? 1 : 0)} ms`);
  });
}

// What each program is shown: a row for every one that has watched or has a background of its own.
function programs() {
  const wishes = values.profiles?.programs ?? {};
  const names = [...new Set([...Object.keys(wishes), ...(status.programs ?? [])])].filter((name) => name !== "*").sort();
  if (names.length) names.push("*");
  const choices = [["", _("As it is")], ["blur", _("Blur")], ...presets.map((one) => [one.kind === "look" ? `look:${one.name}` : one.name, nice(titled(one))])];
  const all = JSON.stringify([names, choices]);
  if ($("programs").dataset.told !== all) {
    $("programs").dataset.told = all;
    $("programs").replaceChildren(...names.map((name) => {
      const select = make("select");
      select.id = `program-${name}`;
      select.addEventListener("change", () => {
        const { [name]: _gone, ...others } = values.profiles.programs;
        change("profiles", "programs", select.value || name !== "*" ? { ...others, [name]: select.value } : others);
      });
      const label = make("label", "", name === "*" ? _("Any other program") : _("For {0}", nice(name)));
      label.htmlFor = select.id;
      return make("div", "row", label, select);
    }));
  }
  names.forEach((name, at) => offer($("programs").children[at].querySelector("select"), choices, wishes[name] ?? ""));
  askAbout(choices);
}

// A program that watches for the first time: the answer is kept, and nobody is asked again.
function askAbout(choices) {
  const wishes = values.profiles?.programs ?? {};
  const watching = status.shown_to === "page" ? [] : (status.watchers ?? []).filter((name) => name !== "settings page");
  const fresh = watching.find((name) => !(name.toLowerCase() in wishes));
  const isNew = $("ask").dataset.program !== fresh;
  $("ask").hidden = !fresh;
  if (!fresh) return;
  $("ask").dataset.program = fresh;
  say($("ask-title"), _("{0} watches for the first time", nice(fresh)));
  offer($("ask-what"), choices, isNew ? "" : $("ask-what").value);
}

function answer() {
  const name = $("ask").dataset.program.toLowerCase();
  $("ask").hidden = true;
  change("profiles", "programs", { ...values.profiles.programs, [name]: $("ask-what").value });
}

let healthy = "";
function health() {
  const all = JSON.stringify([status.sinks, status.problems, status.restart_needed, status.config_problem, status.config_unsaved, status.engine?.problem]);
  if (all === healthy) return;
  healthy = all;
  const rows = (status.sinks ?? []).map((sink) => {
    const who = sink.watchers === null ? _("cannot tell who watches") : sink.watchers?.length ? _("in use by {0}", sink.watchers.join(", ")) : _("nobody is watching");
    return make("li", "", make("b", "", sink.name), make("span", "", `${sink.width} × ${sink.height} · ${who}`));
  });
  if (!rows.length) rows.push(make("li", "", make("span", "", _("None: your picture goes to this page alone."))));
  $("sinks").replaceChildren(...rows);
  const notes = [];
  for (const problem of status.problems ?? []) notes.push(note("warning", told(problem)));
  if (status.engine?.problem) notes.push(note("warning", told(status.engine.problem)));
  if (status.config_problem) notes.push(note("error", _("Your settings file was not taken"), told(status.config_problem)));
  if (status.config_unsaved) notes.push(note("error", _("Your change was not saved"), told(status.config_unsaved)));
  if (status.restart_needed) notes.push(note("note", _("Some changes take effect after a restart"), "", "vcam stop && vcam start"));
  $("problems").replaceChildren(...notes);
}

function note(kind, what, why = "", command = "") {
  const box = make("div", kind === "note" ? "note note-note" : `note ${kind}`, what && make("strong", "", what), why && make("span", "", why));
  if (command) {
    const copy = make("button", "small", _("Copy"));
    copy.type = "button";
    copy.setAttribute("aria-label", _("Copy the command {0}", plain(command)));
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(command).then(() => toast(_("Copied.")), () => complain({ error: _("Your browser did not allow copying.") }));
    });
    const code = make("code", "", command);
    code.tabIndex = 0;
    code.setAttribute("role", "group");
    code.setAttribute("aria-label", _("Command"));
    box.append(make("div", "command", code, copy));
  }
  return box;
}

// The check-up. It is made anew when something changed that it may be about, and now and then while
// it has something to say: what was mended goes by itself.

const AGAIN_AFTER = 15000; // milliseconds
let findings = [];
let facts = "";
let due = 0; // of the check-up that is waited for
async function examine() {
  clearTimeout(due);
  $("examine").disabled = true;
  try {
    ({ findings } = await ask("GET", "/doctor"));
    showFindings();
  } catch (problem) {
    $("findings").replaceChildren(note("error", told(problem.error), told(problem.hint)));
  } finally {
    $("examine").disabled = false;
  }
  if (findings.length) examineIn(AGAIN_AFTER);
}

function examineIn(milliseconds) {
  clearTimeout(due);
  due = setTimeout(() => (document.hidden || !$("lost").hidden ? examineIn(AGAIN_AFTER) : examine()), milliseconds);
}

function showFindings() {
  const cause = status.shown_to === "page" ? findings.find((one) => one.severity === "error" && one.command) : null;
  const notes = findings.filter((one) => one !== cause).map((one) => note(one.severity, told(one.what), told(one.why), one.command));
  if (!notes.length && !cause) notes.push(note("fine", _("Everything is fine"), _("Choose “VBG Camera” in your video program.")));
  else if (!notes.length) notes.push(make("p", "hint", _("Nothing else is wrong.")));
  $("findings").replaceChildren(...notes);
  banner(cause);
}

// Where no program can see the person, the one thing to do about it stands on top.
function banner(cause) {
  const alone = status.shown_to === "page";
  $("banner").hidden = !alone;
  if (!alone) return;
  const off = values.output?.sink === "none";
  const what = _("Preview only: no program can see you");
  const why = off ? _("The settings send your picture to this page alone.") : cause ? `${told(cause.what)} ${told(cause.why)}` : _("There is no virtual camera.");
  const command = off ? "vcam set output.sink auto" : cause?.command ?? "vcam doctor";
  const all = JSON.stringify([why, command]);
  if ($("banner").dataset.told === all) return;
  $("banner").dataset.told = all;
  $("banner").replaceChildren(note("warning", what, why, command));
}

// The preview and the connection

const FIRST = 3000; // milliseconds a page may take to show its first picture
let watching = null; // ends the preview that runs
let card = null; // the picture on the screen is the card; null while there is none
function watch(on) {
  if (on && !watching) {
    watching = new AbortController();
    play(watching).catch(() => {}); // the next status tries again
  } else if (!on) {
    watching?.abort();
    watching = null;
    showTag(null);
    put($("preview"), ""); // the last one too, of a stream that ended by itself
    card = null;
  }
}

async function play(mine) {
  try {
    for await (const one of pictures(`/preview.mjpg?view=${view}`, mine.signal)) {
      if (mine !== watching) return;
      put($("preview"), URL.createObjectURL(one.blob));
      showTag(view === "composite" && !one.card && one.blob);
      if (view === "composite") seen(one.blob, one.card);
      if (card !== one.card) {
        card = one.card;
        mirror();
        report(status);
      }
    }
  } finally {
    if (mine === watching) watching = null;
  }
}

// A picture stays on the screen until the next one is decoded, so the one before it can go.
function put(image, address) {
  if (image.src) URL.revokeObjectURL(image.src);
  if (address) image.src = address;
  else image.removeAttribute("src");
}

// Your own room, while the button is held. The page asks for one picture after the other, and the
// daemon keeps nothing once it stopped asking.

let peeking = false;
async function peek() {
  if (peeking) return;
  peeking = true;
  $("peek").classList.add("held");
  $("frame").classList.add("peeking");
  while (peeking) {
    let room = "";
    try {
      const response = await call("/room", { method: "POST" });
      if (response.status === 200) room = URL.createObjectURL(await response.blob());
      else if (!response.ok) break;
    } catch {
      break;
    }
    if (!peeking) {
      if (room) URL.revokeObjectURL(room);
      break;
    }
    say($("caption"), room ? _("Your room. Only you see this.") : _("Your webcam is off."));
    if (room) {
      put($("room-view"), room);
      $("room-view").hidden = false;
    }
    await new Promise((done) => setTimeout(done, 60));
  }
  unpeek();
}

function unpeek() {
  if (!peeking) return;
  peeking = false;
  $("peek").classList.remove("held");
  $("frame").classList.remove("peeking");
  $("room-view").hidden = true;
  put($("room-view"), "");
  report(status);
}

const AGAIN = 500; // milliseconds until a daemon that was lost is asked again
const AWAY = ".controls, .panel, .stage > .card + .card, #banner"; // what needs the daemon
let signedIn = true;
let leaving = new AbortController();

async function connect() {
  while (signedIn) {
    try {
      for await (const [name, value] of events(leaving.signal)) hear(name, value);
    } catch {
      if (leaving.signal.aborted) return;
    }
    if (!signedIn) return;
    lose();
    do {
      await new Promise((done) => setTimeout(done, AGAIN));
      if (!signedIn) return;
    } while (!(await comeBack()));
  }
}

// Without the daemon nothing here can be done: the controls are grey, and the command is offered.
function lose() {
  goAway();
  if (!$("lost").hidden) return;
  $("lost").hidden = false;
  for (const part of document.querySelectorAll(AWAY)) part.inert = true;
  stop();
}

function find() {
  $("lost").hidden = true;
  for (const part of document.querySelectorAll(AWAY)) part.inert = false;
  facts = "";
  watch(false);
  load().catch(() => {});
  loadPresets().catch(() => {});
  loadDevices();
  examine();
}

function hear(name, value) {
  if (name === "status") {
    if (!$("lost").hidden) find();
    watch(!document.hidden);
    report(value);
  } else if (!sending) {
    const before = JSON.stringify(values.camera);
    const spoken = values.control?.language;
    ({ values, revealed } = value);
    if (spoken && spoken !== values.control.language) location.reload();
    offerUndo(value.undo);
    show();
    if (JSON.stringify(values.camera) !== before) loadKnobs();
  }
}

function stop() {
  watch(false);
  showYou(false);
  unpeek();
  document.body.dataset.state = "off";
  say($("state-word"), STATES.off[0]);
}

whenSignedOut((why) => {
  if (!signedIn) return;
  signedIn = false;
  leaving.abort();
  stop();
  say($("state-word"), _("Signed out"));
  say($("signed-out-why"), why);
  if (!$("signed-out").querySelector(".command")) $("signed-out").append(note("note", "", "", "vcam open"));
  $("signed-out").hidden = false;
  document.querySelector("main").hidden = true;
  document.querySelector("footer").hidden = true;
});

// Hands

$("pause").addEventListener("click", () => mode(status.mode === "live" ? "pause" : "resume"));
$("freeze").addEventListener("click", () => mode(status.mode === "frozen" ? "resume" : "freeze"));
$("mirror").addEventListener("click", () => change("control", "mirror_preview", !values.control.mirror_preview).then(show));
$("matte").addEventListener("click", () => {
  view = view === "matte" ? "composite" : "matte";
  $("matte").setAttribute("aria-pressed", view === "matte");
  $("preview").alt = view === "matte" ? _("Where the program sees a person") : _("What others see right now");
  watch(false);
  watch(true);
  report(status);
});
$("room").addEventListener("click", () => {
  if (confirm(_("Others will see your room. Show it?"))) wish("reveal");
});
$("hide").addEventListener("click", () => wish("hide"));
$("only-me").addEventListener("change", (event) => change("matte", "people", event.target.checked ? "only-me" : "everyone"));
$("colour").addEventListener("input", (event) => change("background", "use", event.target.value));
$("source").addEventListener("change", (event) => change("camera", "source", event.target.value));
$("size").addEventListener("change", (event) => {
  const [width, height] = event.target.value.split("x").map(Number);
  changeAll("camera", { width, height });
});
for (const input of document.querySelectorAll('[name="quality"]')) {
  input.addEventListener("change", () => change("matte", "quality", input.value));
}
for (const input of document.querySelectorAll("[data-set]")) {
  const [section, key] = input.dataset.set.split(".");
  // A text is taken when it is done: with Enter, or when something else gets the keys.
  input.addEventListener(input.type === "text" ? "change" : "input", () => {
    if (input.type === "range") paint(input);
    if (key === "blur" && values.background.use.startsWith("blur:")) change("background", "use", "blur");
    change(section, key, input.type === "checkbox" ? input.checked : input.type === "range" ? Number(input.value) : input.value);
  });
}
$("out-size").addEventListener("change", (event) => {
  const [width, height] = event.target.value.split("x").map(Number);
  changeAll("output", { width, height });
});
$("language").addEventListener("change", async (event) => {
  await change("control", "language", event.target.value);
  location.reload();
});
$("ask-done").addEventListener("click", answer);
$("examine").addEventListener("click", examine);
$("call").addEventListener("click", testCall);
$("steps").addEventListener("click", welcome);
$("help").addEventListener("click", () => $("keys").showModal());
lendLook({ ask, send, change, changeAll, complain, values: () => values, status: () => status });
lendPlace({ ask, complain, offerUndo });
lendRoom({ ask, change, toast, complain, values: () => values });
lend({
  ask, change, take, make,
  presets: () => presets,
  values: () => values,
  camera: () => (status.sinks?.find((sink) => sink.kind !== "file")?.name ?? "VBG Camera").replace(/ \(.*/, ""),
});
$("undo").addEventListener("click", undo);
for (const button of document.querySelectorAll("[data-reset]")) button.addEventListener("click", () => reset(button.dataset.reset.split(" ")));
$("keep").addEventListener("click", keep);
$("next").addEventListener("click", () => take("next"));
$("previous").addEventListener("click", () => take("previous"));
$("peek").addEventListener("pointerdown", (event) => {
  if (event.button) return;
  event.target.setPointerCapture?.(event.pointerId);
  peek();
});
for (const end of ["pointerup", "pointercancel", "lostpointercapture", "blur"]) $("peek").addEventListener(end, unpeek);
$("peek").addEventListener("contextmenu", (event) => event.preventDefault());
$("peek").addEventListener("keydown", (event) => {
  if (event.key === " " || event.key === "Enter") {
    event.preventDefault();
    peek();
  }
});
$("peek").addEventListener("keyup", unpeek);
addEventListener("blur", unpeek);
document.addEventListener("visibilitychange", unpeek);
addEventListener("pagehide", unpeek);
$("file").addEventListener("change", async (event) => {
  await upload(event.target.files);
  event.target.value = "";
});
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, code")) return;
  if (document.querySelector("dialog[open]") || !$("lost").hidden) return;
  if (event.key === "?") return $("keys").showModal();
  const button = { p: "pause", f: "freeze", m: "mirror", n: "next", b: "previous", u: "undo" }[event.key.toLowerCase()];
  if (button) $(button).click();
});

const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
let inside = 0;
addEventListener("dragenter", (event) => {
  if (carriesFiles(event)) $("drop").hidden = ++inside < 1;
});
addEventListener("dragleave", (event) => {
  if (carriesFiles(event)) $("drop").hidden = --inside < 1;
});
addEventListener("dragover", (event) => {
  if (carriesFiles(event)) event.preventDefault();
});
addEventListener("drop", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  inside = 0;
  $("drop").hidden = true;
  upload(event.dataTransfer.files);
});
document.addEventListener("visibilitychange", () => watch(!document.hidden && $("lost").hidden));
addEventListener("pagehide", () => watch(false));
// From the history the page comes back as it was left, with its streams ended.
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});

$("lost").append(note("note", "", "", "vcam start"));
load().then(() => values.control?.welcome && loadPresets().then(welcome)).catch(() => {});
takeTicket().catch(() => {});
loadPresets().catch((problem) => signedIn && complain(problem));
loadDevices();
examine();
connect();
