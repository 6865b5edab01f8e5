-- A room is a sequence of events 1, 2, 3 …, listeners are told of them in that order, and what has to follow a change
-- outside of the store is owed. Messages from before have no number, since it would be their sequence.

ALTER TABLE users ADD COLUMN list_revision INTEGER NOT NULL DEFAULT 0; -- of the user's own list of rooms

ALTER TABLE rooms ADD COLUMN last_event INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rooms ADD COLUMN kept_after INTEGER NOT NULL DEFAULT 0; -- events up to this one are not kept
ALTER TABLE rooms ADD COLUMN told_event INTEGER NOT NULL DEFAULT 0; -- listeners have been told up to this one
ALTER TABLE rooms ADD COLUMN untold INTEGER NOT NULL DEFAULT 0 CHECK (untold IN (0, 1)); -- told_event < last_event
ALTER TABLE rooms ADD COLUMN teller TEXT; -- the process that tells them
ALTER TABLE rooms ADD COLUMN teller_until INTEGER;

ALTER TABLE members ADD COLUMN revision INTEGER NOT NULL DEFAULT 0; -- list_revision of its last change

ALTER TABLE departures ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
ALTER TABLE departures ADD COLUMN role TEXT; -- the member's, for when the user comes back

ALTER TABLE messages ADD COLUMN number INTEGER; -- of its event; null, from before: seq
ALTER TABLE messages ADD COLUMN connection TEXT; -- that it came from
ALTER TABLE messages ADD COLUMN heard INTEGER NOT NULL DEFAULT 0 CHECK (heard IN (0, 1)); -- in the way of the version before

UPDATE rooms SET last_event = last_seq, told_event = last_seq WHERE last_seq > 0;

CREATE INDEX rooms_untold ON rooms (tenant, id) WHERE untold = 1;
CREATE UNIQUE INDEX messages_number ON messages (tenant, room_id, number) WHERE number IS NOT NULL;

-- The events that are no messages.
CREATE TABLE room_events (
    tenant     TEXT    NOT NULL,
    room_id    TEXT    NOT NULL,
    number     INTEGER NOT NULL CHECK (number >= 1),
    kind       TEXT    NOT NULL,
    user_id    TEXT    NOT NULL,
    seq        INTEGER, -- of the message that it is about
    title      TEXT,
    role       TEXT,
    at         INTEGER NOT NULL,
    connection TEXT,
    heard      INTEGER NOT NULL DEFAULT 0 CHECK (heard IN (0, 1)),
    PRIMARY KEY (tenant, room_id, number),
    FOREIGN KEY (tenant, room_id) REFERENCES rooms (tenant, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE effects (
    tenant       TEXT    NOT NULL,
    kind         TEXT    NOT NULL,
    room_id      TEXT    NOT NULL, -- empty for none
    user_id      TEXT    NOT NULL,
    version      INTEGER NOT NULL DEFAULT 1, -- how often it was owed
    owed_at      INTEGER NOT NULL,
    due_at       INTEGER NOT NULL,
    lease        INTEGER NOT NULL DEFAULT 0, -- how often it was claimed
    leased_until INTEGER,
    attempts     INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, kind, room_id, user_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX effects_due ON effects (tenant, due_at);
