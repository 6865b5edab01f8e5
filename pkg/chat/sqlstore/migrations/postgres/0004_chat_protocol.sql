-- What the chat protocol of the official client adds: rooms that one is put into, longer texts, roles.
--
-- Constraints become wider, so what is there meets them: NOT VALID spares a look at every row while all wait.

ALTER TABLE rooms DROP CONSTRAINT rooms_kind_check;
ALTER TABLE rooms ADD CONSTRAINT rooms_kind_check CHECK (kind IN ('public', 'private', 'direct')) NOT VALID;
CREATE INDEX rooms_owned ON rooms (tenant, owner_id) WHERE kind <> 'direct' AND deleted_at IS NULL;

ALTER TABLE messages DROP CONSTRAINT messages_text_check;
ALTER TABLE messages ADD CONSTRAINT messages_text_check CHECK (octet_length(text) BETWEEN 1 AND 65536) NOT VALID;

ALTER TABLE messages ADD COLUMN ref bigint; -- the message that it is about; null: none
ALTER TABLE messages ADD CONSTRAINT messages_ref_check CHECK (ref >= 1) NOT VALID;

ALTER TABLE users ADD COLUMN chat boolean NOT NULL DEFAULT false; -- has spoken that protocol
ALTER TABLE users ADD COLUMN role text COLLATE "C"; -- null: user.normal
ALTER TABLE members ADD COLUMN role text COLLATE "C"; -- null: room.operator for the room's owner, else room.member

CREATE TABLE roles (
    tenant      text COLLATE "C" NOT NULL,
    name        text COLLATE "C" NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 128),
    permissions text COLLATE "C" NOT NULL, -- separated by a space each
    PRIMARY KEY (tenant, name)
);
