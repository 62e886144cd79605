// The session: the two tokens in localStorage, shared by every tab of this origin.

const NAME = "messaging.session";

/** Stores and refreshes the tokens; `storage` is a Storage, `locks` a LockManager or undefined. */
export class Session {
  #ended = new Set();

  constructor({ storage, locks, exchange }) {
    this.storage = storage;
    this.locks = locks; // undefined on pages that are neither https nor localhost
    this.exchange = exchange; // refresh token -> token pair; throws Refusal or Unreachable
  }

  /** `{access_token, refresh_token, user_id}` as they are now, or null; other tabs change them. */
  get tokens() {
    try {
      return JSON.parse(this.storage.getItem(NAME));
    } catch {
      return null;
    }
  }

  begin({ access_token, refresh_token, user }) {
    this.#keep({ access_token, refresh_token, user_id: user.id });
  }

  /** Forget the tokens, in every tab. */
  end() {
    if (this.tokens === null) return;
    this.storage.removeItem(NAME);
    for (const listener of this.#ended) listener();
  }

  onEnd(listener) {
    this.#ended.add(listener);
  }

  /**
   * A token to use after `refused` was refused, or null if the session has ended.
   *
   * One tab exchanges, the others wait and read its result. Without locks each tab exchanges by itself: the
   * server returns the same successor to all.
   */
  async refresh(refused) {
    const exchanged = () => this.#exchangeUnlessDone(refused);
    return this.locks ? this.locks.request(NAME, exchanged) : exchanged();
  }

  async #exchangeUnlessDone(refused) {
    const before = this.tokens;
    if (before === null) return null;
    if (before.access_token !== refused) return before.access_token;
    try {
      const { access_token, refresh_token } = await this.exchange(before.refresh_token);
      if (this.tokens === null) return null; // logged out meanwhile
      this.#keep({ ...before, access_token, refresh_token });
      return access_token;
    } catch (error) {
      if (error.status !== 401 && error.status !== 422) throw error;
      const now = this.tokens;
      if (now && now.refresh_token !== before.refresh_token) return now.access_token;
      this.end();
      return null;
    }
  }

  #keep(tokens) {
    this.storage.setItem(NAME, JSON.stringify(tokens));
  }

  /** Whether a `storage` event is about the session, so another tab has logged in, out, or refreshed. */
  static concerns(event) {
    return event.key === NAME || event.key === null;
  }
}
