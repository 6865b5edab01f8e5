-- A message may be stored after its author has left, or was blocked, when it was sent before that.

CREATE TABLE departures (
    tenant  TEXT    NOT NULL,
    room_id TEXT    NOT NULL,
    user_id TEXT    NOT NULL,
    left_at INTEGER NOT NULL, -- the last time
    PRIMARY KEY (tenant, room_id, user_id),
    FOREIGN KEY (tenant, room_id) REFERENCES rooms (tenant, id),
    FOREIGN KEY (tenant, user_id) REFERENCES users (tenant, id)
) STRICT, WITHOUT ROWID;

ALTER TABLE blocks ADD COLUMN blocked_at INTEGER NOT NULL DEFAULT 0;
