-- What applications may change of the chat by REST.

ALTER TABLE users ADD COLUMN removed boolean NOT NULL DEFAULT false; -- by an application, until the user comes back

ALTER TABLE messages ADD COLUMN binary_text text; -- beside the text, in base64; null: none
ALTER TABLE messages ADD CONSTRAINT messages_binary_check CHECK (octet_length(binary_text) <= 87384) NOT VALID; -- spares a look at every row
ALTER TABLE messages ADD COLUMN deleted_at timestamptz; -- the row stays, so that sequences have no gaps

-- What a message was before it was edited or deleted.
CREATE TABLE message_events (
    tenant  text COLLATE "C" NOT NULL,
    room_id text COLLATE "C" NOT NULL,
    seq     bigint NOT NULL,
    at      timestamptz NOT NULL,
    kind    text NOT NULL CHECK (kind IN ('edited', 'deleted')),
    text    text NOT NULL,
    binary_text text,
    FOREIGN KEY (tenant, room_id, seq) REFERENCES messages (tenant, room_id, seq) ON DELETE CASCADE
);

CREATE INDEX message_events_message ON message_events (tenant, room_id, seq);
