-- What applications may change of the chat by REST.

ALTER TABLE users ADD COLUMN removed INTEGER NOT NULL DEFAULT 0 CHECK (removed IN (0, 1)); -- by an application, until the user comes back

ALTER TABLE messages ADD COLUMN binary_text TEXT CHECK (octet_length(binary_text) <= 87384); -- beside the text, in base64; null: none
ALTER TABLE messages ADD COLUMN deleted_at INTEGER; -- the row stays, so that sequences have no gaps

-- What a message was before it was edited or deleted.
CREATE TABLE message_events (
    tenant  TEXT    NOT NULL,
    room_id TEXT    NOT NULL,
    seq     INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    kind    TEXT    NOT NULL CHECK (kind IN ('edited', 'deleted')),
    text    TEXT    NOT NULL,
    binary_text TEXT,
    FOREIGN KEY (tenant, room_id, seq) REFERENCES messages (tenant, room_id, seq) ON DELETE CASCADE
) STRICT;

CREATE INDEX message_events_message ON message_events (tenant, room_id, seq);
