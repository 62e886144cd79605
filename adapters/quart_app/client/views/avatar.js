// The picture of a person or group: an image, or an icon or initials on one of eight colours.

import { h, icon } from "../dom.js";
import { initials, webAddress } from "../text.js";

const HUES = 8;

export function avatar(name, { id = 0, url = null, group = false } = {}) {
  const shown = h(
    "span",
    { class: "avatar", "data-hue": id % HUES, "aria-hidden": "true" },
    group ? icon("people") : initials(name),
  );
  const address = url && webAddress(url);
  if (address) {
    const picture = h("img", {
      src: address,
      alt: "",
      referrerpolicy: "no-referrer",
      loading: "lazy",
      onerror: () => picture.remove(),
    });
    shown.append(picture);
  }
  return shown;
}

export function userAvatar(user) {
  return avatar(user?.display_name ?? "?", { id: user?.id, url: user?.avatar_url });
}
