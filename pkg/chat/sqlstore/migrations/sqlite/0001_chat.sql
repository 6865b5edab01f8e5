-- Every key starts with the tenant, so no statement can reach beyond one. Times are microseconds since 1970.

CREATE TABLE users (
    tenant   TEXT    NOT NULL,
    id       TEXT    NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 128),
    name     TEXT    NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
    provider TEXT    NOT NULL,
    online   INTEGER NOT NULL DEFAULT 0 CHECK (online IN (0, 1)),
    idle     INTEGER NOT NULL DEFAULT 0 CHECK (idle IN (0, 1)),
    gone_at  INTEGER, -- when the last connection of a user went who still counts as online
    PRIMARY KEY (tenant, id),
    CHECK (online = 1 OR (idle = 0 AND gone_at IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX users_online ON users (tenant, name, id) WHERE online = 1;
CREATE INDEX users_gone ON users (tenant, gone_at) WHERE gone_at IS NOT NULL;

CREATE TABLE connections (
    tenant     TEXT    NOT NULL,
    id         TEXT    NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 128),
    user_id    TEXT    NOT NULL,
    idle       INTEGER NOT NULL DEFAULT 0 CHECK (idle IN (0, 1)),
    claimed_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, id),
    FOREIGN KEY (tenant, user_id) REFERENCES users (tenant, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX connections_user ON connections (tenant, user_id);
CREATE INDEX connections_claimed ON connections (tenant, claimed_at);

CREATE TABLE rooms (
    tenant     TEXT    NOT NULL,
    id         TEXT    NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 128),
    title      TEXT    NOT NULL,
    kind       TEXT    NOT NULL CHECK (kind IN ('public', 'direct')),
    owner_id   TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    last_seq   INTEGER NOT NULL DEFAULT 0 CHECK (last_seq >= 0),
    low_id     TEXT, -- the two users of a direct room, the lesser first: one room for a pair
    high_id    TEXT,
    deleted_at INTEGER, -- the row stays, so that its id is not used again
    deleted_by TEXT,
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, low_id, high_id),
    FOREIGN KEY (tenant, owner_id) REFERENCES users (tenant, id),
    FOREIGN KEY (tenant, low_id) REFERENCES users (tenant, id),
    FOREIGN KEY (tenant, high_id) REFERENCES users (tenant, id),
    CHECK ((kind = 'direct') = (substr(id, 1, 8) = 'private_')),
    CHECK (CASE kind WHEN 'direct' THEN title = '' AND low_id < high_id IS TRUE AND deleted_at IS NULL
                     ELSE length(title) BETWEEN 1 AND 100 AND low_id IS NULL AND high_id IS NULL END),
    CHECK ((deleted_at IS NULL) = (deleted_by IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX rooms_public ON rooms (tenant, created_at) WHERE kind = 'public' AND deleted_at IS NULL;
CREATE INDEX rooms_owner ON rooms (tenant, owner_id) WHERE kind = 'public' AND deleted_at IS NULL;

CREATE TABLE members (
    tenant    TEXT    NOT NULL,
    room_id   TEXT    NOT NULL,
    user_id   TEXT    NOT NULL,
    state     TEXT    NOT NULL CHECK (state IN ('joined', 'invited')),
    read_seq  INTEGER NOT NULL CHECK (read_seq >= 0),
    joined_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, room_id, user_id),
    FOREIGN KEY (tenant, room_id) REFERENCES rooms (tenant, id),
    FOREIGN KEY (tenant, user_id) REFERENCES users (tenant, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX members_user ON members (tenant, user_id);

CREATE TABLE messages (
    tenant    TEXT    NOT NULL,
    room_id   TEXT    NOT NULL,
    seq       INTEGER NOT NULL CHECK (seq >= 1),
    author_id TEXT    NOT NULL,
    text      TEXT    NOT NULL CHECK (length(text) BETWEEN 1 AND 8000),
    key       TEXT CHECK (octet_length(key) BETWEEN 1 AND 128), -- null: the client gave none
    sent_at   INTEGER NOT NULL,
    PRIMARY KEY (tenant, room_id, seq),
    UNIQUE (tenant, room_id, author_id, key),
    FOREIGN KEY (tenant, room_id) REFERENCES rooms (tenant, id),
    FOREIGN KEY (tenant, author_id) REFERENCES users (tenant, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE blocks (
    tenant   TEXT NOT NULL,
    by_id    TEXT NOT NULL,
    other_id TEXT NOT NULL CHECK (other_id <> by_id),
    PRIMARY KEY (tenant, by_id, other_id),
    FOREIGN KEY (tenant, by_id) REFERENCES users (tenant, id),
    FOREIGN KEY (tenant, other_id) REFERENCES users (tenant, id)
) STRICT, WITHOUT ROWID;
