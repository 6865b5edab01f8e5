-- Whoever signs out, or is removed, is owed the end of the connections from before. That is paid later, and then it is known which
-- those were. The version before ends them itself.

ALTER TABLE connections ADD COLUMN ended boolean NOT NULL DEFAULT false;
