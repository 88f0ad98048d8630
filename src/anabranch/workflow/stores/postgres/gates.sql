-- The queues of the store: what is kept of each, and the places in it. The rules are in
-- queues.py; here it is only seen to that nothing has changed between question and answer.
-- Nobody waits for the disk: if the server dies, a place is free too early, or when its lease
-- ends, and its holder says again that it is there.

CREATE TABLE {schema}.gate (
    queue text COLLATE "C" PRIMARY KEY,
    full_at float8 NOT NULL DEFAULT 0,
    -- How many were let in: a number that tells whether somebody was meanwhile.
    admitted bigint NOT NULL DEFAULT 0
);

-- Who is inside, and tickets of those who are not, which are in the order of their numbers.
CREATE TABLE {schema}.place (
    queue text COLLATE "C",
    holder text COLLATE "C",
    number bigint GENERATED ALWAYS AS IDENTITY,
    is_inside boolean NOT NULL,
    until float8 NOT NULL,
    PRIMARY KEY (queue, holder)
);

-- How a queue stands for one who asks, and who gets a ticket if it has no place.
CREATE FUNCTION {schema}.gate_ask(
    a_queue text, a_holder text, a_lease float8, a_ticket float8,
    OUT now float8, OUT is_in boolean, OUT inside bigint, OUT ahead bigint,
    OUT full_at float8, OUT admitted bigint
) LANGUAGE plpgsql AS $$
DECLARE
    own {schema}.place;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    now := {schema}.seconds();
    -- Those that others are about to change are left alone: they do not count below.
    DELETE FROM {schema}.place WHERE queue = a_queue AND holder = ANY (ARRAY(
        SELECT holder FROM {schema}.place WHERE queue = a_queue AND until <= now
        FOR UPDATE SKIP LOCKED
    ));
    SELECT * INTO own FROM {schema}.place WHERE queue = a_queue AND holder = a_holder;
    -- Most that ask again need not be written down.
    IF NOT FOUND OR own.is_inside OR own.until < now + a_ticket / 2 THEN
        INSERT INTO {schema}.place (queue, holder, is_inside, until)
            VALUES (a_queue, a_holder, false, now + a_ticket)
            ON CONFLICT (queue, holder) DO UPDATE SET until = now + CASE
                WHEN place.is_inside THEN a_lease ELSE a_ticket
            END
            RETURNING * INTO own;
    END IF;
    is_in := own.is_inside;
    -- Before the places: who is let in after this is noticed by gate_admit.
    SELECT gate.full_at, gate.admitted INTO full_at, admitted
        FROM {schema}.gate WHERE queue = a_queue;
    IF NOT FOUND THEN
        INSERT INTO {schema}.gate (queue) VALUES (a_queue) ON CONFLICT DO NOTHING;
        full_at := 0;
        admitted := 0;
    END IF;
    SELECT count(*) FILTER (WHERE is_inside),
            count(*) FILTER (WHERE NOT is_inside AND number < own.number)
        INTO inside, ahead
        FROM {schema}.place WHERE queue = a_queue AND until > now;
END $$;

-- Let one in; false, and nothing is written, if somebody was since it has asked. Without a
-- lease it needs no place.
CREATE FUNCTION {schema}.gate_admit(
    a_queue text, a_holder text, a_admitted bigint, a_full_at float8, a_lease float8
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    UPDATE {schema}.gate SET admitted = admitted + 1, full_at = a_full_at
        WHERE queue = a_queue AND admitted = a_admitted;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF a_lease IS NULL THEN
        DELETE FROM {schema}.place WHERE queue = a_queue AND holder = a_holder;
    ELSE
        PERFORM {schema}.gate_stay(a_queue, ARRAY[a_holder], a_lease);
    END IF;
    RETURN true;
END $$;

CREATE FUNCTION {schema}.gate_stay(
    a_queue text, a_holders text[], a_lease float8
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    INSERT INTO {schema}.place (queue, holder, is_inside, until)
        SELECT a_queue, asked.holder, true, {schema}.seconds() + a_lease
        FROM unnest(a_holders) AS asked (holder) ORDER BY asked.holder
        ON CONFLICT (queue, holder)
            DO UPDATE SET is_inside = true, until = excluded.until;
END $$;

CREATE FUNCTION {schema}.gate_leave(a_queue text, a_holder text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    DELETE FROM {schema}.place WHERE queue = a_queue AND holder = a_holder;
END $$;
