-- Whoever signs out, or is removed, is owed the end of the connections from before. That is paid later, and then it is known which
-- those were.

ALTER TABLE connections ADD COLUMN ended INTEGER NOT NULL DEFAULT 0 CHECK (ended IN (0, 1));
