// The peer in Node.js: fastify, ws, better-sqlite3, fast-jwt, each the fast choice of its kind.
//
// Choices that a reader may dispute:
// - Statements run on the event loop, as better-sqlite3 intends; so the loop blocks while the disk syncs a
//   commit, and nothing can run between a commit and its delivery.
// - Every message is a transaction of its own.
// - Verified tokens are cached, which is an option of fast-jwt.
// - An event is framed once, and each socket's private `_sender` gets the frame, as in Socket.IO; ws itself
//   would frame it again for every socket.

import { hash } from "node:crypto";
import { STATUS_CODES } from "node:http";
import { parseArgs } from "node:util";

import Ajv from "ajv";
import Database from "better-sqlite3";
import { createVerifier } from "fast-jwt";
import Fastify from "fastify";
import { Sender, WebSocket, WebSocketServer } from "ws";

const { values: options } = parseArgs({
  options: { port: { type: "string" }, database: { type: "string" } },
});
const secret = process.env.BENCH_SECRET;
if (!options.port || !options.database || !secret) {
  console.error("usage: BENCH_SECRET=... node server.js --port N --database FILE");
  process.exit(2);
}

const MAX_WAITING = 1024 * 1024; // bytes, for one socket
const HEARTBEAT = 25_000; // ms

// --- requests and responses --------------------------------------------------------------------------------

const id = { type: "integer", minimum: 1, maximum: Number.MAX_SAFE_INTEGER };
const integer = { type: "integer" };
const string = { type: "string" };
const nullable = (schema) => ({ ...schema, nullable: true });
const closed = (properties) => ({ type: "object", properties, required: Object.keys(properties) });

const Draft = {
  type: "object",
  required: ["chat_id", "type"],
  properties: {
    chat_id: id,
    type: { enum: ["text", "voice", "image", "video", "file"] },
    content: nullable({ type: "string", maxLength: 4000 }),
    payload: nullable({ type: "object" }),
    reply_to_id: nullable(id),
  },
  anyOf: [
    { type: "object", required: ["payload"], properties: { payload: { type: "object" } } },
    { type: "object", required: ["content"], properties: { content: { type: "string", pattern: "\\S" } } },
  ],
};

const PageQuery = {
  type: "object",
  required: ["chat_id"],
  properties: {
    chat_id: id,
    limit: { type: "integer", minimum: 1, maximum: 200, default: 50 },
    before_id: { ...id, default: Number.MAX_SAFE_INTEGER },
  },
};

const IdempotencyHeaders = {
  type: "object",
  properties: { "idempotency-key": { type: "string", pattern: "^[!-~]{1,255}$" } },
};

const Message = closed({
  id: integer,
  chat_id: integer,
  author_id: nullable(integer),
  type: string,
  content: nullable(string),
  payload: {}, // any JSON
  ts: string,
  reply_to_id: nullable(integer),
  edited_at: nullable(string),
  deleted_at: nullable(string),
});

const Page = closed({
  messages: { type: "array", items: Message },
  has_more: { type: "boolean" },
  next_cursor: nullable(integer),
});

const User = closed({
  id: integer,
  email: string,
  display_name: string,
  tag: string,
  avatar_url: nullable(string),
  created_at: string,
});

const Chats = {
  type: "array",
  items: closed({
    id: integer,
    title: string,
    is_group: { type: "boolean" },
    created_at: string,
    participants: { type: "array", items: User },
    participants_count: integer,
  }),
};

const Problem = closed({ statusCode: integer, error: string, message: string });

class HttpError extends Error {
  constructor(statusCode, message) {
    super(message);
    this.statusCode = statusCode;
  }
}

// --- the database ------------------------------------------------------------------------------------------

const db = new Database(options.database, { fileMustExist: true, timeout: 5000 });
db.pragma("journal_mode = WAL");
db.pragma("synchronous = FULL");
db.pragma("foreign_keys = ON");

