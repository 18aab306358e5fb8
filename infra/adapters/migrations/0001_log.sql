-- The event log, in the format of the eventsourcing library (originator ids as text).

CREATE SCHEMA log;

CREATE TABLE log.events (
    originator_id text NOT NULL,
    originator_version bigint NOT NULL,
    topic text,
    state bytea,
    notification_id bigserial,
    PRIMARY KEY (originator_id, originator_version)
) WITH (
    autovacuum_enabled = true,
    autovacuum_vacuum_threshold = 100000000,
    autovacuum_vacuum_scale_factor = 0.5,
    autovacuum_analyze_threshold = 1000,
    autovacuum_analyze_scale_factor = 0.01
);

CREATE UNIQUE INDEX events_notification_id_idx ON log.events (notification_id ASC);

-- The type that the library's recorder passes events in.
CREATE TYPE log.stored_event_text AS (
    originator_id text,
    originator_version bigint,
    topic text,
    state bytea
);

-- What commands with an idempotency key were answered.
CREATE TABLE log.answers (
    member_id text NOT NULL,
    key text NOT NULL,
    body_hash bytea NOT NULL,
    status integer NOT NULL,
    body bytea NOT NULL,
    position bigint NOT NULL,
    answered_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (member_id, key)
);
CREATE INDEX answers_answered_at_idx ON log.answers USING brin (answered_at);

-- Whoever appends holds this lock until its transaction has ended, so that positions become visible
-- in the order in which they are given out, and a reader that tails by position misses none.
CREATE FUNCTION log.take_turn() RETURNS void LANGUAGE sql VOLATILE AS $$
    SELECT pg_advisory_xact_lock(7881702245169);
$$;

-- Append the commands of a batch, each whole or not at all; one refusal leaves its neighbours alone.
--
-- Events stand in the order of their commands; `ends[c]` is the index of command c's last event.
-- `after_…` names, for each stream that a command continues, the event it continues from: a command
-- whose predecessor was refused is refused too. `answer_…` are rows for log.answers.
--
-- Answers `outcomes`, one letter a command (W written, M stream moved, K key taken; null when all
-- are written), and `positions`, one an event (null where refused).
CREATE FUNCTION log.append(
    ends integer[],
    streams text[], versions bigint[], topics text[], states bytea[],
    after_commands integer[], after_streams text[], after_versions bigint[],
    answer_commands integer[], answer_members text[], answer_keys text[],
    answer_hashes bytea[], answer_statuses integer[], answer_bodies bytea[],
    answer_positions bigint[],
    OUT outcomes text, OUT positions bigint[]
) LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $$
DECLARE
    one_command bigint[];
    first_event integer := 1;
    broken_constraint text;
BEGIN
    PERFORM log.take_turn();

    -- From here on each statement sees all that earlier holders of the lock have committed.
    BEGIN
        positions := log.insert_events(streams, versions, topics, states);
        PERFORM log.check_predecessors(after_streams, after_versions);
        IF cardinality(answer_commands) > 0 THEN
            INSERT INTO log.answers (member_id, key, body_hash, status, body, position)
            SELECT a.member_id, a.key, a.body_hash, a.status, a.body,
                CASE WHEN ends[a.command] > coalesce(ends[a.command - 1], 0)
                    THEN positions[ends[a.command]] ELSE a.position END
            FROM unnest(answer_commands, answer_members, answer_keys, answer_hashes,
                answer_statuses, answer_bodies, answer_positions)
                AS a (command, member_id, key, body_hash, status, body, position);
        END IF;
        PERFORM log.notify_readers(positions);
        RETURN;
    EXCEPTION WHEN unique_violation OR SQLSTATE 'PZ001' THEN
        -- Somebody in the batch is refused: nothing is written yet, and each gets its own turn.
        outcomes := '';
        positions := '{}';
    END;

    FOR c IN 1 .. cardinality(ends) LOOP
        BEGIN
            one_command := log.insert_events(
                streams[first_event:ends[c]], versions[first_event:ends[c]],
                topics[first_event:ends[c]], states[first_event:ends[c]]
            );
            PERFORM log.check_predecessors(
                array_agg(a.stream), array_agg(a.version)
            ) FROM unnest(after_commands, after_streams, after_versions)
                AS a (command, stream, version) WHERE a.command = c;
            INSERT INTO log.answers (member_id, key, body_hash, status, body, position)
            SELECT a.member_id, a.key, a.body_hash, a.status, a.body,
                coalesce(one_command[cardinality(one_command)], a.position)
            FROM unnest(answer_commands, answer_members, answer_keys, answer_hashes,
                answer_statuses, answer_bodies, answer_positions)
                AS a (command, member_id, key, body_hash, status, body, position)
            WHERE a.command = c;
            outcomes := outcomes || 'W';
        EXCEPTION WHEN unique_violation OR SQLSTATE 'PZ001' THEN
            GET STACKED DIAGNOSTICS broken_constraint = CONSTRAINT_NAME;
            outcomes := outcomes || CASE broken_constraint WHEN 'answers_pkey' THEN 'K' ELSE 'M' END;
            one_command := array_fill(NULL::bigint, ARRAY[ends[c] - first_event + 1]);
        END;
        positions := positions || one_command;
        first_event := ends[c] + 1;
    END LOOP;
    PERFORM log.notify_readers(positions);
END
$$;

CREATE FUNCTION log.insert_events(
    streams text[], versions bigint[], topics text[], states bytea[]
) RETURNS bigint[] LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    inserted bigint[];
BEGIN
    WITH written AS (
        INSERT INTO log.events (originator_id, originator_version, topic, state)
        SELECT * FROM unnest(streams, versions, topics, states)
        RETURNING notification_id
    )
    SELECT coalesce(array_agg(notification_id), '{}') INTO inserted FROM written;
    RETURN inserted;
END
$$;

CREATE FUNCTION log.check_predecessors(after_streams text[], after_versions bigint[])
RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF cardinality(after_streams) > 0 AND EXISTS (
        SELECT FROM unnest(after_streams, after_versions) AS a (stream, version)
        WHERE NOT EXISTS (
            SELECT FROM log.events
            WHERE originator_id = a.stream AND originator_version = a.version
            OFFSET 0
        )
    ) THEN
        RAISE EXCEPTION 'a stream does not continue' USING ERRCODE = 'PZ001';
    END IF;
END
$$;

-- Tell listeners, once the transaction is committed, how far the log has come.
CREATE FUNCTION log.notify_readers(positions bigint[]) RETURNS void LANGUAGE sql VOLATILE AS $$
    SELECT pg_notify('plaza_log', max(position)::text)
    FROM unnest(positions) AS position
    HAVING max(position) IS NOT NULL;
$$;
