// You, cut out of what others see: small, for tiles that show you in front of a background.
//
// Nothing of the room gets here: the picture is the preview's, and the matte only says which part
// of it is you. It is kept in this window alone, and only while you are live.

import { pictures } from "/session.js";

export const SMALL = [192, 108]; // pixels of a tile that shows a face

export function pixels(image) {
  const canvas = new OffscreenCanvas(...SMALL);
  const drawing = canvas.getContext("2d");
  drawing.drawImage(image, 0, 0, ...SMALL);
  return drawing.getImageData(0, 0, ...SMALL).data;
}

// One picture of the preview and its matte, as pixels; the card is none.
export async function face() {
  const ended = new AbortController();
  const first = async (view) => {
    for await (const { blob, card } of pictures(`/preview.mjpg?view=${view}`, ended.signal)) {
      if (!card) return pixels(await createImageBitmap(blob));
    }
    throw new Error("no picture");
  };
  try {
    const [shown, alpha] = await Promise.all([first("composite"), first("matte")]);
    return { shown, alpha };
  } finally {
    ended.abort();
  }
}

// Edges are cut where less than half of a pixel is you: what is behind you now is in it, too.
function cut({ shown, alpha }) {
  const made = new ImageData(new Uint8ClampedArray(shown.length), ...SMALL);
  for (let at = 0; at < shown.length; at += 4) {
    const share = Math.max(0, 2 * alpha[at] - 255);
    if (!share) continue;
    for (let colour = at; colour < at + 3; colour++) made.data[colour] = shown[colour];
    made.data[at + 3] = share;
  }
  const canvas = new OffscreenCanvas(...SMALL);
  canvas.getContext("2d").putImageData(made, 0, 0);
  return canvas;
}

let you = null; // the cutout, while there is one
let asked = 0; // how often it was asked for or given up: an answer that comes late is dropped

// A canvas to lay over a picture of a background.
export function place() {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = SMALL;
  canvas.className = "you";
  canvas.setAttribute("aria-hidden", "true");
  paint(canvas);
  return canvas;
}

function paint(canvas) {
  const drawing = canvas.getContext("2d");
  drawing.clearRect(0, 0, ...SMALL);
  if (you) drawing.drawImage(you, 0, 0);
}

const paintAll = () => document.querySelectorAll("canvas.you").forEach(paint);

// Make it anew from the next picture.
export async function look() {
  const mine = ++asked;
  const found = await face().then(cut, () => null);
  if (mine !== asked || !found) return;
  you = found;
  paintAll();
}

// Nothing of you stays once you are not live any more.
export function forget() {
  asked++;
  you?.getContext("2d").clearRect(0, 0, ...SMALL);
  you = null;
  paintAll();
}
