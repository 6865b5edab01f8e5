-- A room is a sequence of events 1, 2, 3 …, listeners are told of them in that order, and what has to follow a change
-- outside of the store is owed.
--
-- Pods of the version before go on working beside, and after a rollback: what they write gets its events by the triggers
-- below, which do nothing for a transaction that says that it makes its own (chatr.writer). Nothing rewrites the table of
-- messages: those from before have no number, since it would be their sequence.

LOCK TABLE users, rooms, members, departures, messages, blocks IN ACCESS EXCLUSIVE MODE; -- in the order of transactions

ALTER TABLE users ADD COLUMN list_revision bigint NOT NULL DEFAULT 0; -- of the user's own list of rooms

ALTER TABLE rooms
    ADD COLUMN last_event   bigint  NOT NULL DEFAULT 0,
    ADD COLUMN kept_after   bigint  NOT NULL DEFAULT 0, -- events up to this one are not kept
    ADD COLUMN told_event   bigint  NOT NULL DEFAULT 0, -- listeners have been told up to this one
    ADD COLUMN untold       boolean NOT NULL DEFAULT false, -- told_event < last_event; an index on those two would cost more
    ADD COLUMN teller       text COLLATE "C", -- the process that tells them
    ADD COLUMN teller_until timestamptz;

ALTER TABLE members ADD COLUMN revision bigint NOT NULL DEFAULT 0; -- list_revision of its last change

ALTER TABLE departures
    ADD COLUMN revision bigint NOT NULL DEFAULT 0,
    ADD COLUMN role     text COLLATE "C"; -- the member's, for when the user comes back

ALTER TABLE messages
    ADD COLUMN number     bigint, -- of its event; null, from before: seq
    ADD COLUMN connection text COLLATE "C", -- that it came from
    ADD COLUMN heard      boolean NOT NULL DEFAULT false; -- in the way of the version before, without its number

UPDATE rooms SET last_event = last_seq, told_event = last_seq WHERE last_seq > 0;

CREATE INDEX rooms_untold ON rooms (tenant, id) WHERE untold;
CREATE UNIQUE INDEX messages_number ON messages (tenant, room_id, number) WHERE number IS NOT NULL;

-- The events that are no messages.
CREATE TABLE room_events (
    tenant     text COLLATE "C" NOT NULL,
    room_id    text COLLATE "C" NOT NULL,
    number     bigint NOT NULL CHECK (number >= 1),
    kind       text NOT NULL,
    user_id    text COLLATE "C" NOT NULL,
    seq        bigint, -- of the message that it is about
    title      text,
    role       text COLLATE "C",
    at         timestamptz NOT NULL,
    connection text COLLATE "C",
    heard      boolean NOT NULL DEFAULT false,
    PRIMARY KEY (tenant, room_id, number),
    FOREIGN KEY (tenant, room_id) REFERENCES rooms (tenant, id) ON DELETE CASCADE
);

CREATE TABLE effects (
    tenant       text COLLATE "C" NOT NULL,
    kind         text NOT NULL,
    room_id      text COLLATE "C" NOT NULL, -- empty for none
    user_id      text COLLATE "C" NOT NULL,
    version      bigint NOT NULL DEFAULT 1, -- how often it was owed
    owed_at      timestamptz NOT NULL,
    due_at       timestamptz NOT NULL,
    lease        bigint NOT NULL DEFAULT 0, -- how often it was claimed
    leased_until timestamptz,
    attempts     integer NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, kind, room_id, user_id)
);

CREATE INDEX effects_due ON effects (tenant, due_at);

