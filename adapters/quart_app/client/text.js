// What people wrote, taken apart: links, initials, lengths. Nothing here makes markup.

const LINK = /\bhttps?:\/\/[^\s<>"'`]+/giu;
const TRAILING = /[.,;:!?…»”’)\]}]+$/u;

/** Pieces of a text in order, each `{text}` or `{text, href}`; together they are the text. */
export function pieces(text) {
  const found = [];
  let end = 0;
  for (const match of text.matchAll(LINK)) {
    const link = withoutTrailing(match[0]);
    const href = webAddress(link);
    if (href === null) continue;
    if (match.index > end) found.push({ text: text.slice(end, match.index) });
    found.push({ text: link, href });
    end = match.index + link.length;
  }
  if (end < text.length) found.push({ text: text.slice(end) });
  return found;
}

/** A link without the punctuation of its sentence; a closing bracket stays if the link opened it. */
function withoutTrailing(link) {
  let kept = link.replace(TRAILING, "");
  while (link[kept.length] === ")" && count(kept, "(") > count(kept, ")")) kept += ")";
  return kept;
}

function count(text, character) {
  return text.split(character).length - 1;
}

/** The address, if it is one of the web; null for `javascript:` and all that is malformed. */
export function webAddress(text) {
  try {
    const url = new URL(text);
    return url.protocol === "https:" || url.protocol === "http:" ? url.href : null;
  } catch {
    return null;
  }
}

const letters = typeof Intl.Segmenter === "function" ? new Intl.Segmenter() : null;

/** One or two letters to stand for a name; whole characters, also where they are made of several. */
export function initials(name) {
  const first = (word) =>
    (letters ? letters.segment(word)[Symbol.iterator]().next().value?.segment : [...word][0]) ?? "";
  const words = name.trim().split(/\s+/u);
  const chosen = words.length > 1 ? [words[0], words.at(-1)] : words;
  return chosen.map(first).join("").toLocaleUpperCase();
}

/** Code points, as the server counts. */
export function length(text) {
  let points = 0;
  for (const _ of text) points++;
  return points;
}

/** Whether nothing in the text can be seen, which the server does not take. */
export function isBlank(text) {
  return /^[\p{C}\p{Z}]*$/u.test(text);
}
