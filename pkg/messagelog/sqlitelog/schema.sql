CREATE TABLE IF NOT EXISTS entries (
    seq           INTEGER PRIMARY KEY, -- microseconds since 1970 when it came, or one more than the one before
    log           TEXT    NOT NULL,
    tenant        TEXT    NOT NULL,
    hub           TEXT    NOT NULL,
    group_name    TEXT    NOT NULL,
    connection_id TEXT    NOT NULL,
    user_id       TEXT    NOT NULL,
    time          INTEGER NOT NULL, -- microseconds since 1970
    type          INTEGER NOT NULL,
    data          BLOB    NOT NULL,
    -- of events only, since schema 2
    event_type    TEXT    NOT NULL DEFAULT '',
    event_name    TEXT    NOT NULL DEFAULT '',
    event_id      TEXT    NOT NULL DEFAULT '', -- decimal: it may be greater than an INTEGER
    subprotocol   TEXT    NOT NULL DEFAULT '',
    state         TEXT    NOT NULL DEFAULT ''
) STRICT;

CREATE INDEX IF NOT EXISTS entries_log ON entries (log, seq);

CREATE TABLE IF NOT EXISTS consumers (
    log      TEXT    NOT NULL,
    consumer TEXT    NOT NULL,
    seq      INTEGER NOT NULL, -- the newest entry confirmed
    PRIMARY KEY (log, consumer)
) STRICT, WITHOUT ROWID;
