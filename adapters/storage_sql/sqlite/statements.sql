-- user
SELECT users.id, users.email, users.display_name, users.tag, users.avatar_url, users.created_at
FROM users
WHERE users.id = ?

-- users
SELECT users.id, users.email, users.display_name, users.tag, users.avatar_url, users.created_at
FROM users
WHERE users.id IN (SELECT anon_1.value
FROM json_each(?) AS anon_1)

-- user_by_email
SELECT users.id, users.email, users.display_name, users.tag, users.avatar_url, users.created_at
FROM users JOIN email_keys ON email_keys.user_id = users.id
WHERE email_keys."key" = ?

-- user_by_tag
SELECT users.id, users.email, users.display_name, users.tag, users.avatar_url, users.created_at
FROM users
WHERE users.tag = ?

-- password_hash
SELECT password_hashes.hash
FROM password_hashes
WHERE password_hashes.user_id = ?

-- session
SELECT sessions.id, sessions.user_id, sessions.device, sessions.created_at, sessions.refreshed_at, sessions.expires_at, sessions.generation, sessions.confirmed, sessions.ended_at, sessions.nonce
FROM sessions
WHERE sessions.id = ?

-- chat
SELECT chats.id, chats.title, chats.is_group, chats.created_at, chats.sequence, chats.active_at, chats.last_message_id, chats.avatar_url, chats.history, chats.message_count, chats.first_read_up_to, chats.first_read_count, chats.second_read_up_to, chats.second_read_count, chats.members_version, chats.member_count
FROM chats
WHERE chats.id = ? AND chats.deleted_at IS NULL

-- tombstone
SELECT chats.id, chats.sequence, chats.deleted_at, chats.deleted_by
FROM chats
WHERE chats.id = ? AND chats.deleted_at IS NOT NULL

-- direct_chat
SELECT chats.id, chats.title, chats.is_group, chats.created_at, chats.sequence, chats.active_at, chats.last_message_id, chats.avatar_url, chats.history, chats.message_count, chats.first_read_up_to, chats.first_read_count, chats.second_read_up_to, chats.second_read_count, chats.members_version, chats.member_count
FROM chats JOIN direct_chats ON direct_chats.chat_id = chats.id
WHERE direct_chats.low_user_id = ? AND direct_chats.high_user_id = ?

-- chat_ids_of
SELECT members.chat_id
FROM members
WHERE members.user_id = ? AND members.chat_id > ? ORDER BY members.chat_id
 LIMIT ? OFFSET 0

-- shares_chat
SELECT members.chat_id
FROM members JOIN members AS theirs ON theirs.chat_id = members.chat_id
WHERE members.user_id = ? AND theirs.user_id = ?
 LIMIT 1 OFFSET 0

-- chats_of
SELECT chats.id, chats.title, chats.is_group, chats.created_at, chats.sequence, chats.active_at, chats.last_message_id, chats.avatar_url, chats.history, chats.message_count, chats.first_read_up_to, chats.first_read_count, chats.second_read_up_to, chats.second_read_count, chats.members_version, chats.member_count
FROM chats JOIN members ON members.chat_id = chats.id
WHERE members.user_id = ? AND members.chat_id > ? ORDER BY members.chat_id
 LIMIT ? OFFSET 0

-- chats_shared
SELECT chats.id, chats.title, chats.is_group, chats.created_at, chats.sequence, chats.active_at, chats.last_message_id, chats.avatar_url, chats.history, chats.message_count, chats.first_read_up_to, chats.first_read_count, chats.second_read_up_to, chats.second_read_count, chats.members_version, chats.member_count
FROM chats JOIN members ON members.chat_id = chats.id
WHERE members.user_id = ? AND members.chat_id IN (SELECT anon_1.value
FROM json_each(?) AS anon_1)

-- chats_made_by
SELECT count(*) AS count_1
FROM members
WHERE members.user_id = ? AND members.position = 1

-- positions
SELECT former_members.chat_id, former_members.last_sequence, 0
FROM former_members
WHERE former_members.user_id IN (SELECT anon_1.value
FROM json_each(?) AS anon_1) UNION ALL SELECT chats.id, chats.sequence, 1
FROM chats JOIN members ON members.chat_id = chats.id
WHERE members.user_id IN (SELECT anon_2.value
FROM json_each(?) AS anon_2)

-- members
SELECT members.user_id, members.role, members.joined_at, members.first_sequence, members.reads_from
FROM members
WHERE members.chat_id = ? ORDER BY members.position

