-- What the chat protocol of the official client adds: rooms that one is put into, longer texts, roles.

-- SQLite has no statement that changes a constraint. Making one wider changes nothing that is stored, so the text of
-- the schema is changed (https://www.sqlite.org/lang_altertable.html section 7); the statements after it make every
-- connection read the schema anew.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(sql, 'kind IN (''public'', ''direct'')', 'kind IN (''public'', ''private'', ''direct'')')
WHERE type = 'table' AND name = 'rooms';
UPDATE sqlite_schema SET sql = replace(sql, 'length(text) BETWEEN 1 AND 8000', 'octet_length(text) BETWEEN 1 AND 65536')
WHERE type = 'table' AND name = 'messages';
PRAGMA writable_schema = RESET;

CREATE INDEX rooms_owned ON rooms (tenant, owner_id) WHERE kind <> 'direct' AND deleted_at IS NULL;

ALTER TABLE messages ADD COLUMN ref INTEGER CHECK (ref >= 1); -- the message that it is about; null: none

ALTER TABLE users ADD COLUMN chat INTEGER NOT NULL DEFAULT 0 CHECK (chat IN (0, 1)); -- has spoken that protocol
ALTER TABLE users ADD COLUMN role TEXT; -- null: user.normal
ALTER TABLE members ADD COLUMN role TEXT; -- null: room.operator for the room's owner, else room.member

CREATE TABLE roles (
    tenant      TEXT NOT NULL,
    name        TEXT NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 128),
    permissions TEXT NOT NULL, -- separated by a space each
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;
