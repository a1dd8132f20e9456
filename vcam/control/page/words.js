// The page's words in the reader's language.

import catalogue from "/catalogue.js";

export const { language } = catalogue;
const words = Object.assign(Object.create(null), catalogue.words);

const GAP = /\{(\d+)[^}]*\}/g;
const fill = (text, values) => text.replace(GAP, (_all, at) => values[at]);

// A text with its gaps {0}, {1} filled.
export const _ = (text, ...values) => fill(words[text] ?? text, values);

// What the daemon says, in English: the sentence it was made from is found again; as vcam/words has it.
export function told(text) {
  return text && String(text).split("\n").map(line).join("\n");
}

function line(text) {
  if (words[text]) return words[text];
  for (const [pattern, order, made] of sentences()) {
    const found = pattern.exec(text);
    if (!found) continue;
    const values = {};
    order.forEach((at, index) => { values[at] = line(found[index + 1]); });
    return fill(made, values);
  }
  if (text.endsWith(".") && line(text.slice(0, -1)) !== text.slice(0, -1)) return line(text.slice(0, -1)) + _(".");
  const pieces = text.split(/(?<=[.!?:]) (?=\S)/);
  return pieces.length > 1 ? pieces.map(line).join(" ") : text;
}

let known;
function sentences() {
  const literal = (msgid) => msgid.replace(GAP, "");
  known ??= Object.entries(words)
    .filter(([msgid]) => msgid.search(GAP) >= 0 && (literal(msgid).match(/\p{L}/gu) ?? []).length > 3)
    .sort(([one], [other]) => literal(other).length - literal(one).length)
    .map(([msgid, made]) => {
      const parts = msgid.split(/\{\d+[^}]*\}/).map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
      return [new RegExp(`^${parts.join("(.+?)")}$`, "su"), [...msgid.matchAll(GAP)].map((gap) => gap[1]), made];
    });
  return known;
}
