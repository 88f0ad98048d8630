-- The tables and functions of the store, version 1. The library puts in what is in braces.
-- Times are seconds since the epoch, by the server's clock.

CREATE TABLE {schema}.meta (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    version integer NOT NULL,
    -- Every run begins behind the epochs in which purged ones were driven: were it of the same
    -- name, the old driver would be taken for the new one's.
    first_epoch bigint NOT NULL DEFAULT 0
);
INSERT INTO {schema}.meta (version) VALUES (0); -- the library raises it

-- How each run stands. A commit changes no indexed column as a rule, and finds room on the
-- row's own page: so it writes to no index.
CREATE TABLE {schema}.run (
    run_id text COLLATE "C" PRIMARY KEY,
    key bigint GENERATED ALWAYS AS IDENTITY,
    workflow text COLLATE "C" NOT NULL,
    status text NOT NULL DEFAULT 'pending',
    epoch bigint NOT NULL,
    -- That of the last commit or release. Tokens of one epoch grow, so what arrives twice
    -- or late is known.
    token bigint NOT NULL DEFAULT 0,
    position bigint NOT NULL DEFAULT 0,
    dropped bigint NOT NULL DEFAULT 0,
    published bigint NOT NULL DEFAULT 0,
    unread bigint NOT NULL DEFAULT 0,
    last_sent bigint NOT NULL DEFAULT 0,
    created_at float8 NOT NULL,
    updated_at float8 NOT NULL,
    due_at float8,
    leased_until float8 NOT NULL DEFAULT 0,
    owner text NOT NULL DEFAULT '',
    note text NOT NULL DEFAULT '',
    result bytea
) WITH (fillfactor = 50);
CREATE INDEX run_free ON {schema}.run (workflow, due_at, key)
    WHERE due_at IS NOT NULL AND leased_until = 0;
CREATE INDEX run_leased ON {schema}.run (workflow, leased_until)
    WHERE due_at IS NOT NULL AND leased_until > 0;
CREATE INDEX run_unread ON {schema}.run (last_sent) WHERE unread > 0;
CREATE INDEX run_created ON {schema}.run (created_at DESC, run_id);

-- What never changes, apart, since a row is written whole. The token is the one creation's.
CREATE TABLE {schema}.birth (
    run bigint PRIMARY KEY,
    token bigint NOT NULL,
    version text NOT NULL,
    shape bytea NOT NULL,
    begin bytea,
    origin text
);

-- One row a commit, at the position of its first fact.
CREATE TABLE {schema}.fact (
    run bigint, position bigint, bodies bytea[] NOT NULL, PRIMARY KEY (run, position)
);
CREATE TABLE {schema}.snapshot (
    run bigint, position bigint, state bytea NOT NULL, PRIMARY KEY (run, position)
);
-- One row a commit, at the number of its first event.
CREATE TABLE {schema}.stream (
    run bigint, number bigint, bodies bytea[] NOT NULL, PRIMARY KEY (run, number)
);

-- The body is NULL once it was taken. The token is the one sending's.
CREATE TABLE {schema}.message (
    run bigint,
    message_id text COLLATE "C",
    number bigint GENERATED ALWAYS AS IDENTITY,
    token bigint NOT NULL,
    body bytea,
    PRIMARY KEY (run, message_id)
);
CREATE INDEX message_untaken ON {schema}.message (run, number) WHERE body IS NOT NULL;

-- Not now(): that is when the transaction began, which may have waited for a lock since.
CREATE FUNCTION {schema}.seconds() RETURNS float8 LANGUAGE sql VOLATILE AS $$
    SELECT extract(epoch FROM clock_timestamp())::float8
$$;

CREATE FUNCTION {schema}.is_final(a_status text) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT a_status IN ('completed', 'failed', 'cancelled', 'timed out')
$$;

