// One message of a conversation.

import { h, icon, iconButton, setAttribute, setText } from "../dom.js";
import { isDeleted } from "../store.js";
import { pieces } from "../text.js";
import { userAvatar } from "./avatar.js";

/** An empty row, for `updateMessage`; `on` has `edit`, `remove`, `retry` and `drop`, called with the item. */
export function createMessage(app, on) {
  const { words } = app;
  const author = h("span", { class: "author", dir: "auto" });
  const body = h("div", { class: "body", dir: "auto" });
  const note = h("span", { class: "note" });
  const time = h("time");
  const status = h("span", { class: "status" });
  const edit = iconButton("edit", words.edit, { tabindex: "-1", onclick: () => on.edit(element.item) });
  const remove = iconButton("remove", words.remove, {
    tabindex: "-1",
    onclick: () => on.remove(element.item),
  });
  const actions = h("div", { class: "actions" }, edit, remove);
  const bubble = h(
    "div",
    { class: "bubble" },
    author,
    body,
    h("span", { class: "meta" }, note, time, status),
    actions,
  );
  const failure = h(
    "div",
    { class: "failure", hidden: true },
    h("span", { role: "alert" }),
    h("button", { class: "link", type: "button", onclick: () => on.retry(element.item) }, words.retry),
    h("button", { class: "link", type: "button", onclick: () => on.drop(element.item) }, words.drop),
  );
  // Reactions will be shown between the bubble and the failure, once the server has them.
  const element = h("li", { class: "message", tabindex: "-1" }, bubble, failure);
  element.parts = { author, body, note, time, status, actions, failure, bubble };
  return element;
}

/** Shows an item `{message, pending, mine, author, named, first, last}` in its row. */
export function updateMessage(app, element, item) {
  const { words, times } = app;
  const { author, body, note, time, status, actions, failure } = element.parts;
  const { message, pending, mine } = item;
  const deleted = message !== null && isDeleted(message);
  element.item = item;
  const ts = message?.ts ?? null;
  element.className = [
    "message",
    mine ? "mine" : "theirs",
    item.first && "first",
    item.last && "last",
    deleted && "deleted",
    message?.type === "system" && "system",
    pending?.state,
  ]
    .filter(Boolean)
    .join(" ");
  showAvatar(element, item);
  author.hidden = !item.named;
  setText(author, item.named ? item.authorName : "");
  showBody(
    body,
    deleted ? words.deleted : (pending?.content ?? message.content),
    deleted ? null : (message?.type ?? "text"),
    words,
  );
  setText(note, message?.edited && !deleted ? words.edited : "");
  setText(time, ts ? times.time(ts) : "");
  setAttribute(time, "datetime", ts);
  setAttribute(time, "title", ts && times.full(ts));
  showStatus(status, item, words, app.store.state.connection);
  actions.hidden = !mine || deleted || pending !== null || message.type === "system";
  failure.hidden = pending?.state !== "failed";
  setText(
    failure.firstChild,
    failure.hidden ? "" : [words.not_sent, words.errors[pending.error]].filter(Boolean).join(" "),
  );
}

function showAvatar(element, { named, group, mine, last, author }) {
  const wanted = group && !mine;
  element.classList.toggle("with-avatar", wanted);
  const shown = wanted && last ? author : null;
  if (element.avatarOf !== shown || named === undefined) {
    element.querySelector(":scope > .avatar")?.remove();
    if (shown) element.prepend(userAvatar(shown));
    element.avatarOf = shown;
  }
}

function showBody(body, content, type, words) {
  const shown = `${type}:${content}`;
  if (body.shown === shown) return;
  body.shown = shown;
  const label =
    type && type !== "text" && type !== "system"
      ? [h("span", { class: "kind" }, words.types[type] ?? type)]
      : [];
  const text =
    content === null
      ? []
      : pieces(content).map(({ text: part, href }) =>
          href ? h("a", { href, target: "_blank", rel: "noopener noreferrer nofollow" }, part) : part,
        );
  body.replaceChildren(...label, ...text);
}

function showStatus(status, { message, pending, mine }, words, connection) {
  const kind = pending ? pending.state : mine && message ? "sent" : null;
  const label =
    kind === "pending" && connection !== "open"
      ? words.waiting
      : { pending: words.sending, sent: words.sent, failed: words.not_sent }[kind];
  if (status.dataset.kind !== String(kind))
    status.replaceChildren(...(kind ? [icon(kind), h("span", { class: "unseen" }, label)] : []));
  status.dataset.kind = String(kind);
  if (kind) setText(status.lastChild, label);
  setAttribute(status, "title", kind && label);
}