-- ended_members
SELECT former_members.user_id, former_members.role, former_members.joined_at, former_members.first_sequence, former_members.reads_from, former_members.last_sequence
FROM former_members
WHERE former_members.chat_id = ? AND former_members.last_sequence >= ? ORDER BY former_members.last_sequence, former_members.user_id

-- ranked_members
SELECT members.user_id
FROM members
WHERE members.chat_id = ? AND members.role != 'member' ORDER BY members.role DESC, members.position
 LIMIT ? OFFSET 0

-- first_members
SELECT members.user_id
FROM members
WHERE members.chat_id = ? ORDER BY members.position
 LIMIT ? OFFSET 0

-- mark_before
SELECT messages.id, messages.ordinal
FROM messages
WHERE messages.chat_id = ? AND messages.sequence < ? ORDER BY messages.sequence DESC
 LIMIT 1 OFFSET 0

-- marks
SELECT members.user_id, CASE WHEN chats.is_group THEN members.read_up_to WHEN (members.position = 1) THEN chats.first_read_up_to ELSE chats.second_read_up_to END AS anon_1, CASE WHEN chats.is_group THEN members.read_count WHEN (members.position = 1) THEN chats.first_read_count ELSE chats.second_read_count END AS anon_2
FROM members JOIN chats ON chats.id = members.chat_id
WHERE members.chat_id = ? ORDER BY members.position

-- own_marks
SELECT members.chat_id, CASE WHEN chats.is_group THEN members.read_up_to WHEN (members.position = 1) THEN chats.first_read_up_to ELSE chats.second_read_up_to END AS anon_1, CASE WHEN chats.is_group THEN members.read_count WHEN (members.position = 1) THEN chats.first_read_count ELSE chats.second_read_count END AS anon_2
FROM members JOIN chats ON chats.id = members.chat_id
WHERE members.user_id = ? AND members.chat_id IN (SELECT anon_3.value
FROM json_each(?) AS anon_3)

-- furthest_marks
SELECT members.chat_id, max(CASE WHEN chats.is_group THEN members.read_up_to WHEN (members.position = 1) THEN chats.first_read_up_to ELSE chats.second_read_up_to END) AS max_1, max(CASE WHEN chats.is_group THEN members.read_count WHEN (members.position = 1) THEN chats.first_read_count ELSE chats.second_read_count END) AS max_2
FROM members JOIN chats ON chats.id = members.chat_id
WHERE members.chat_id IN (SELECT anon_1.value
FROM json_each(?) AS anon_1) AND members.user_id != ? GROUP BY members.chat_id

-- own_memberships
SELECT members.chat_id, members.user_id, members.role, members.joined_at, members.first_sequence, members.reads_from
FROM members
WHERE members.user_id = ? AND members.chat_id IN (SELECT anon_1.value
FROM json_each(?) AS anon_1)

-- message
SELECT messages.id, messages.chat_id, messages.author_id, messages.type, messages.content, messages.payload, messages.ts, messages.reply_to_id, messages.edited_at, messages.deleted_at, messages.sequence, messages.revision
FROM messages
WHERE messages.id = ?

-- last_messages
SELECT messages.id, messages.chat_id, messages.author_id, messages.type, messages.content, messages.payload, messages.ts, messages.reply_to_id, messages.edited_at, messages.deleted_at, messages.sequence, messages.revision
FROM messages
WHERE messages.id IN (SELECT anon_1.value
FROM json_each(?) AS anon_1)

-- message_numbers
SELECT messages.chat_id, messages.id, messages.sequence
FROM messages
WHERE messages.id IN (?, ?)

-- last_message_number
SELECT messages.id, messages.sequence
FROM messages
WHERE messages.chat_id = ? ORDER BY messages.sequence DESC
 LIMIT 1 OFFSET 0

-- next_message_number
SELECT messages.id, messages.sequence
FROM messages
WHERE messages.chat_id = ? AND messages.sequence >= ? ORDER BY messages.sequence
 LIMIT 1 OFFSET 0

-- messages_before
SELECT messages.id, messages.chat_id, messages.author_id, messages.type, messages.content, messages.payload, messages.ts, messages.reply_to_id, messages.edited_at, messages.deleted_at, messages.sequence, messages.revision
FROM messages
WHERE messages.chat_id = ? AND messages.sequence < ? AND messages.sequence >= ? ORDER BY messages.sequence DESC
 LIMIT ? OFFSET 0

-- messages_after
SELECT messages.id, messages.chat_id, messages.author_id, messages.type, messages.content, messages.payload, messages.ts, messages.reply_to_id, messages.edited_at, messages.deleted_at, messages.sequence, messages.revision
FROM messages
WHERE messages.chat_id = ? AND messages.sequence > ? ORDER BY messages.sequence
 LIMIT ? OFFSET 0

