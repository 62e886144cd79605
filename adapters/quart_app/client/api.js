// The HTTP API: one function for each request; it returns the response's JSON, or throws Refusal or Unreachable.

const BASE = "/api/v1";
const PATIENCE = 10_000; // ms; timeout of a request

/** The server responded with an error: its problem+json. */
export class Refusal extends Error {
  constructor(status, problem, retryAfter) {
    super(problem.detail ?? `HTTP ${status}`);
    this.status = status;
    this.code = problem.code ?? "";
    this.errors = problem.errors ?? [];
    this.retryAfter = retryAfter; // seconds, or null
  }
}

/** No response: network error, server error or timeout; the request may have been carried out or not. */
export class Unreachable extends Error {}

/** An Idempotency-Key: the server carries out requests with the same key once. */
export function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16)); // pages from plain http elsewhere lack randomUUID
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function exchange(method, path, { body, key, token, patience = PATIENCE }) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (key) headers["Idempotency-Key"] = key;
  if (token) headers.Authorization = `Bearer ${token}`;
  let response;
  let text;
  try {
    const signal = AbortSignal.timeout(patience);
    response = await fetch(BASE + path, {
      method,
      headers,
      signal,
      body: body && JSON.stringify(body),
      cache: "no-store",
    });
    text = await response.text();
  } catch (error) {
    throw new Unreachable(error.message);
  }
  if (!response.ok)
    throw new Refusal(
      response.status,
      parsed(text) ?? {},
      Number(response.headers.get("Retry-After")) || null,
    );
  return text ? parsed(text) : null;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Exchanges a refresh token for the next pair. */
export function exchangeTokens(refresh_token) {
  return exchange("POST", "/auth/refresh", { body: { refresh_token } });
}

/** The API for one session: after a 401 it refreshes once and repeats once, with the same Idempotency-Key. */
export class Api {
  constructor(session) {
    this.session = session;
  }

  async #call(method, path, options = {}) {
    const { access_token: token, user_id } = this.session.tokens ?? {};
    try {
      return await exchange(method, path, { ...options, token });
    } catch (error) {
      if (error.status !== 401 || !token) throw error;
      const next = await this.session.refresh(token);
      if (next === null || this.session.tokens?.user_id !== user_id) throw error; // another user has logged in
      return exchange(method, path, { ...options, token: next });
    }
  }

  register(details, key) {
    return exchange("POST", "/auth/register", { body: details, key });
  }

  logIn(details) {
    return exchange("POST", "/auth/login", { body: details });
  }

  logOut() {
    return this.#call("POST", "/auth/logout", { patience: 3_000 });
  }

  me() {
    return this.#call("GET", "/users/me");
  }

  findByTag(tag) {
    return this.#call("GET", `/users/search?tag=${encodeURIComponent(tag)}`);
  }

  chats() {
    return this.#call("GET", "/chats");
  }

  chat(chatId) {
    return this.#call("GET", `/chats/${chatId}`);
  }

  openDirect(user_id, key) {
    return this.#call("POST", "/chats/direct", { body: { user_id }, key });
  }

  createGroup(title, member_ids, key) {
    return this.#call("POST", "/chats", { body: { title, is_group: true, member_ids }, key });
  }

  /** `{messages: newest first, has_more}`; `anchor` is `{before_id}`, `{after_id}` or nothing: the latest. */
  messages(chat_id, limit, anchor = {}) {
    return this.#call("GET", `/messages?${new URLSearchParams({ chat_id, limit, ...anchor })}`);
  }

  send(chat_id, content, key) {
    return this.#call("POST", "/messages", { body: { chat_id, type: "text", content }, key });
  }

  edit(messageId, content, key) {
    return this.#call("PATCH", `/messages/${messageId}`, { body: { content }, key });
  }

  remove(messageId, key) {
    return this.#call("DELETE", `/messages/${messageId}`, { key });
  }
}