const sql = {
  memberIds: db.prepare("SELECT user_id FROM members WHERE chat_id = ?").pluck(),
  isMember: db.prepare("SELECT 1 FROM members WHERE chat_id = ? AND user_id = ?").pluck(),
  chatExists: db.prepare("SELECT 1 FROM chats WHERE id = ?").pluck(),
  chatOfMessage: db.prepare("SELECT chat_id FROM messages WHERE id = ?").pluck(),
  insertMessage: db.prepare(
    `INSERT INTO messages (chat_id, author_id, type, content, payload, ts, reply_to_id)
     VALUES (?, ?, ?, ?, ?, ?, ?)`,
  ),
  touchChat: db.prepare("UPDATE chats SET last_message_id = ?, active_at = ? WHERE id = ?"),
  page: db.prepare(
    `SELECT id, chat_id, author_id, type, content, payload, ts, reply_to_id, edited_at, deleted_at
     FROM messages WHERE chat_id = ? AND id < ? ORDER BY id DESC LIMIT ?`,
  ),
  chats: db.prepare(
    `SELECT c.id, c.title, c.is_group, c.created_at FROM members m JOIN chats c ON c.id = m.chat_id
     WHERE m.user_id = ? ORDER BY c.active_at DESC, c.last_message_id DESC, c.id DESC`,
  ),
  participants: db.prepare(
    `SELECT m.chat_id, u.id, u.email, u.display_name, u.tag, u.avatar_url, u.created_at
     FROM members mine JOIN members m ON m.chat_id = mine.chat_id JOIN users u ON u.id = m.user_id
     WHERE mine.user_id = ? ORDER BY m.chat_id, m.user_id`,
  ),
  storedResponse: db.prepare(
    "SELECT fingerprint, status, body FROM idempotency_keys WHERE user_id = ? AND key = ?",
  ),
  storeResponse: db.prepare(
    `INSERT INTO idempotency_keys (user_id, key, fingerprint, status, body, created_at)
     VALUES (?, ?, ?, ?, ?, ?)`,
  ),
};

function refusal(chatId) {
  return sql.chatExists.get(chatId)
    ? new HttpError(403, "You are not in this chat")
    : new HttpError(404, "No such chat");
}

// The stored response to this key, or the new message with its audience.
const storeMessage = db.transaction((userId, draft, key, serialize) => {
  const fingerprint = key && hash("sha256", JSON.stringify(draft), "buffer");
  const stored = key && sql.storedResponse.get(userId, key);
  if (stored) {
    if (!stored.fingerprint.equals(fingerprint)) {
      throw new HttpError(422, "This Idempotency-Key was used with another body");
    }
    return { replayed: true, status: stored.status, body: stored.body };
  }
  const { chat_id, type, content = null, payload = null, reply_to_id = null } = draft;
  const audience = sql.memberIds.all(chat_id);
  if (!audience.includes(userId)) throw refusal(chat_id);
  if (reply_to_id !== null && sql.chatOfMessage.get(reply_to_id) !== chat_id) {
    throw new HttpError(422, "reply_to_id: no such message in this chat");
  }
  const ts = new Date().toISOString();
  const { lastInsertRowid: id } = sql.insertMessage.run(
    chat_id,
    userId,
    type,
    content,
    payload && JSON.stringify(payload),
    ts,
    reply_to_id,
  );
  sql.touchChat.run(id, ts, chat_id);
  const data = { id, chat_id, author_id: userId, type, content, payload, ts };
  const body = serialize({ ...data, reply_to_id, edited_at: null, deleted_at: null });
  if (key) sql.storeResponse.run(userId, key, fingerprint, 201, Buffer.from(body), ts);
  return { replayed: false, status: 201, body, data, audience };
});

function readPage({ chat_id, before_id, limit }) {
  const messages = sql.page.all(chat_id, before_id, limit + 1);
  const has_more = messages.length > limit;
  if (has_more) messages.pop();
  for (const message of messages) {
    if (message.payload !== null) message.payload = JSON.parse(message.payload);
  }
  return { messages, has_more, next_cursor: has_more ? messages.at(-1).id : null };
}

function readChats(userId) {
  const chats = sql.chats.all(userId);
  const participants = new Map(chats.map((chat) => [chat.id, []]));
  for (const user of sql.participants.iterate(userId)) participants.get(user.chat_id).push(user);
  return chats.map((chat) => ({
    ...chat,
    is_group: chat.is_group === 1,
    participants: participants.get(chat.id),
    participants_count: participants.get(chat.id).length,
  }));
}

// --- the caller --------------------------------------------------------------------------------------------

const verify = createVerifier({
  key: secret,
  algorithms: ["HS256"],
  requiredClaims: ["sub", "exp"],
  cache: 10_000,
});

// The user id in a token; throws for an invalid token.
function readToken(token) {
  const userId = Number(verify(token).sub);
  if (!Number.isSafeInteger(userId) || userId < 1) throw new Error("sub is no user");
  return userId;
}

function authenticate(request, reply, done) {
  const [, token] = /^Bearer ([^ ]+)$/i.exec(request.headers.authorization ?? "") ?? [];
  try {
    request.userId = readToken(token);
  } catch {
    reply.header("WWW-Authenticate", "Bearer");
    done(new HttpError(401, "Invalid token"));
    return;
  }
  done();
}

// --- sockets -----------------------------------------------------------------------------------------------

