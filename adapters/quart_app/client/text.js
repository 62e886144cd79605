// Parses user text: links, initials, lengths. Nothing here creates markup.

const LINK = /\bhttps?:\/\/[^\s<>"'`]+/giu;
const TRAILING = new Set(".,;:!?…»”’)]}");

/** The text in pieces, each `{text}` or `{text, href}`. */
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

/**
 * A link without the punctuation of its sentence; a closing bracket stays if the link opened it.
 * Reads every character a bounded number of times, because other users choose the text.
 */
function withoutTrailing(link) {
  let end = link.length;
  while (end > 0 && TRAILING.has(link[end - 1])) end--;
  let open = 0;
  for (let index = 0; index < end; index++) {
    if (link[index] === "(") open++;
    else if (link[index] === ")") open--;
  }
  for (; link[end] === ")" && open > 0; open--) end++;
  return link.slice(0, end);
}

/** The address if it is a valid one of http or https; null for `javascript:` and all others. */
export function webAddress(text) {
  try {
    const url = new URL(text);
    return url.protocol === "https:" || url.protocol === "http:" ? url.href : null;
  } catch {
    return null;
  }
}

const letters = typeof Intl.Segmenter === "function" ? new Intl.Segmenter() : null;

/** The first letters of the first and the last word of a name; a letter may consist of several code points. */
export function initials(name) {
  const first = (word) =>
    (letters ? letters.segment(word)[Symbol.iterator]().next().value?.segment : [...word][0]) ?? "";
  const words = name.trim().split(/\s+/u);
  const chosen = words.length > 1 ? [words[0], words.at(-1)] : words;
  return chosen.map(first).join("").toLocaleUpperCase();
}

const MANY_MARKS = /\p{M}{31}/u;

/** The number of code points in NFC, as the server counts; without NFC if more than 30 marks follow each other. */
export function length(text) {
  let points = 0;
  for (const _ of MANY_MARKS.test(text) ? text : text.normalize("NFC")) points++;
  return points;
}

// White space, controls, marks without a base, code points that Unicode never draws, and five blank symbols.
const UNSEEN =
  /^[\p{Cc}\p{Cf}\p{Cs}\p{Z}\p{M}\p{Default_Ignorable_Code_Point}\p{Noncharacter_Code_Point}\u2800\ufffc\u{1d159}\u{13441}\u{13442}]*$/u;

/** Whether the text has no visible character; the server refuses such text. */
export function isBlank(text) {
  return UNSEEN.test(text);
}