-- message_ids_of_others
SELECT messages.id
FROM messages
WHERE messages.chat_id = ? AND messages.sequence < ? AND messages.sequence >= ? AND messages.author_id IS NOT ? ORDER BY messages.sequence DESC
 LIMIT ? OFFSET 0

-- stored_response
SELECT stored_responses.fingerprint, stored_responses.status, stored_responses.resource_kind, stored_responses.resource_id, stored_responses.created_at
FROM stored_responses
WHERE stored_responses.user_id = ? AND stored_responses.method = ? AND stored_responses.path = ? AND stored_responses."key" = ?

-- log
SELECT created.chat_id, created.sequence, created.name, created.message_id, created.at, created.data, created.user_id
FROM (SELECT messages.chat_id AS chat_id, messages.sequence AS sequence, 'message.created' AS name, messages.id AS message_id, messages.ts AS at, CAST(NULL AS TEXT) AS data, CAST(NULL AS BIGINT) AS user_id
FROM messages
WHERE messages.chat_id = ? AND messages.sequence > ? ORDER BY messages.sequence
 LIMIT ? OFFSET 0) AS created UNION ALL SELECT others.chat_id, others.sequence, others.name, others.message_id, others.at, others.data, others.user_id
FROM (SELECT events.chat_id AS chat_id, events.sequence AS sequence, events.name AS name, events.message_id AS message_id, events.at AS at, events.data AS data, events.user_id AS user_id
FROM events
WHERE events.chat_id = ? AND events.sequence > ? ORDER BY events.sequence
 LIMIT ? OFFSET 0) AS others ORDER BY sequence
 LIMIT ? OFFSET 0

-- insert_user
INSERT INTO users (id, email, display_name, tag, avatar_url, created_at) VALUES (?, ?, ?, ?, ?, ?)

-- insert_email_key
INSERT INTO email_keys ("key", user_id) VALUES (?, ?)

-- insert_password_hash
INSERT INTO password_hashes (user_id, hash) VALUES (?, ?)

-- store_session
INSERT INTO sessions (id, user_id, device, created_at, refreshed_at, expires_at, generation, confirmed, ended_at, nonce) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET user_id = excluded.user_id, device = excluded.device, created_at = excluded.created_at, refreshed_at = excluded.refreshed_at, expires_at = excluded.expires_at, generation = excluded.generation, confirmed = excluded.confirmed, ended_at = excluded.ended_at, nonce = excluded.nonce

-- insert_chat
INSERT INTO chats (id, title, is_group, created_at, sequence, active_at, last_message_id, avatar_url, history, message_count, first_read_up_to, first_read_count, second_read_up_to, second_read_count, members_version, member_count) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- insert_member
INSERT INTO members (chat_id, position, user_id, role, joined_at, first_sequence, reads_from) VALUES (?, ?, ?, ?, ?, ?, ?)

-- insert_direct_chat
INSERT INTO direct_chats (low_user_id, high_user_id, chat_id) VALUES (?, ?, ?)

-- advance_chat
UPDATE chats SET sequence=?, active_at=?, last_message_id=?, message_count=? WHERE chats.id = ?

-- advance_direct_chat
UPDATE chats SET sequence=?, active_at=?, last_message_id=?, message_count=?, first_read_up_to=max(chats.first_read_up_to, ?), first_read_count=max(chats.first_read_count, ?), second_read_up_to=max(chats.second_read_up_to, ?), second_read_count=max(chats.second_read_count, ?) WHERE chats.id = ?

-- advance_direct_marks
UPDATE chats SET first_read_up_to=max(chats.first_read_up_to, ?), first_read_count=max(chats.first_read_count, ?), second_read_up_to=max(chats.second_read_up_to, ?), second_read_count=max(chats.second_read_count, ?) WHERE chats.id = ?

-- advance_mark
UPDATE members SET read_up_to=max(members.read_up_to, ?), read_count=max(members.read_count, ?) WHERE members.user_id = ? AND members.chat_id = ?

-- change_chat
UPDATE chats SET title=?, avatar_url=?, history=? WHERE chats.id = ?

-- add_member
INSERT INTO members (chat_id, position, user_id, role, joined_at, first_sequence, reads_from) SELECT ? AS anon_1, coalesce(max(members.position), 1) + 1 AS anon_2, ? AS anon_3, ? AS anon_4, ? AS anon_5, ? AS anon_6, ? AS anon_7
FROM members
WHERE members.chat_id = ?

