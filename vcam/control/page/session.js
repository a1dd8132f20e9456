// This window's key: got for the word in the address, sent with every request, known to no other port.

import { _ } from "/words.js";

const KEY = "vcam-session";
const HEADER = "X-Vcam-Session";

// The word leaves the address bar and the history before anything else happens.
const word = location.hash.length > 20 ? location.hash.slice(1) : "";
if (word) history.replaceState(null, "", location.pathname);

let key = sessionStorage.getItem(KEY) ?? "";
const entering = word ? enter() : Promise.resolve();
let onEnd = () => {};
let why = key || word ? _("It was open for twelve hours, or it was closed with “vcam open --close”.") : _("For your safety the settings page opens by an address that works once.");

async function enter() {
  try {
    const response = await fetch("/session", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token: word }),
    });
    // An address that was used already takes nothing from a window that is signed in.
    if (!response.ok && !key) why = _("The address was used before, or is older than ten minutes. Each opens one window, once.");
    if (response.ok) sessionStorage.setItem(KEY, key = (await response.json()).session);
  } catch {
    // The daemon is gone; what is asked next says so.
  }
}

// The way back to a daemon that was started anew. The secret is known to this document alone, never
// in the browser's storage and never sent: another page at this origin, of somebody who took the
// port meanwhile, finds nothing. Whoever answers has to prove that it knows the secret first.

let away = false;
let ticket = null;
const bytes = new TextEncoder();

export async function takeTicket() {
  const response = await call("/session/ticket", { method: "POST" });
  if (!response.ok) return;
  const { number, secret } = await response.json();
  const how = { name: "HMAC", hash: "SHA-256" };
  ticket = { number, secret: await crypto.subtle.importKey("raw", bytes.encode(secret), how, false, ["sign"]) };
}

async function proof(by, ours, theirs) {
  const told = await crypto.subtle.sign("HMAC", ticket.secret, bytes.encode([by, location.origin, ours, theirs].join("\n")));
  return [...new Uint8Array(told)].map((one) => one.toString(16).padStart(2, "0")).join("");
}

async function knock(told) {
  return fetch("/session/back", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ number: ticket.number, ...told }),
  });
}

// Nothing is sent until `comeBack` has succeeded.
export function goAway() {
  away = true;
}

// Back to the daemon: true; not yet: false; never: the end.
export async function comeBack() {
  try {
    if (!ticket) {
      // The daemon that gave the key may be there still: a key is no use to any other.
      away = false;
      return true;
    }
    const nonce = [...crypto.getRandomValues(new Uint8Array(32))].map((one) => one.toString(16)).join("");
    const asked = await knock({ nonce });
    if (asked.status === 401) return end();
    if (!asked.ok) return false;
    const answer = await asked.json();
    if (answer.proof !== await proof("daemon", answer.nonce, nonce)) return false; // not our daemon
    // A page of somebody else's at this origin could have left a worker that reads along.
    const workers = await navigator.serviceWorker?.getRegistrations() ?? [];
    if (workers.length) return end();
    const response = await knock({ proof: await proof("page", answer.nonce, nonce) });
    if (!response.ok) return response.status === 401 ? end() : false;
    sessionStorage.setItem(KEY, key = (await response.json()).session);
    ticket = null;
    away = false;
    takeTicket().catch(() => {});
    return true;
  } catch {
    return false; // nobody there
  }
}

function end() {
  sessionStorage.removeItem(KEY);
  key = "";
  ticket = null;
  onEnd(why);
  return false;
}

// Call `end` once this window has no key, or one that the daemon does not take any more.
export function whenSignedOut(end) {
  onEnd = end;
}

// As fetch, with this window's key. A picture or an EventSource cannot carry one.
export async function call(path, options = {}) {
  await entering;
  if (away) throw new Error("away");
  const response = await fetch(path, { ...options, headers: { ...options.headers, [HEADER]: key } });
  if (response.status === 401 && !away) {
    if (ticket) away = true; // another daemon than the one that gave the key
    else end();
  }
  return response;
}

// The picture at a path, as an address for an <img>; whoever shows it gives it back.
export async function picture(path) {
  const response = await call(path);
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return URL.createObjectURL(await response.blob());
}

// Each event of /events as [name, value].
export async function* events(signal) {
  const response = await call("/events", { signal });
  if (!response.ok) throw new Error(String(response.status));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const told = (held + value).split("\n\n");
    held = told.pop();
    for (const one of told) {
      const lines = Object.fromEntries(one.split("\n").map((line) => [line.slice(0, line.indexOf(": ")), line.slice(line.indexOf(": ") + 2)]));
      yield [lines.event, JSON.parse(lines.data)];
    }
  }
}

// Each picture of a multipart stream as a blob; `card` tells if it is the privacy card.
export async function* pictures(path, signal) {
  const response = await call(path, { signal });
  if (!response.ok) throw new Error(String(response.status));
  const reader = response.body.getReader();
  let held = new Uint8Array(0);
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const joined = new Uint8Array(held.length + value.length);
    joined.set(held);
    joined.set(value, held.length);
    held = joined;
    for (let part = first(held); part; part = first(held)) {
      const blob = new Blob([held.subarray(part.start, part.end)], { type: "image/jpeg" });
      yield { blob, card: part.card };
      held = held.slice(part.end);
    }
  }
}

const text = new TextDecoder("latin1");

// Where the body of the first part starts and ends; null until all of it has come.
function first(bytes) {
  const head = text.decode(bytes.subarray(0, 512));
  const found = /Content-Length: (\d+)\r\n\r\n/.exec(head);
  if (!found) return null;
  const start = found.index + found[0].length;
  const end = start + Number(found[1]);
  return end <= bytes.length ? { start, end, card: head.includes("X-Vcam-Card: 1\r\n") } : null;
}
