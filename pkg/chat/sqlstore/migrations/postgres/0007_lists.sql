-- People's own lists of rooms are read by user. With the room in the index, one of somebody's many memberships is found
-- without looking at the others, whichever way a plan goes.

CREATE INDEX members_list ON members (tenant, user_id, room_id);
DROP INDEX members_user;

CREATE INDEX departures_list ON departures (tenant, user_id, revision);
