// Creates and updates elements without parsing markup; a keyed list reuses its elements.

const SVG = "http://www.w3.org/2000/svg";

/** A new element. Properties that start with `on` are listeners, `class` is its class, others are attributes. */
export function h(name, properties = {}, ...children) {
  const element = document.createElement(name);
  set(element, properties);
  element.append(
    ...children.flat().filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

function set(element, properties) {
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "class") element.className = value;
    else setAttribute(element, key, value);
  }
}

/** Sets an attribute if it differs; null and false remove it, true sets it empty. */
export function setAttribute(element, name, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else {
    const text = value === true ? "" : String(value);
    if (element.getAttribute(name) !== text) element.setAttribute(name, text);
  }
}

/** Sets the text if it differs: setting an equal text would cause a layout and a screen reader's announcement. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const PATHS = {
  send: "M3.4 20.4 21 12 3.4 3.6 3.4 10.1 15 12 3.4 13.9z",
  back: "M15.5 5 8.5 12l7 7",
  group:
    "M16 19v-1.2a3.8 3.8 0 0 0-3.8-3.8H6.8A3.8 3.8 0 0 0 3 17.8V19" +
    "M9.5 10.5a3.25 3.25 0 1 0 0-6.5 3.25 3.25 0 0 0 0 6.5M18.5 8v6M15.5 11h6",
  people:
    "M15.5 19v-1.3a3.7 3.7 0 0 0-3.7-3.7H6.7A3.7 3.7 0 0 0 3 17.7V19" +
    "M9.25 10.5a3.25 3.25 0 1 0 0-6.5 3.25 3.25 0 0 0 0 6.5M21 19v-1.3a3.7 3.7 0 0 0-2.8-3.6" +
    "M15.3 4.1a3.25 3.25 0 0 1 0 6.3",
  out:
    "M14.5 8V5.5a1.5 1.5 0 0 0-1.5-1.5H6a1.5 1.5 0 0 0-1.5 1.5v13A1.5 1.5 0 0 0 6 20h7a1.5 1.5 0" +
    " 0 0 1.5-1.5V16M10 12h10.5M17.5 9l3 3-3 3",
  language:
    "M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17M3.5 12h17" +
    "M12 3.5c2.2 2.4 3.4 5.2 3.4 8.5s-1.2 6.1-3.4 8.5c-2.2-2.4-3.4-5.2-3.4-8.5s1.2-6.1 3.4-8.5",
  search: "M10.8 17.6a6.8 6.8 0 1 0 0-13.6 6.8 6.8 0 0 0 0 13.6M20 20l-4.3-4.3",
  close: "M6 6l12 12M18 6 6 18",
  down: "M6 9.5l6 6 6-6",
  edit: "M4.5 19.5l.9-4L16 4.9a1.6 1.6 0 0 1 2.2 0l.9.9a1.6 1.6 0 0 1 0 2.2L8.5 18.6z",
  remove: "M5 7h14M10 7V4.8h4V7M7 7l.8 12.2h8.4L17 7M10.3 10.5v5.5M13.7 10.5v5.5",
  pending: "M12 4.5a7.5 7.5 0 1 0 0 15 7.5 7.5 0 0 0 0-15M12 8v4.2l2.6 1.6",
  sent: "M5 12.8l4.4 4.4L19 7.4",
  failed: "M12 4.2a7.8 7.8 0 1 0 0 15.6 7.8 7.8 0 0 0 0-15.6M12 8.2v4.6M12 15.6v.2",
  copy: "M9 9h9.5v10.5H9zM15 9V5H5.5v10.5H9",
  eye:
    "M2.8 12S6 5.8 12 5.8 21.2 12 21.2 12 18 18.2 12 18.2 2.8 12 2.8 12" +
    "M12 14.8a2.8 2.8 0 1 0 0-5.6 2.8 2.8 0 0 0 0 5.6",
  bubble:
    "M5.5 5h13A2.5 2.5 0 0 1 21 7.5v7a2.5 2.5 0 0 1-2.5 2.5H11l-4.5 3.6V17h-1A2.5 2.5 0 0 1 3" +
    " 14.5v-7A2.5 2.5 0 0 1 5.5 5",
};

/** A decorative SVG icon; the element around it has the accessible name. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", `icon icon-${name}`);
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

/** A button with an icon and an accessible name. */
export function iconButton(name, label, properties = {}) {
  return h(
    "button",
    { type: "button", class: "icon-button", "aria-label": label, title: label, ...properties },
    icon(name),
  );
}

/** Shows `items` as the children of `container`, in order; an item with the same key keeps its element. */
export class KeyedList {
  #shown = new Map(); // key -> {element, item}

  /** `create(item)` returns an element; `update(element, item)` is called if a value of the item has changed. */
  constructor(container, { key, create, update }) {
    Object.assign(this, { container, key, create, update });
  }

  show(items) {
    const focused = this.container.contains(document.activeElement) ? document.activeElement : null;
    const wanted = new Set(items.map(this.key));
    for (const [key, { element }] of this.#shown) {
      if (wanted.has(key)) continue;
      element.remove();
      this.#shown.delete(key);
    }
    let next = this.container.firstElementChild;
    for (const item of items) {
      const key = this.key(item);
      let row = this.#shown.get(key);
      if (!row) {
        row = { element: this.create(item), item: null };
        this.#shown.set(key, row);
      }
      if (!row.item || !same(row.item, item)) this.update(row.element, item);
      row.item = item;
      if (next === row.element) next = next.nextElementSibling;
      else this.container.insertBefore(row.element, next);
    }
    if (focused?.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true });
  }

  elementOf(key) {
    return this.#shown.get(key)?.element ?? null;
  }
}

function same(one, other) {
  const keys = Object.keys(one);
  return keys.length === Object.keys(other).length && keys.every((key) => one[key] === other[key]);
}
