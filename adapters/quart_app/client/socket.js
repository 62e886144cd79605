// The live connection: open while the session lasts, with a growing back-off between tries.

const FIRST_PAUSE = 500; // ms
const LONGEST_PAUSE = 15_000;
const SETTLED = 5_000; // ms that a connection must stay open before its failures are forgotten
const HEARTBEAT = 15_000;
const SLEPT = 150_000; // ms; timers of a hidden page run once a minute, so after a longer pause the machine slept

const AUTHENTICATION = 1008;
const RENEWABLE = new Set(["token_expired", "token_invalid", "session_revoked", ""]);

/** Whether the client must not reconnect after this close code. */
export function isFinal(code) {
  return code >= 4500 && code <= 4999;
}

/** The pause in ms after `failures` in a row; a random `chance` in 0..1 spreads the clients' reconnections. */
export function pause(failures, chance) {
  return Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** failures) * (0.5 + chance / 2);
}

/**
 * Calls `onStatus` with `connecting`, `open`, `waiting` (for the next try) or `refused` (no next try), and
 * `onFrame` with `{event, data}`.
 */
export class LiveSocket {
  #socket = null;
  #timer = null;
  #settling = null;
  #failures = 0;
  #refusals = 0;
  #running = false;
  #beat = null;

  constructor({ session, onFrame, onStatus, address = defaultAddress }) {
    this.session = session;
    this.onFrame = onFrame;
    this.onStatus = onStatus;
    this.address = address;
  }

  start() {
    if (this.#running) return;
    this.#running = true;
    this.#failures = this.#refusals = 0;
    let last = Date.now();
    this.#beat = setInterval(() => {
      if (Date.now() - last > SLEPT) this.restart();
      last = Date.now();
    }, HEARTBEAT);
    this.#connect();
  }

  stop() {
    this.#running = false;
    clearInterval(this.#beat);
    this.#drop();
  }

  /** Reconnect at once: the network returned, or the connection is half-open. */
  restart() {
    if (!this.#running) return;
    this.#drop();
    this.onStatus("waiting");
    this.#connect();
  }

  #drop() {
    clearTimeout(this.#timer);
    clearTimeout(this.#settling);
    const socket = this.#socket;
    this.#socket = null; // its callbacks now do nothing
    socket?.close();
  }

  #connect() {
    const token = this.session.tokens?.access_token;
    if (!token) return;
    this.onStatus("connecting");
    const socket = new WebSocket(this.address(token));
    this.#socket = socket;
    socket.onopen = () => {
      if (socket !== this.#socket) return;
      // The server refuses a token after the socket has opened, so an open socket may still fail.
      this.#settling = setTimeout(() => (this.#failures = this.#refusals = 0), SETTLED);
      this.onStatus("open");
    };
    socket.onmessage = ({ data }) => {
      if (socket === this.#socket) this.#receive(data);
    };
    socket.onclose = ({ code, reason }) => {
      if (socket === this.#socket) this.#closed(code, reason, token);
    };
  }

  #receive(data) {
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      return;
    }
    if (typeof frame?.event === "string") this.onFrame(frame); // the store ignores unknown events
  }

  #closed(code, reason, token) {
    clearTimeout(this.#settling);
    this.#socket = null;
    if (isFinal(code) || (code === AUTHENTICATION && !RENEWABLE.has(reason))) {
      this.#running = false;
      clearInterval(this.#beat);
      this.onStatus("refused");
    } else if (code === AUTHENTICATION) {
      this.onStatus("waiting");
      this.#renew(token);
    } else {
      this.#later();
    }
  }

  async #renew(token) {
    let next = null;
    try {
      next = await this.session.refresh(token);
    } catch {
      return this.#later();
    }
    if (next === null || !this.#running || this.#socket) return; // null: the session has ended and called onEnd
    if (this.#refusals++ === 0) this.#connect();
    else this.#later();
  }

  #later() {
    if (!this.#running) return;
    this.onStatus("waiting");
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#connect(), pause(this.#failures++, Math.random()));
  }
}

function defaultAddress(token) {
  const { protocol, host } = location;
  return `${protocol === "https:" ? "wss" : "ws"}://${host}/ws?token=${encodeURIComponent(token)}`;
}
