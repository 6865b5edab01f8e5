-- Sessions and tokens that were given to a user before this time count no more; null: all count.

ALTER TABLE users ADD COLUMN signed_out_at timestamptz;
