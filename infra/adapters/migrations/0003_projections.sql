-- How far projections have got, which builds of their tables are live, and what they could not fold.

CREATE TABLE public.checkpoints (
    projection text NOT NULL,
    build integer NOT NULL,
    partition integer NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (projection, build, partition)
) WITH (fillfactor = 50);

CREATE TABLE public.projection_builds (
    name text NOT NULL,
    build integer NOT NULL,
    status text NOT NULL,
    PRIMARY KEY (name, build)
);

CREATE TABLE public.dead_letters (
    id bigserial PRIMARY KEY,
    projection text NOT NULL,
    build integer NOT NULL,
    key text NOT NULL,
    partition integer NOT NULL,
    position bigint NOT NULL,
    stream text NOT NULL,
    tag text NOT NULL,
    state bytea NOT NULL,
    error text NOT NULL,
    trace text NOT NULL,
    attempts integer NOT NULL,
    status text NOT NULL CHECK (status IN ('parked', 'waiting', 'retried', 'discarded')),
    why text NOT NULL DEFAULT '',
    parked_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (projection, build, position)
);
CREATE INDEX dead_letters_key_idx ON public.dead_letters (projection, build, key, position)
    WHERE status IN ('parked', 'waiting');
