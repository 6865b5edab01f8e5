-- What has changed in somebody's list of rooms is read by user. (members_user has the room already: the rest of the key is in
-- every index of a table without rowids.)

CREATE INDEX departures_list ON departures (tenant, user_id, revision);
