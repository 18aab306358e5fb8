-- How far the log was at a moment.

-- Four bytes as a number. Neither function is STRICT: that would keep PostgreSQL from inlining it,
-- and every row of the log goes through them.
CREATE FUNCTION log.number_at(state bytea, place integer) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (get_byte(state, place)::bigint << 24) | (get_byte(state, place + 1) << 16)
        | (get_byte(state, place + 2) << 8) | get_byte(state, place + 3)
$$;

-- When a stored event was recorded, in microseconds since 1970; null where that cannot be read.
-- The state is an array in msgpack that begins with a timestamp: of 64 bits (30 of nanoseconds, 34
-- of seconds), of 32, or of 96 (32 and 64).
CREATE FUNCTION log.recorded_at(state bytea) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN substring(state FROM 2 FOR 2) = '\xd7ff' AND octet_length(state) >= 11 THEN
            (((log.number_at(state, 3) & 3) << 32) | log.number_at(state, 7)) * 1000000
                + (log.number_at(state, 3) >> 2) / 1000
        WHEN substring(state FROM 2 FOR 2) = '\xd6ff' AND octet_length(state) >= 7 THEN
            log.number_at(state, 3) * 1000000
        WHEN substring(state FROM 2 FOR 3) = '\xc70cff' AND octet_length(state) >= 16 THEN
            ((log.number_at(state, 8) << 32) | log.number_at(state, 12)) * 1000000
                + log.number_at(state, 4) / 1000
    END
$$;

-- For every so many positions, the latest moment that anything up to there was recorded at. That
-- never falls, whatever clocks do, so that it can be searched. Computed from the log by whoever asks.
CREATE TABLE log.moments (
    last bigint PRIMARY KEY,
    latest bigint NOT NULL
);
CREATE INDEX moments_latest_idx ON log.moments (latest, last);