CREATE FUNCTION {schema}.ring(a_run_id text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- What is too long for a notification is told of as something unknown.
    PERFORM pg_notify(
        {channel}, CASE WHEN octet_length(a_run_id) < 7000 THEN a_run_id ELSE '' END
    );
END $$;

-- The functions below look rows up by their keys. Plans are kept: one that reads the whole
-- of a table, made while it was small, would be used when it has grown.

CREATE FUNCTION {schema}.create_run(
    a_run_id text, a_workflow text, a_version text, a_shape bytea, a_begin bytea,
    a_snapshot bytea, a_due_at float8, a_origin text, a_token bigint
) RETURNS boolean LANGUAGE plpgsql
SET enable_seqscan = off AS $$
DECLARE
    at float8 := {schema}.seconds();
    made bigint;
    first bigint;
BEGIN
    INSERT INTO {schema}.run (run_id, workflow, epoch, created_at, updated_at, due_at)
        VALUES (a_run_id, a_workflow, 0, at, at, a_due_at)
        ON CONFLICT DO NOTHING RETURNING key INTO made;
    IF made IS NULL THEN
        RETURN EXISTS (
            SELECT FROM {schema}.run JOIN {schema}.birth ON birth.run = run.key
            WHERE run_id = a_run_id AND birth.token = a_token
        );
    END IF;
    -- Not before: the insertion may have waited for the purge of a run of this name.
    SELECT first_epoch INTO first FROM {schema}.meta WHERE is_only;
    IF first > 0 THEN
        UPDATE {schema}.run SET epoch = first WHERE run_id = a_run_id;
    END IF;
    INSERT INTO {schema}.birth
        VALUES (made, a_token, a_version, a_shape, a_begin, a_origin);
    IF a_snapshot IS NOT NULL THEN
        INSERT INTO {schema}.snapshot VALUES (made, 0, a_snapshot);
    END IF;
    PERFORM {schema}.ring(a_run_id);
    RETURN true;
END $$;

-- One commit; false, and nothing is written, if it is refused. One that was written before
-- is true.
CREATE FUNCTION {schema}.commit_one(
    a_run_id text, a_epoch bigint, a_position bigint, a_token bigint, a_facts bytea[],
    a_published bytea[], a_taken bigint[], a_status text, a_due_at float8, a_note text,
    a_result bytea, a_snapshot bytea, a_keep_from bigint, a_reopens boolean
) RETURNS boolean LANGUAGE plpgsql
SET enable_seqscan = off AS $$
DECLARE
    took bigint := 0;
    first bigint;
    found_run bigint;
    next_number bigint;
BEGIN
    IF cardinality(a_taken) > 0 THEN
        SELECT key INTO found_run FROM {schema}.run
            WHERE run_id = a_run_id AND epoch = a_epoch AND position = a_position
                AND token < a_token AND {schema}.is_final(status) = a_reopens
            FOR UPDATE;
        UPDATE {schema}.message SET body = NULL
            WHERE run = found_run AND number = ANY (a_taken) AND body IS NOT NULL;
        GET DIAGNOSTICS took = ROW_COUNT;
    END IF;
    UPDATE {schema}.run SET
        status = a_status,
        token = a_token,
        position = position + cardinality(a_facts),
        published = published + cardinality(a_published),
        unread = unread - took,
        updated_at = {schema}.seconds(),
        due_at = CASE
            WHEN {schema}.is_final(a_status) THEN NULL
            WHEN unread > took THEN 0
            ELSE a_due_at END,
        leased_until = CASE
            WHEN {schema}.is_final(a_status) THEN 0 ELSE leased_until END,
        note = a_note,
        result = a_result
    WHERE run_id = a_run_id AND epoch = a_epoch AND position = a_position
        AND token < a_token AND {schema}.is_final(status) = a_reopens
    RETURNING key, published - cardinality(a_published) + 1 INTO found_run, next_number;
    IF NOT FOUND THEN
        RETURN EXISTS (
            SELECT FROM {schema}.run
            WHERE run_id = a_run_id AND epoch = a_epoch AND token = a_token
        );
    END IF;
    IF cardinality(a_facts) > 0 THEN
        INSERT INTO {schema}.fact VALUES (found_run, a_position, a_facts);
    END IF;
    IF cardinality(a_published) > 0 THEN
        INSERT INTO {schema}.stream VALUES (found_run, next_number, a_published);
    END IF;
    IF a_reopens THEN
        PERFORM {schema}.ring(a_run_id);
    END IF;
    IF a_snapshot IS NOT NULL THEN
        INSERT INTO {schema}.snapshot
            VALUES (found_run, a_position + cardinality(a_facts), a_snapshot)
            ON CONFLICT (run, position) DO UPDATE SET state = excluded.state;
        SELECT max(position) INTO first FROM {schema}.snapshot
            WHERE run = found_run AND position <= a_keep_from;
        IF first > 0 THEN
            UPDATE {schema}.run SET dropped = first
                WHERE run_id = a_run_id AND dropped < first;
            DELETE FROM {schema}.fact WHERE run = found_run AND position < first;
            DELETE FROM {schema}.snapshot WHERE run = found_run AND position < first;
        END IF;
    END IF;
    RETURN true;
END $$;

-- Many commits, each on its own terms, in one transaction. They are flattened: of each,
--   numbers  epoch, position, token, keep_from, reopens (0 or 1), how many are taken, facts
--            and published; then the numbers that are taken
--   texts    run_id, status, note
--   times    due_at
--   bodies   facts, published, result, snapshot
CREATE FUNCTION {schema}.commit_all(
    numbers bigint[], texts text[], times float8[], bodies bytea[]
) RETURNS boolean[] LANGUAGE plpgsql AS $$
DECLARE
    done boolean[] := ARRAY[]::boolean[];
    n integer := 0;
    b integer := 0;
    facts bytea[];
    published bytea[];
    taken bigint[];
BEGIN
    FOR i IN 1 .. cardinality(times) LOOP
        facts := ARRAY[]::bytea[];
        published := ARRAY[]::bytea[];
        taken := ARRAY[]::bigint[];
        FOR k IN n + 9 .. n + 8 + numbers[n + 6] LOOP
            taken := taken || numbers[k];
        END LOOP;
        FOR k IN b + 1 .. b + numbers[n + 7] LOOP
            facts := facts || bodies[k];
        END LOOP;
        b := b + numbers[n + 7];
        FOR k IN b + 1 .. b + numbers[n + 8] LOOP
            published := published || bodies[k];
        END LOOP;
        b := b + numbers[n + 8] + 2;
        done := done || {schema}.commit_one(
            texts[3 * i - 2], numbers[n + 1], numbers[n + 2], numbers[n + 3], facts,
            published, taken, texts[3 * i - 1], times[i], texts[3 * i],
            bodies[b - 1], bodies[b], numbers[n + 4], numbers[n + 5] = 1
        );
        n := n + 8 + cardinality(taken);
    END LOOP;
    RETURN done;
END $$;

-- Whether the run was given back; NULL if its driver is fenced.
CREATE FUNCTION {schema}.release(
    a_run_id text, a_epoch bigint, a_token bigint, a_due_at float8
) RETURNS boolean LANGUAGE plpgsql
SET enable_seqscan = off AS $$
DECLARE
    found_run {schema}.run;
    is_over boolean;
BEGIN
    SELECT * INTO found_run FROM {schema}.run
        WHERE run_id = a_run_id AND epoch = a_epoch FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF found_run.token >= a_token THEN
        -- If this came before, somebody may have claimed the run since. If it comes late,
        -- nobody waits for the answer any more.
        RETURN CASE WHEN found_run.token = a_token THEN true END;
    END IF;
    is_over := {schema}.is_final(found_run.status);
    IF found_run.unread > 0 AND NOT is_over THEN
        RETURN false;
    END IF;
    UPDATE {schema}.run SET
        token = a_token,
        owner = '',
        leased_until = 0,
        due_at = CASE WHEN is_over THEN NULL ELSE a_due_at END
    WHERE run_id = a_run_id;
    IF NOT is_over AND a_due_at <= {schema}.seconds() THEN
        PERFORM {schema}.ring(a_run_id);
    END IF;
    RETURN true;
END $$;

-- Whether it was sent now; or, if it was not, why: 'known', 'gone', or how the run ended.
CREATE FUNCTION {schema}.send(
    a_run_id text, a_message_id text, a_body bytea, a_token bigint
) RETURNS text LANGUAGE plpgsql
SET enable_seqscan = off AS $$
DECLARE
    found_run {schema}.run;
    earlier bigint;
    sent bigint;
BEGIN
    -- Senders of one run go one by one, so that numbers are in the order of sending.
    SELECT * INTO found_run FROM {schema}.run WHERE run_id = a_run_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 'gone';
    END IF;
    SELECT token INTO earlier FROM {schema}.message
        WHERE run = found_run.key AND message_id = a_message_id;
    IF FOUND THEN
        RETURN CASE WHEN earlier = a_token THEN 'sent' ELSE 'known' END;
    END IF;
    IF {schema}.is_final(found_run.status) THEN
        RETURN found_run.status;
    END IF;
    INSERT INTO {schema}.message (run, message_id, token, body)
        VALUES (found_run.key, a_message_id, a_token, a_body) RETURNING number INTO sent;
    UPDATE {schema}.run SET
        unread = unread + 1, last_sent = sent, due_at = 0, updated_at = {schema}.seconds()
        WHERE run_id = a_run_id;
    PERFORM {schema}.ring(a_run_id);
    RETURN 'sent';
END $$;

CREATE FUNCTION {schema}.purge(a_run_id text, a_run bigint) RETURNS void
LANGUAGE plpgsql
SET enable_seqscan = off AS $$
DECLARE
    last_epoch bigint;
BEGIN
    DELETE FROM {schema}.run WHERE run_id = a_run_id AND key = a_run
        RETURNING epoch INTO last_epoch;
    UPDATE {schema}.meta SET first_epoch = last_epoch + 1 WHERE is_only AND first_epoch <= last_epoch;
    DELETE FROM {schema}.birth WHERE run = a_run;
    DELETE FROM {schema}.fact WHERE run = a_run;
    DELETE FROM {schema}.snapshot WHERE run = a_run;
    DELETE FROM {schema}.stream WHERE run = a_run;
    DELETE FROM {schema}.message WHERE run = a_run;
END $$;