-- count_member
UPDATE chats SET members_version=(chats.members_version + 1), member_count=(chats.member_count + ?) WHERE chats.id = ?

-- store_role
UPDATE members SET role=? WHERE members.chat_id = ? AND members.user_id = ?

-- keep_former_member
INSERT INTO former_members (chat_id, last_sequence, user_id, role, joined_at, first_sequence, reads_from) SELECT members.chat_id, ? AS anon_1, members.user_id, members.role, members.joined_at, members.first_sequence, members.reads_from
FROM members
WHERE members.chat_id = ? AND members.user_id = ?

-- remove_member
DELETE FROM members WHERE members.chat_id = ? AND members.user_id = ?

-- keep_former_members
INSERT INTO former_members (chat_id, last_sequence, user_id, role, joined_at, first_sequence, reads_from) SELECT members.chat_id, ? AS anon_1, members.user_id, members.role, members.joined_at, members.first_sequence, members.reads_from
FROM members
WHERE members.chat_id = ?

-- remove_members
DELETE FROM members WHERE members.chat_id = ?

-- delete_chat
UPDATE chats SET sequence=?, members_version=(chats.members_version + 1), member_count=0, deleted_at=?, deleted_by=? WHERE chats.id = ? AND chats.deleted_at IS NULL

-- insert_message
INSERT INTO messages (id, chat_id, author_id, type, content, payload, ts, reply_to_id, edited_at, deleted_at, sequence, revision, ordinal) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- change_message
UPDATE messages SET author_id=?, type=?, content=?, payload=?, ts=?, reply_to_id=?, edited_at=?, deleted_at=?, revision=? WHERE messages.id = ?

-- append_event
INSERT INTO events (chat_id, sequence, name, message_id, at, data, user_id) VALUES (?, ?, ?, ?, ?, ?, ?)

-- store_response
INSERT OR REPLACE INTO stored_responses (user_id, method, path, "key", fingerprint, status, resource_kind, resource_id, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)

-- forget_responses
DELETE FROM stored_responses WHERE stored_responses.id < (SELECT min(stored_responses.id) AS min_1
FROM stored_responses) + ? AND stored_responses.created_at < ?

-- forget_sessions
DELETE FROM sessions WHERE sessions.id IN (SELECT sessions.id
FROM sessions
WHERE sessions.expires_at < ? OR sessions.ended_at < ?
 LIMIT ? OFFSET 0)

-- sightings
SELECT sightings.user_id, sightings.at, sightings.until
FROM sightings
WHERE sightings.user_id IN (SELECT anon_1.value
FROM json_each(?) AS anon_1) UNION ALL SELECT presences.user_id, leases.until AS at, leases.until
FROM presences JOIN leases ON leases.holder = presences.holder
WHERE presences.user_id IN (SELECT anon_2.value
FROM json_each(?) AS anon_2)

-- renew_lease
UPDATE leases SET until=? WHERE leases.holder = ? AND leases.until >= ?

-- add_lease
INSERT INTO leases (holder, until) VALUES (?, ?)

-- hold_presence
INSERT INTO presences (user_id, holder) SELECT ? AS anon_1, ? AS anon_2
WHERE NOT (EXISTS (SELECT 1
FROM presences
WHERE presences.user_id = ? AND presences.holder = ?))

-- end_presence
DELETE FROM presences WHERE presences.user_id = ? AND presences.holder = ?

-- renew_sighting
UPDATE sightings SET at=CASE WHEN (sightings.at < ?) THEN ? ELSE sightings.at END, until=CASE WHEN (sightings.until < ?) THEN ? ELSE sightings.until END WHERE sightings.user_id = ?

-- add_sighting
INSERT INTO sightings (user_id, at, until) SELECT ? AS anon_1, ? AS anon_2, ? AS anon_3
WHERE NOT (EXISTS (SELECT 1
FROM sightings
WHERE sightings.user_id = ?))

-- old_presences
SELECT presences.user_id, presences.holder, leases.until
FROM presences JOIN leases ON leases.holder = presences.holder
WHERE leases.until < ?
 LIMIT ? OFFSET 0

-- drop_leases
DELETE FROM leases WHERE leases.until < ? AND NOT (EXISTS (SELECT presences.holder
FROM presences
WHERE presences.holder = leases.holder))

-- sequences
SELECT sequences.kind, sequences.last
FROM sequences

-- store_sequence
INSERT INTO sequences (kind, last) VALUES (?, ?) ON CONFLICT (kind) DO UPDATE SET last = excluded.last
