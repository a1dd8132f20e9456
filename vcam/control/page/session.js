// This window's key: got for the word in the address, sent with every request, known to no other port.

const KEY = "vcam-session";
const HEADER = "X-Vcam-Session";

// The word leaves the address bar and the history before anything else happens.
const word = location.hash.length > 20 ? location.hash.slice(1) : "";
if (word) history.replaceState(null, "", location.pathname);

let key = sessionStorage.getItem(KEY) ?? "";
const entering = word ? enter() : Promise.resolve();
let onEnd = () => {};

async function enter() {
  try {
    const response = await fetch("/session", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token: word }),
    });
    // An address that was used already takes nothing from a window that is signed in.
    if (response.ok) sessionStorage.setItem(KEY, key = (await response.json()).session);
  } catch {
    // The daemon is gone; what is asked next says so.
  }
}

// Call `end` once this window has no key, or one that the daemon does not take any more.
export function whenSignedOut(end) {
  onEnd = end;
}

// As fetch, with this window's key. A picture or an EventSource cannot carry one.
export async function call(path, options = {}) {
  await entering;
  const response = await fetch(path, { ...options, headers: { ...options.headers, [HEADER]: key } });
  if (response.status === 401) {
    sessionStorage.removeItem(KEY);
    key = "";
    onEnd();
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
