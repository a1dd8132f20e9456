// The room that is known: how much of it, a map, a button that has it learnt, and an offer to do so.

import { call, picture } from "/session.js";
import { _, told } from "/words.js";

const $ = (id) => document.getElementById(id);
const COUNTDOWN = 3; // seconds to step aside
const LESSON = 2500; // milliseconds that learning takes, and a little
const LITTLE = 0.3; // of the room: less is known of it, and furniture may still pass for a person
const FIRST = 60000; // milliseconds live before anything is offered

let page; // what app.js lends: ask, change, toast, values
let learning = false;
let liveSince = 0; // when the person was first seen, on the clock of the page
let drawn = 0; // when the map was drawn last

export function lendRoom(given) {
  page = given;
}

// What the daemon says of the room, once it said anything.
export function showRoom(status) {
  const room = status.engine?.room;
  $("known").hidden = !room;
  if (!room) {
    $("aside").hidden = true;
    return;
  }
  const share = `${Math.round(100 * room.known)} %`;
  write($("known-share"), share);
  if (!learning) write($("known-says"), words(room, share));
  if ($("known").open && performance.now() - drawn > 1000) drawMap();
  offer(status, room);
}

function words(room, share) {
  const said = [room.known ? _("{0} of the room behind you is known, and is kept out of your picture.", share) : _("Nothing of the room behind you is known yet.")];
  if (room.forgotten) said.push(_("It was forgotten last: {0}.", told(room.forgotten)));
  if (room.showing) said.push(_("A part of it keeps being taken for you, and is taken out."));
  return said.join(" ");
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

async function drawMap() {
  drawn = performance.now();
  const image = $("known-map");
  const address = await picture("/known-room.png").catch(() => "");
  if (image.src) URL.revokeObjectURL(image.src);
  if (address) image.src = address;
  else image.removeAttribute("src");
  image.hidden = !address;
}

// Offered where it would help: live for a minute with a webcam, little of the room known or a part
// of it showing. Whatever is answered, nobody is asked again.
function offer(status, room) {
  const live = status.state === "live" && status.source?.live && !status.revealed;
  liveSince = live ? liveSince || performance.now() : 0;
  const wanted = page.values().control?.room_offer && !learning;
  const helps = live && (room.showing || (room.known < LITTLE && performance.now() - liveSince > FIRST));
  if (!wanted || room.known >= LITTLE && !room.showing) $("aside").hidden = true;
  else if (helps) $("aside").hidden = false;
}

async function learn() {
  if (learning) return;
  learning = true;
  $("aside").hidden = true;
  $("learn").disabled = true;
  $("known").open = true;
  try {
    for (let left = COUNTDOWN; left > 0; left--) {
      write($("known-says"), _("Step out of the picture: {0}", left));
      await new Promise((done) => setTimeout(done, 1000));
    }
    await page.ask("POST", "/known-room");
    write($("known-says"), _("Learning the room: stay out of the picture."));
    await new Promise((done) => setTimeout(done, LESSON));
    const status = await (await call("/status")).json();
    const enough = (status.engine?.room?.known ?? 0) > 0.5;
    page.toast(enough ? _("The room is known. You can come back.") : _("Hardly anything of the room was learnt."), enough ? "" : _("The picture must be live, and the webcam must stand."), !enough);
  } catch (problem) {
    page.complain(problem);
  } finally {
    learning = false;
    $("learn").disabled = false;
    drawn = 0;
  }
}

function never() {
  $("aside").hidden = true;
  page.change("control", "room_offer", false);
}

$("learn").addEventListener("click", learn);
$("forget-room").addEventListener("click", () => page.ask("DELETE", "/known-room").then(() => page.toast(_("The room is forgotten."))).catch((problem) => page.complain(problem)));
$("known").addEventListener("toggle", () => $("known").open && drawMap());
$("aside-no").addEventListener("click", never);
$("aside-yes").addEventListener("click", () => {
  never();
  learn();
  $("known").scrollIntoView({ block: "center" });
});
