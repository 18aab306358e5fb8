-- Which version of its fold a build was made by, and which version of its stream a letter is.

ALTER TABLE public.projection_builds
    ADD COLUMN version integer NOT NULL DEFAULT 1,
    ADD COLUMN made_at timestamptz NOT NULL DEFAULT now();

CREATE UNIQUE INDEX projection_builds_live_idx ON public.projection_builds (name)
    WHERE status = 'live';

ALTER TABLE public.dead_letters ADD COLUMN version bigint NOT NULL DEFAULT 0;