const TEXT = { fin: true, rsv1: false, opcode: 1, mask: false, readOnly: true };
const sockets = new Map(); // user id -> Set of sockets

function connect(socket, token) {
  socket.on("error", () => {}); // "close" follows
  let userId;
  try {
    userId = readToken(token);
  } catch {
    socket.close(1008, "token_invalid");
    return;
  }
  let own = sockets.get(userId);
  if (!own) sockets.set(userId, (own = new Set()));
  own.add(socket);
  socket.isAlive = true;
  socket.on("pong", () => (socket.isAlive = true));
  socket.on("close", () => {
    own.delete(socket);
    if (own.size === 0 && sockets.get(userId) === own) sockets.delete(userId);
  });
}

function deliver(audience, data) {
  const text = Buffer.from(JSON.stringify({ event: "message.created", data }));
  const frame = [Buffer.concat(Sender.frame(text, TEXT))];
  for (const userId of audience) {
    const own = sockets.get(userId);
    if (!own) continue;
    for (const socket of own) {
      if (socket.bufferedAmount > MAX_WAITING) socket.terminate();
      else if (socket.readyState === WebSocket.OPEN) socket._sender.sendFrame(frame);
    }
  }
}

function* openSockets() {
  for (const own of sockets.values()) yield* own;
}

const heartbeat = setInterval(() => {
  for (const socket of openSockets()) {
    if (!socket.isAlive) {
      socket.terminate();
      continue;
    }
    socket.isAlive = false;
    socket.ping();
  }
}, HEARTBEAT);

// --- routes ------------------------------------------------------------------------------------------------

const app = Fastify({
  schemaErrorFormatter([error], place) {
    return new HttpError(422, `${place}${error.instancePath} ${error.message}`);
  },
});
app.removeContentTypeParser("text/plain");

// JSON has types; a query string and headers have none.
const strict = new Ajv();
const coercing = new Ajv({ coerceTypes: true, useDefaults: true });
app.setValidatorCompiler(({ schema, httpPart }) => (httpPart === "body" ? strict : coercing).compile(schema));

app.setErrorHandler((error, request, reply) => {
  const statusCode = error.statusCode ?? 500;
  if (statusCode >= 500) console.error(error);
  const message = statusCode >= 500 ? "Internal Server Error" : error.message;
  reply.code(statusCode).send({ statusCode, error: STATUS_CODES[statusCode], message });
});

app.get("/health", { schema: { response: { 200: closed({ status: string }) } } }, (request, reply) => {
  reply.send({ status: "ok" });
});

app.register(
  async (api) => {
    api.decorateRequest("userId", 0);
    api.addHook("onRequest", authenticate);

    api.post(
      "/messages",
      { schema: { headers: IdempotencyHeaders, body: Draft, response: { 201: Message, "4xx": Problem } } },
      (request, reply) => {
        const key = request.headers["idempotency-key"];
        const serialize = reply.getSerializationFunction(201);
        const sent = storeMessage.immediate(request.userId, request.body, key, serialize);
        if (sent.replayed) reply.header("Idempotency-Replayed", "true");
        else deliver(sent.audience, sent.data);
        reply.code(sent.status).type("application/json; charset=utf-8").send(sent.body);
      },
    );

    api.get(
      "/messages",
      { schema: { querystring: PageQuery, response: { 200: Page, "4xx": Problem } } },
      (request, reply) => {
        if (!sql.isMember.get(request.query.chat_id, request.userId)) throw refusal(request.query.chat_id);
        reply.send(readPage(request.query));
      },
    );

    api.get("/chats", { schema: { response: { 200: Chats, "4xx": Problem } } }, (request, reply) => {
      reply.send(readChats(request.userId));
    });
  },
  { prefix: "/api/v1" },
);

const wss = new WebSocketServer({
  noServer: true,
  clientTracking: false,
  perMessageDeflate: false,
  maxPayload: 64 * 1024,
});

app.server.on("upgrade", (request, socket, head) => {
  const [path, query] = request.url.split("?");
  if (path !== "/ws") {
    socket.end("HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    return;
  }
  wss.handleUpgrade(request, socket, head, (accepted) => {
    connect(accepted, new URLSearchParams(query).get("token"));
  });
});

// --- from start to end -------------------------------------------------------------------------------------

async function stop() {
  setTimeout(() => process.exit(), 1000).unref(); // for connections that stay open
  clearInterval(heartbeat);
  for (const socket of openSockets()) socket.close(1012, "restarting");
  await app.close();
  db.close();
}

process.once("SIGTERM", stop);
process.once("SIGINT", stop);

await app.listen({ port: Number(options.port), host: "127.0.0.1" });
