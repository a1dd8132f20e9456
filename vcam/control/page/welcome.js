// The first steps, the test call and the list of shortcuts: dialogs over the page.

import { picture } from "/session.js";
import { _ } from "/words.js";
import { face, pixels, SMALL } from "/you.js";

const $ = (id) => document.getElementById(id);
const CALL = 10; // seconds a test call is recorded
const PROGRAMS = [
  ["Zoom", _("Settings → Video → Camera")],
  ["Teams", _("Settings → Devices → Camera")],
  ["Meet", _("⋮ → Settings → Video → Camera")],
  ["Discord", _("User Settings → Voice & Video → Camera")],
];

let page; // what app.js lends: ask, change, take, make, presets, values, camera
const watchers = new Set(); // dialogs that show the preview's pictures, too

export function lend(given) {
  page = given;
}

// Each picture of the preview, as it comes.
export function seen(blob, card) {
  for (const watcher of watchers) watcher(blob, card);
}

function showing(image, mirrored = false) {
  const watcher = (blob, card) => {
    image.classList.toggle("mirrored", mirrored && !card);
    const old = image.src;
    image.src = URL.createObjectURL(blob);
    if (old) URL.revokeObjectURL(old);
  };
  watchers.add(watcher);
  return () => {
    watchers.delete(watcher);
    if (image.src) URL.revokeObjectURL(image.src);
    image.removeAttribute("src");
  };
}

// First steps

let step = 0;
let leaveStep = () => {};
const STEPS = [
  [_("Is this the right webcam?"), webcamStep],
  [_("Choose what is behind you"), backgroundStep],
  [_("Choose it in your meeting"), programStep],
];

export function welcome() {
  if ($("welcome").open) return;
  step = 0;
  $("welcome").showModal();
  go(0);
}

function go(to) {
  leaveStep();
  leaveStep = () => {};
  if (to >= STEPS.length) return finish();
  step = Math.max(to, 0);
  const [title, body] = STEPS[step];
  $("welcome-count").textContent = _("Step {0} of {1}", step + 1, STEPS.length);
  $("welcome-title").textContent = title;
  $("welcome-back").hidden = step === 0;
  $("welcome-next").textContent = step === STEPS.length - 1 ? _("Done") : _("Next");
  $("welcome-body").replaceChildren(...body());
  $("welcome-next").focus();
}

function finish() {
  leaveStep();
  leaveStep = () => {};
  $("welcome").close();
  page.change("control", "welcome", false);
}

function webcamStep() {
  const image = page.make("img", "wide");
  image.alt = _("Your picture right now");
  leaveStep = showing(image, page.values().control.mirror_preview);
  const select = $("source").cloneNode(true);
  select.id = "welcome-source";
  select.value = page.values().camera.source;
  select.addEventListener("change", () => page.change("camera", "source", select.value));
  const label = page.make("label", "", _("Webcam"));
  label.htmlFor = select.id;
  return [image, page.make("div", "row", label, select)];
}

function backgroundStep() {
  const box = page.make("div", "gallery");
  box.setAttribute("role", "group");
  for (const preset of page.presets().filter((one) => one.kind !== "look" && one.name !== "daily")) {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = SMALL;
    const nice = preset.name.charAt(0).toUpperCase() + preset.name.slice(1);
    const name = preset.mine ? nice : _(nice);
    const tile = page.make("button", "tile face", page.make("span", "thumb", canvas), page.make("span", "name", name));
    tile.type = "button";
    tile.setAttribute("aria-pressed", page.values().background.use === preset.name);
    tile.addEventListener("click", async () => {
      await page.take(`${encodeURIComponent(preset.name)}/use`);
      for (const other of box.children) other.setAttribute("aria-pressed", other === tile);
    });
    box.append(tile);
    picture(`/presets/${encodeURIComponent(preset.name)}/thumbnail`).then((url) => draw(canvas, url), () => {});
  }
  face().then((found) => {
    person = found;
    for (const canvas of box.querySelectorAll("canvas")) paint(canvas);
  }, () => {});
  return [box];
}

// The person of one picture, cut out by the matte that the page shows anyway: nothing of the room
// reaches this window that the preview does not show.
let person = null;
const behind = new WeakMap();

async function draw(canvas, url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  URL.revokeObjectURL(url);
  behind.set(canvas, pixels(image));
  paint(canvas);
}

function paint(canvas) {
  const under = behind.get(canvas);
  if (!under) return;
  const made = new ImageData(new Uint8ClampedArray(under), ...SMALL);
  if (person) {
    for (let at = 0; at < made.data.length; at += 4) {
      const share = person.alpha[at] / 255;
      for (let colour = at; colour < at + 3; colour++) {
        made.data[colour] = person.shown[colour] * share + under[colour] * (1 - share);
      }
    }
  }
  canvas.getContext("2d").putImageData(made, 0, 0);
}

function programStep() {
  const image = page.make("img", "wide");
  image.alt = _("What others will see");
  leaveStep = showing(image);
  const rows = PROGRAMS.map(([name, way]) => page.make("li", "", page.make("b", "", name), page.make("span", "", `${way} → ${page.camera()}`)));
  return [image, page.make("p", "", _("This is how you look in each of them, once you choose “{0}” there:", page.camera())), page.make("ul", "sinks", ...rows)];
}

// A call with nobody: ten seconds are kept in this window, played, and gone with the dialog.

let endCall = () => {};
export function testCall() {
  $("test-call").showModal();
  record();
}

function record() {
  endCall();
  const kept = [];
  const image = $("call-picture");
  const began = performance.now();
  const stop = showing(image);
  const keepOne = (blob) => kept.push([performance.now() - began, blob]);
  watchers.add(keepOne);
  $("call-again").disabled = true;
  const ticking = setInterval(() => {
    const left = CALL - (performance.now() - began) / 1000;
    if (left > 0) $("call-says").textContent = _("Recording: {0} seconds to go. Talk and move as in a call.", Math.ceil(left));
    else play();
  }, 200);
  endCall = () => {
    clearInterval(ticking);
    watchers.delete(keepOne);
    stop();
  };
  const play = () => {
    endCall();
    $("call-again").disabled = false;
    $("call-says").textContent = kept.length ? _("This is what others would have seen, without sound. It is in this window alone and goes when you close it.") : _("No picture came.");
    let next = 0;
    let from = performance.now();
    let url = "";
    const playing = setInterval(() => {
      if (!kept.length) return;
      if (next >= kept.length) [next, from] = [0, performance.now()];
      if (kept[next][0] - kept[0][0] > performance.now() - from) return;
      if (url) URL.revokeObjectURL(url);
      image.src = url = URL.createObjectURL(kept[next++][1]);
    }, 30);
    endCall = () => {
      clearInterval(playing);
      if (url) URL.revokeObjectURL(url);
      image.removeAttribute("src");
      kept.length = 0;
    };
  };
}

for (const [id, act] of [["welcome-skip", finish], ["welcome-back", () => go(step - 1)], ["welcome-next", () => go(step + 1)], ["call-again", record]]) {
  $(id).addEventListener("click", act);
}
$("welcome").addEventListener("cancel", (event) => {
  event.preventDefault();
  finish();
});
$("test-call").addEventListener("close", () => endCall());
for (const button of document.querySelectorAll("dialog .close")) button.addEventListener("click", () => button.closest("dialog").close());