CREATE FUNCTION chatr_add_event(t text, r text, k text, u text, s bigint, title text, role text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
    UPDATE rooms SET last_event = last_event + 1, untold = true WHERE tenant = t AND id = r RETURNING last_event INTO n;
    IF FOUND THEN
        INSERT INTO room_events (tenant, room_id, number, kind, user_id, seq, title, role, at, heard)
        VALUES (t, r, n, k, u, s, title, role, clock_timestamp(), true);
    END IF;
END $$;

-- Transactions lock users first, and here others are locked already: so nobody is waited for. Whoever has the user's lock
-- raises the revision, as a rule; if not, the next one does.
CREATE FUNCTION chatr_revise(t text, u text) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
    PERFORM FROM users WHERE tenant = t AND id = u FOR NO KEY UPDATE SKIP LOCKED;
    IF FOUND THEN
        UPDATE users SET list_revision = list_revision + 1 WHERE tenant = t AND id = u RETURNING list_revision INTO n;
    ELSE
        SELECT list_revision + 1 INTO n FROM users WHERE tenant = t AND id = u;
    END IF;
    RETURN coalesce(n, 0);
END $$;

-- The statement that inserts messages raises rooms.last_seq too, of rooms that its transaction has locked, and no trigger
-- may change a row that the statement itself is about to: so the number follows from the sequence, here and there.
CREATE FUNCTION chatr_number_message() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SELECT last_event + NEW.seq - last_seq INTO NEW.number FROM rooms WHERE tenant = NEW.tenant AND id = NEW.room_id;
    NEW.heard := true;
    RETURN NEW;
END $$;
CREATE TRIGGER chatr_number BEFORE INSERT ON messages FOR EACH ROW
    WHEN (NEW.number IS NULL AND current_setting('chatr.writer', true) IS DISTINCT FROM 'events')
    EXECUTE FUNCTION chatr_number_message();

CREATE FUNCTION chatr_message_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL THEN
        PERFORM chatr_add_event(NEW.tenant, NEW.room_id, 'deleted', NEW.author_id, NEW.seq, NULL, NULL);
    ELSIF (OLD.text, OLD.binary_text) IS DISTINCT FROM (NEW.text, NEW.binary_text) THEN
        PERFORM chatr_add_event(NEW.tenant, NEW.room_id, 'edited', NEW.author_id, NEW.seq, NULL, NULL);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER chatr_changed AFTER UPDATE ON messages FOR EACH ROW
    WHEN (current_setting('chatr.writer', true) IS DISTINCT FROM 'events')
    EXECUTE FUNCTION chatr_message_changed();

CREATE FUNCTION chatr_room_created() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM chatr_add_event(NEW.tenant, NEW.id, 'created', NEW.owner_id, NULL, NEW.title, NULL);
    RETURN NULL;
END $$;
CREATE TRIGGER chatr_created AFTER INSERT ON rooms FOR EACH ROW
    WHEN (current_setting('chatr.writer', true) IS DISTINCT FROM 'events')
    EXECUTE FUNCTION chatr_room_created();

CREATE FUNCTION chatr_room_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    k text;
    u text := NEW.owner_id;
BEGIN
    IF OLD.deleted_at IS NOT NULL AND NEW.deleted_at IS NULL THEN -- created anew, with nothing of what it was
        NEW.kept_after := OLD.last_event;
        DELETE FROM room_events WHERE tenant = NEW.tenant AND room_id = NEW.id;
        k := 'created';
    ELSIF OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL THEN
        k := 'closed';
        u := NEW.deleted_by;
    ELSIF OLD.title <> NEW.title THEN
        k := 'title';
        u := 'chatr.service';
    ELSIF NEW.last_seq > OLD.last_seq THEN
        NEW.last_event := OLD.last_event + NEW.last_seq - OLD.last_seq;
        NEW.untold := true;
    END IF;
    IF k IS NOT NULL THEN
        NEW.last_event := OLD.last_event + 1;
        NEW.untold := true;
        INSERT INTO room_events (tenant, room_id, number, kind, user_id, title, at, heard)
        VALUES (NEW.tenant, NEW.id, NEW.last_event, k, u, NEW.title, clock_timestamp(), true);
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER chatr_changed BEFORE UPDATE ON rooms FOR EACH ROW
    WHEN (current_setting('chatr.writer', true) IS DISTINCT FROM 'events'
        AND (OLD.last_seq, OLD.title, OLD.deleted_at) IS DISTINCT FROM (NEW.last_seq, NEW.title, NEW.deleted_at))
    EXECUTE FUNCTION chatr_room_changed();

CREATE FUNCTION chatr_member_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        NEW.role := coalesce(NEW.role, (SELECT role FROM departures
            WHERE tenant = NEW.tenant AND room_id = NEW.room_id AND user_id = NEW.user_id));
    ELSIF (OLD.state, OLD.role, OLD.read_seq) IS NOT DISTINCT FROM (NEW.state, NEW.role, NEW.read_seq) THEN
        RETURN NEW;
    END IF;
    NEW.revision := chatr_revise(NEW.tenant, NEW.user_id);
    RETURN NEW;
END $$;
CREATE TRIGGER chatr_changes BEFORE INSERT OR UPDATE ON members FOR EACH ROW
    WHEN (current_setting('chatr.writer', true) IS DISTINCT FROM 'events')
    EXECUTE FUNCTION chatr_member_changes();

-- Whoever leaves by the version before has locked the membership and not the room, which others lock first: if somebody
-- changes the very same membership at that moment, the server ends one of the two. This version tries again then.
CREATE FUNCTION chatr_member_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM chatr_add_event(NEW.tenant, NEW.room_id, NEW.state, NEW.user_id, NULL, NULL, NULL);
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO departures (tenant, room_id, user_id, left_at, revision, role)
        VALUES (OLD.tenant, OLD.room_id, OLD.user_id, clock_timestamp(), chatr_revise(OLD.tenant, OLD.user_id), OLD.role)
        ON CONFLICT (tenant, room_id, user_id) DO UPDATE SET revision = excluded.revision, role = excluded.role;
        IF EXISTS (SELECT FROM rooms WHERE tenant = OLD.tenant AND id = OLD.room_id AND deleted_at IS NULL) THEN
            PERFORM chatr_add_event(OLD.tenant, OLD.room_id, 'left', OLD.user_id, NULL, NULL, NULL);
        END IF;
    ELSE
        IF OLD.state <> NEW.state THEN
            PERFORM chatr_add_event(NEW.tenant, NEW.room_id, NEW.state, NEW.user_id, NULL, NULL, NULL);
        END IF;
        IF NEW.role IS DISTINCT FROM OLD.role THEN
            PERFORM chatr_add_event(NEW.tenant, NEW.room_id, 'role', NEW.user_id, NULL, NULL, NEW.role);
        END IF;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER chatr_changed AFTER INSERT OR UPDATE OR DELETE ON members FOR EACH ROW
    WHEN (current_setting('chatr.writer', true) IS DISTINCT FROM 'events')
    EXECUTE FUNCTION chatr_member_changed();

CREATE FUNCTION chatr_block_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE b blocks := coalesce(NEW, OLD);
BEGIN
    UPDATE members SET revision = chatr_revise(tenant, user_id)
    WHERE tenant = b.tenant AND room_id = (SELECT id FROM rooms
        WHERE tenant = b.tenant AND low_id = least(b.by_id, b.other_id) AND high_id = greatest(b.by_id, b.other_id));
    RETURN NULL;
END $$;
CREATE TRIGGER chatr_changed AFTER INSERT OR DELETE ON blocks FOR EACH ROW
    WHEN (current_setting('chatr.writer', true) IS DISTINCT FROM 'events')
    EXECUTE FUNCTION chatr_block_changed();
