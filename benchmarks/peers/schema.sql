CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT NOT NULL UNIQUE, display_name TEXT NOT NULL, tag TEXT NOT NULL UNIQUE,
                    avatar_url TEXT, created_at TEXT NOT NULL);
CREATE TABLE chats (id INTEGER PRIMARY KEY, title TEXT NOT NULL, is_group INTEGER NOT NULL, created_at TEXT NOT NULL,
                    active_at TEXT NOT NULL, last_message_id INTEGER);
CREATE TABLE members (chat_id INTEGER NOT NULL REFERENCES chats, user_id INTEGER NOT NULL REFERENCES users,
                      role TEXT NOT NULL, joined_at TEXT NOT NULL, PRIMARY KEY (chat_id, user_id)) WITHOUT ROWID;
CREATE INDEX members_by_user ON members (user_id, chat_id);
CREATE TABLE messages (id INTEGER PRIMARY KEY, chat_id INTEGER NOT NULL REFERENCES chats, author_id INTEGER REFERENCES users,
                       type TEXT NOT NULL, content TEXT, payload TEXT, ts TEXT NOT NULL, reply_to_id INTEGER,
                       edited_at TEXT, deleted_at TEXT);
CREATE INDEX messages_by_chat ON messages (chat_id, id);
CREATE TABLE idempotency_keys (user_id INTEGER NOT NULL, key TEXT NOT NULL, fingerprint BLOB NOT NULL, status INTEGER NOT NULL,
                   body BLOB NOT NULL, created_at TEXT NOT NULL, PRIMARY KEY (user_id, key)) WITHOUT ROWID;
