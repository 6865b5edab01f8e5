-- What has asked for an event has a column of its own, beside the connection that is told by its answer.

ALTER TABLE room_events ADD COLUMN cause TEXT;
