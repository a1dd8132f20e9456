// Framing by hand, on the preview, and the name tag: kept readable where the preview is a mirror.

import { picture } from "/session.js";
import { _ } from "/words.js";

const $ = (id) => document.getElementById(id);
const MOST = 2;
const ASIDE = 0.3; // of the picture: how far a shift moves somebody who is framed
const STEP = 0.1; // of a key

let page; // what app.js lends: change, changeAll, send, ask, complain, values, status
let shownLogo = ""; // the logo that the page shows, as the settings name it
let dragged = null; // where the pointer was, and the shift then

export function lendLook(given) {
  page = given;
  const frame = $("frame");
  frame.addEventListener("pointerdown", begin);
  frame.addEventListener("pointermove", drag);
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) frame.addEventListener(end, () => { dragged = null; frame.classList.remove("dragged"); });
  frame.addEventListener("wheel", turn, { passive: false });
  frame.addEventListener("keydown", press);
  for (const input of document.querySelectorAll('[name="framing"]')) {
    input.addEventListener("change", () => page.change("look", "framing", input.value));
  }
  $("choose-logo").addEventListener("click", () => $("logo-file").click());
  $("remove-logo").addEventListener("click", async () => {
    await page.send("DELETE", "/logo");
    $("choose-logo").focus();
  });
  $("logo-file").addEventListener("change", async (event) => {
    const [file] = event.target.files;
    if (!file) return;
    document.body.setAttribute("aria-busy", "true");
    await page.send("POST", "/logo", file);
    document.body.removeAttribute("aria-busy");
    event.target.value = "";
  });
  $("back").addEventListener("change", async (event) => {
    const seconds = Number(event.target.value);
    event.target.value = "";
    await page.ask("POST", "/pause", { back_in: seconds }).catch(page.complain);
  });
}

const look = () => page.values().look;
const bound = (value, least, most) => Math.round(Math.min(Math.max(value, least), most) * 100) / 100;

// What the settings say.
export function showLook() {
  for (const input of document.querySelectorAll('[name="framing"]')) input.checked = input.value === look().framing;
  $("frame").classList.toggle("movable", look().framing !== "off" || look().zoom > 1);
  showLogo(page.values().overlay.logo);
}

// The logo itself; one that cannot be read is told by its name.
async function showLogo(logo) {
  if (logo === shownLogo) return;
  shownLogo = logo;
  const image = $("tag-logo");
  $("remove-logo").hidden = !logo;
  const address = logo ? await picture("/logo.png").catch(() => "") : "";
  if (shownLogo !== logo) return;
  if (image.src) URL.revokeObjectURL(image.src);
  if (address) image.src = address;
  else image.removeAttribute("src");
  image.hidden = !address;
  $("logo-says").textContent = logo && !address ? _("{0} cannot be shown.", logo.split(/[\\/]/).pop()) : "";
}

function zoomBy(factor) {
  const zoom = bound(look().zoom * factor, 1, MOST);
  if (zoom === look().zoom) return false;
  page.change("look", "zoom", zoom);
  return true;
}

// Moves what is seen by shares of the preview, to the right and down; all of it counts as seen.
function moveBy(right, down, from = look()) {
  const { framing, zoom } = look();
  // Whoever sees a mirror moves the other way round, twice if others see one as well.
  const turned = $("frame").classList.contains("mirrored") !== page.values().camera.mirror;
  const by = framing === "off" ? (zoom > 1 ? -2 / (zoom - 1) : 0) : 1 / ASIDE;
  if (!by) return false;
  page.changeAll("look", {
    shift_x: bound(from.shift_x + (turned ? -right : right) * by, -1, 1),
    shift_y: bound(from.shift_y + down * by, -1, 1),
  });
  return true;
}

function begin(event) {
  if (event.button || event.target.closest(".lost")) return;
  dragged = { x: event.clientX, y: event.clientY, from: { ...look() } };
  $("frame").setPointerCapture?.(event.pointerId);
  $("frame").classList.add("dragged");
}

function drag(event) {
  if (!dragged) return;
  const { width, height } = $("frame").getBoundingClientRect();
  const [right, down] = [(event.clientX - dragged.x) / width, (event.clientY - dragged.y) / height];
  if (Math.hypot(right, down) > 0.005) moveBy(right, down, dragged.from);
}

// The wheel scrolls the page, unless the preview was clicked before.
function turn(event) {
  if (document.activeElement !== $("frame") && !event.ctrlKey) return;
  if (zoomBy(Math.exp(-event.deltaY * 0.0015))) event.preventDefault();
}

function press(event) {
  if (event.target !== $("frame") || event.ctrlKey || event.metaKey || event.altKey) return;
  const deeds = {
    ArrowLeft: () => moveBy(-STEP / 2, 0),
    ArrowRight: () => moveBy(STEP / 2, 0),
    ArrowUp: () => moveBy(0, -STEP / 2),
    ArrowDown: () => moveBy(0, STEP / 2),
    "+": () => zoomBy(1 + STEP),
    "=": () => zoomBy(1 + STEP),
    "-": () => zoomBy(1 / (1 + STEP)),
    0: () => page.changeAll("look", { zoom: 1, shift_x: 0, shift_y: 0 }),
  };
  if (!deeds[event.key]) return;
  event.preventDefault();
  event.stopPropagation();
  deeds[event.key]();
}

// The tag once more, the right way round, over its mirror image. `overlay` is its place as shares of
// the picture: left, top, width, height.
export function showTag(blob) {
  const tag = $("tag-view"), picture = $("preview");
  const place = page.status().overlay;
  const wanted = blob && place && $("frame").classList.contains("mirrored");
  const image = tag.firstElementChild;
  if (image.src) URL.revokeObjectURL(image.src);
  tag.hidden = !wanted;
  if (!wanted) {
    image.removeAttribute("src");
    return;
  }
  image.src = URL.createObjectURL(blob);
  const shape = (picture.naturalWidth || 16) / (picture.naturalHeight || 9) / (16 / 9);
  const [wide, tall] = [Math.min(1, shape), Math.min(1, 1 / shape)]; // of the frame that the picture covers
  const [left, top, width, height] = place;
  Object.assign(tag.style, {
    left: `${((1 - wide) / 2 + (1 - left - width) * wide) * 100}%`,
    top: `${((1 - tall) / 2 + top * tall) * 100}%`,
    width: `${width * wide * 100}%`,
    height: `${height * tall * 100}%`,
  });
  Object.assign(image.style, {
    width: `${100 / width}%`, height: `${100 / height}%`,
    left: `${(-left / width) * 100}%`, top: `${(-top / height) * 100}%`,
  });
}
