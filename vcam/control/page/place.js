// Your own picture behind you: dragged, enlarged with the wheel, or set by sliders; kept for that picture.

const $ = (id) => document.getElementById(id);
const FIRST = { x: 0, y: 0, zoom: 1, darken: 0, blur: 0 };
const sliders = [...document.querySelectorAll("[data-place]")];

let page; // what app.js lends: ask, complain, offerUndo
let name = ""; // of the picture that is placed
let wish = FIRST;

export function lendPlace(given) {
  page = given;
}

// The picture that is behind you now, if it is one of yours.
export function showPlace(preset) {
  const mine = preset?.fitting ? preset : null;
  $("placing").hidden = !mine;
  $("frame").classList.toggle("placing", Boolean(mine) && $("placing").open);
  if (!mine || sending || waiting) return;
  name = mine.name;
  wish = { ...mine.fitting };
  paint();
}

function paint() {
  for (const input of sliders) {
    const value = wish[input.dataset.place];
    input.value = value;
    const part = (value - input.min) / (input.max - input.min);
    input.style.setProperty("--part", `${part * 100}%`);
    input.parentElement.querySelector("output").value = `${Math.round(input.max > 4 ? value : value * 100)} %`;
  }
}

let sending = false;
let waiting = false;
async function change(part) {
  for (const [key, value] of Object.entries(part)) {
    const { min, max } = sliders.find((one) => one.dataset.place === key);
    wish[key] = Math.round(Math.min(Math.max(value, Number(min)), Number(max)) * 1000) / 1000;
  }
  paint();
  waiting = true;
  if (sending) return;
  sending = true;
  try {
    while (waiting) {
      waiting = false;
      page.offerUndo((await page.ask("PUT", `/presets/${encodeURIComponent(name)}/fitting`, wish)).undo);
    }
  } catch (problem) {
    waiting = false;
    page.complain(problem);
  } finally {
    sending = false;
  }
}

for (const input of sliders) input.addEventListener("input", () => change({ [input.dataset.place]: Number(input.value) }));
$("place-reset").addEventListener("click", () => change(FIRST));
$("placing").addEventListener("toggle", () => $("frame").classList.toggle("placing", $("placing").open && !$("placing").hidden));

const placing = () => $("frame").classList.contains("placing");
let held = null; // where the pointer took hold, and what was wished then
$("frame").addEventListener("pointerdown", (event) => {
  if (!placing() || event.button) return;
  event.preventDefault();
  event.stopImmediatePropagation(); // or you would be shifted as well
  $("frame").setPointerCapture(event.pointerId);
  held = { x: event.clientX, y: event.clientY, wish: { ...wish } };
}, { capture: true });
$("frame").addEventListener("pointermove", (event) => {
  if (!held) return;
  const { width, height } = $("frame").getBoundingClientRect();
  const turned = $("frame").classList.contains("mirrored") ? -1 : 1;
  change({
    x: held.wish.x - (turned * 2 * (event.clientX - held.x)) / width,
    y: held.wish.y - (2 * (event.clientY - held.y)) / height,
  });
});
for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) $("frame").addEventListener(end, () => { held = null; });
$("frame").addEventListener("wheel", (event) => {
  if (!placing()) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  change({ zoom: wish.zoom * (event.deltaY < 0 ? 1.06 : 1 / 1.06) });
}, { capture: true, passive: false });
