-- A message may be stored after its author has left, or was blocked, when it was sent before that.

CREATE TABLE departures (
    tenant  text COLLATE "C" NOT NULL,
    room_id text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    left_at timestamptz NOT NULL, -- the last time
    PRIMARY KEY (tenant, room_id, user_id),
    FOREIGN KEY (tenant, room_id) REFERENCES rooms (tenant, id),
    FOREIGN KEY (tenant, user_id) REFERENCES users (tenant, id)
);

ALTER TABLE blocks ADD COLUMN blocked_at timestamptz NOT NULL DEFAULT to_timestamp(0);
