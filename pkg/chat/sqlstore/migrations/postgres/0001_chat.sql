-- Every key starts with the tenant, so no statement can reach beyond one. Text is compared byte by byte.

CREATE TABLE users (
    tenant   text COLLATE "C" NOT NULL,
    id       text COLLATE "C" NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 128),
    name     text COLLATE "C" NOT NULL CHECK (char_length(name) BETWEEN 1 AND 64),
    provider text COLLATE "C" NOT NULL,
    online   boolean NOT NULL DEFAULT false,
    idle     boolean NOT NULL DEFAULT false,
    gone_at  timestamptz, -- when the last connection of a user went who still counts as online
    PRIMARY KEY (tenant, id),
    CHECK (online OR (NOT idle AND gone_at IS NULL))
);

CREATE INDEX users_online ON users (tenant, name, id) WHERE online;
CREATE INDEX users_gone ON users (tenant, gone_at) WHERE gone_at IS NOT NULL;

CREATE TABLE connections (
    tenant     text COLLATE "C" NOT NULL,
    id         text COLLATE "C" NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 128),
    user_id    text COLLATE "C" NOT NULL,
    idle       boolean NOT NULL DEFAULT false,
    claimed_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, id),
    FOREIGN KEY (tenant, user_id) REFERENCES users (tenant, id)
);

CREATE INDEX connections_user ON connections (tenant, user_id);
CREATE INDEX connections_claimed ON connections (tenant, claimed_at);

CREATE TABLE rooms (
    tenant     text COLLATE "C" NOT NULL,
    id         text COLLATE "C" NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 128),
    title      text NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('public', 'direct')),
    owner_id   text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL,
    last_seq   bigint NOT NULL DEFAULT 0 CHECK (last_seq >= 0),
    low_id     text COLLATE "C", -- the two users of a direct room, the lesser first: one room for a pair
    high_id    text COLLATE "C",
    deleted_at timestamptz, -- the row stays, so that its id is not used again
    deleted_by text COLLATE "C",
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, low_id, high_id),
    FOREIGN KEY (tenant, owner_id) REFERENCES users (tenant, id),
    FOREIGN KEY (tenant, low_id) REFERENCES users (tenant, id),
    FOREIGN KEY (tenant, high_id) REFERENCES users (tenant, id),
    CHECK ((kind = 'direct') = starts_with(id, 'private_')),
    CHECK (CASE kind WHEN 'direct' THEN title = '' AND (low_id < high_id) IS TRUE AND deleted_at IS NULL
                     ELSE char_length(title) BETWEEN 1 AND 100 AND low_id IS NULL AND high_id IS NULL END),
    CHECK ((deleted_at IS NULL) = (deleted_by IS NULL))
);

CREATE INDEX rooms_public ON rooms (tenant, created_at) WHERE kind = 'public' AND deleted_at IS NULL;
CREATE INDEX rooms_owner ON rooms (tenant, owner_id) WHERE kind = 'public' AND deleted_at IS NULL;

CREATE TABLE members (
    tenant    text COLLATE "C" NOT NULL,
    room_id   text COLLATE "C" NOT NULL,
    user_id   text COLLATE "C" NOT NULL,
    state     text NOT NULL CHECK (state IN ('joined', 'invited')),
    read_seq  bigint NOT NULL CHECK (read_seq >= 0),
    joined_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, room_id, user_id),
    FOREIGN KEY (tenant, room_id) REFERENCES rooms (tenant, id),
    FOREIGN KEY (tenant, user_id) REFERENCES users (tenant, id)
);

CREATE INDEX members_user ON members (tenant, user_id);

CREATE TABLE messages (
    tenant    text COLLATE "C" NOT NULL,
    room_id   text COLLATE "C" NOT NULL,
    seq       bigint NOT NULL CHECK (seq >= 1),
    author_id text COLLATE "C" NOT NULL,
    text      text NOT NULL CHECK (char_length(text) BETWEEN 1 AND 8000),
    key       text COLLATE "C" CHECK (octet_length(key) BETWEEN 1 AND 128), -- null: the client gave none
    sent_at   timestamptz NOT NULL,
    PRIMARY KEY (tenant, room_id, seq),
    CONSTRAINT messages_key UNIQUE (tenant, room_id, author_id, key),
    FOREIGN KEY (tenant, room_id) REFERENCES rooms (tenant, id),
    FOREIGN KEY (tenant, author_id) REFERENCES users (tenant, id)
);

CREATE TABLE blocks (
    tenant   text COLLATE "C" NOT NULL,
    by_id    text COLLATE "C" NOT NULL,
    other_id text COLLATE "C" NOT NULL CHECK (other_id <> by_id),
    PRIMARY KEY (tenant, by_id, other_id),
    FOREIGN KEY (tenant, by_id) REFERENCES users (tenant, id),
    FOREIGN KEY (tenant, other_id) REFERENCES users (tenant, id)
);
