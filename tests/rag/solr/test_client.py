"""The client against a Solr on this machine, and what it does when Solr does not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from anabranch.errors import SolrError, UsageError
from anabranch.rag.solr import SolrClient
from anabranch.rag.solr.queries import local_params
from tests.rag.solr.double import Double, Planned
from tests.rag.solr.places import AT_ONCE, PLACES, opened


@asynccontextmanager
async def double(**options: Any) -> AsyncIterator[tuple[Double, SolrClient]]:
    solr = Double()
    async with (
        solr.serving() as url,
        SolrClient(url, **{"retry": AT_ONCE, **options}) as client,
    ):
        yield solr, client


async def ids(client: SolrClient, q: str = "*:*", **params: Any) -> list[str]:
    found = await client.select(q, fl=["id"], **params)
    return [doc["id"] for doc in found["response"]["docs"]]


@pytest.mark.parametrize("place", PLACES)
class TestAgainstEither:
    def test_what_is_added_is_found_after_a_commit_and_not_before(self, place: str) -> None:
        async def main() -> None:
            async with opened(place) as client:
                await client.add([{"id": "1", "a_s": "x"}])
                assert await ids(client) == []
                assert [doc["a_s"] for doc in await client.get(["1"])] == ["x"]
                await client.commit(soft=True)
                assert await ids(client) == ["1"]

        asyncio.run(main())

    def test_documents_are_selected_by_query_filter_and_page(self, place: str) -> None:
        async def main() -> None:
            async with opened(place) as client:
                docs = [{"id": str(n), "n_l": n, "even_b": n % 2 == 0} for n in range(9)]
                await client.add(docs, commit="soft")
                found = await client.select("n_l:[2 TO *]", fq=["even_b:true"], rows=2)
                assert found["response"]["numFound"] == 4
                assert len(found["response"]["docs"]) == 2
                rest = await ids(client, "n_l:[2 TO *]", fq=["even_b:true"], start=2)
                assert len(rest) == 2

        asyncio.run(main())

    def test_deleting_is_by_id_and_by_query(self, place: str) -> None:
        async def main() -> None:
            async with opened(place) as client:
                await client.add([{"id": n, "a_s": n} for n in "abc"], commit="soft")
                await client.delete_by_id(["a", "nobody"], commit="soft")
                await client.delete_by_query("a_s:b", commit="soft")
                assert await ids(client) == ["c"]

        asyncio.run(main())

    def test_a_document_is_changed_in_parts(self, place: str) -> None:
        async def main() -> None:
            async with opened(place) as client:
                await client.add([{"id": "1", "n_l": 1, "a_ss": ["x"]}], commit="soft")
                change = {"n_l": {"inc": 2}, "a_ss": {"add": ["y"]}, "b_s": {"set": "z"}}
                await client.add([{"id": "1", **change}], commit="soft")
                [doc] = await client.get(["1"])
                assert (doc["n_l"], doc["a_ss"], doc["b_s"]) == (3, ["x", "y"], "z")

        asyncio.run(main())

    def test_another_version_than_the_stored_one_is_a_conflict(self, place: str) -> None:
        async def main() -> None:
            async with opened(place) as client:
                await client.add([{"id": "1", "_version_": -1}])
                with pytest.raises(SolrError, match="version conflict for 1") as caught:
                    await client.add([{"id": "1", "_version_": -1}])
                assert caught.value.status == 409
                [doc] = await client.get(["1"])
                await client.add([{"id": "1", "_version_": doc["_version_"]}])
                with pytest.raises(SolrError, match="read it again"):
                    await client.add([{"id": "1", "_version_": doc["_version_"]}])

        asyncio.run(main())

    def test_commands_are_carried_out_in_their_order(self, place: str) -> None:
        async def main() -> None:
            async with opened(place) as client:
                commands: list[tuple[str, Any]] = [
                    ("add", {"doc": {"id": "1"}}),
                    ("delete", ["1"]),
                    ("add", {"doc": {"id": "2"}}),
                    ("add", {"doc": {"id": "3"}}),
                ]
                await client.update(commands, commit="soft")
                assert sorted(await ids(client)) == ["2", "3"]

        asyncio.run(main())

    def test_the_words_of_a_refusal_are_solrs(self, place: str) -> None:
        async def main() -> None:
            async with opened(place) as client:
                with pytest.raises(SolrError, match="undefined field nothing") as caught:
                    await client.select("nothing:x")
                assert caught.value.status == 400
                assert "SolrException" in caught.value.metadata["root-error-class"]
                with pytest.raises(SolrError, match="Cannot parse"):
                    await client.select("a_s:(")

        asyncio.run(main())

    def test_macros_in_users_words_stay_words(self, place: str) -> None:
        async def main() -> None:
            async with opened(place) as client:
                await client.add([{"id": "1", "a_t": "river"}], commit="soft")
                for words in ["${secret}", '${x:", "query": "*:*"}', "$secret"]:
                    params = {"words": words, "secret": "river", "qf": "a_t"}
                    q = local_params("edismax", v="$words")
                    assert await ids(client, q, params=params) == []

        asyncio.run(main())

    def test_a_schema_gets_a_field_once(self, place: str) -> None:
        async def main() -> None:
            async with opened(place) as client:
                schema = await client.schema()
                assert schema["uniqueKey"] == "id"
                field = {"name": "id", "type": "string"}
                with pytest.raises(SolrError, match="Field 'id' already exists"):
                    await client.change_schema([("add-field", field)])

        asyncio.run(main())

    def test_a_ping_is_answered(self, place: str) -> None:
        async def main() -> None:
            async with opened(place) as client:
                await client.ping()

        asyncio.run(main())


class TestUnderFaults:
    @pytest.mark.parametrize(
        "fault",
        [
            Planned(503, {"Retry-After": "0"}),
            Planned(429),
            Planned(502),
            Planned(504),
            Planned(is_cut=True),
            Planned(is_after=True),
        ],
        ids=["503", "429", "502", "504", "cut", "cut after"],
    )
    def test_what_may_happen_twice_is_tried_again(self, fault: Planned) -> None:
        async def main() -> None:
            async with double() as (solr, client):
                solr.planned = [fault]
                await client.add([{"id": "1"}], commit="soft")
                solr.planned = [fault]
                assert await ids(client) == ["1"]

        asyncio.run(main())

    @pytest.mark.parametrize(
        ("fault", "count"),
        [
            (Planned(503), 1),
            (Planned(429), 1),
            (Planned(502), None),
            (Planned(is_cut=True), None),
            (Planned(is_after=True), None),
        ],
        ids=["503", "429", "502", "cut", "cut after"],
    )
    def test_an_atomic_update_is_only_tried_again_if_nothing_happened(
        self, fault: Planned, count: int | None
    ) -> None:
        async def main() -> None:
            async with double() as (solr, client):
                solr.planned = [fault]
                doc = {"id": "1", "n_l": {"inc": 1}}
                if count is None:
                    with pytest.raises(SolrError):
                        await client.add([doc])
                    assert len(solr.requests) == 1
                else:
                    await client.add([doc])
                    assert solr.pending["1"]["n_l"] == count

        asyncio.run(main())

    def test_solr_is_asked_no_more_often_than_told(self) -> None:
        async def main() -> None:
            async with double() as (solr, client):
                solr.planned = [Planned(), Planned(), Planned()]
                with pytest.raises(SolrError, match="503 Service Unavailable") as caught:
                    await client.ping()
                assert len(solr.requests) == 3
                assert caught.value.status == 503
                assert "<html>" not in str(caught.value)

        asyncio.run(main())

    def test_a_longer_pause_than_is_waited_for_is_an_error_at_once(self) -> None:
        async def main() -> None:
            async with double() as (solr, client):
                solr.planned = [Planned(503, {"Retry-After": "3600"})]
                with pytest.raises(SolrError, match="try again later"):
                    await client.ping()
                assert len(solr.requests) == 1

        asyncio.run(main())

    def test_nobody_listening_is_a_sentence(self) -> None:
        async def main() -> None:
            async with double() as (solr, client):
                url = solr.url
            async with SolrClient(url, retry=AT_ONCE) as client:
                with pytest.raises(SolrError, match="is the server running"):
                    await client.ping()

        asyncio.run(main())

    def test_a_time_out_closes_the_connection_and_is_not_tried_again(self) -> None:
        async def main() -> None:
            async with double(timeout=0.05) as (solr, client):
                solr.planned = [Planned(hangs=True)]
                with pytest.raises(SolrError, match=r"no answer within 0\.05 s"):
                    await client.select()
                await solr.was_left.wait()
                assert len(solr.requests) == 1

        asyncio.run(main())

    def test_a_cancelled_call_closes_its_connection(self) -> None:
        async def main() -> None:
            async with double() as (solr, client):
                solr.planned = [Planned(hangs=True)]
                asking = asyncio.create_task(client.select())
                await solr.hanging.wait()
                asking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asking
                await solr.was_left.wait()
                assert await ids(client) == []

        asyncio.run(main())

    def test_an_answer_that_is_too_large_is_not_read_to_its_end(self) -> None:
        async def main() -> None:
            async with double(max_answer_bytes=10_000) as (_, client):
                await client.add([{"id": "1", "a_t": "x" * 20_000}], commit="soft")
                with pytest.raises(SolrError, match="larger than 10000 bytes"):
                    await client.select()
                assert await ids(client) == ["1"]

        asyncio.run(main())

    @pytest.mark.parametrize("body", ["<html>hello</html>", "[]", "{", "", "null"])
    def test_an_answer_that_is_not_solrs_is_an_error(self, body: str) -> None:
        async def main() -> None:
            async with double() as (solr, client):
                solr.planned = [Planned(200, body=body)]
                with pytest.raises(SolrError, match="the answer is not Solr's"):
                    await client.select()

        asyncio.run(main())

    def test_an_error_in_a_success_is_an_error(self) -> None:
        async def main() -> None:
            async with double() as (solr, client):
                body = json.dumps({"error": {"code": 400, "msg": "not so"}})
                solr.planned = [Planned(200, body=body)]
                with pytest.raises(SolrError, match="not so"):
                    await client.select()

        asyncio.run(main())

    @pytest.mark.parametrize(
        ("fault", "words"),
        [
            (Planned(404, body="<html>Not Found</html>"), "name of a core or a collection"),
            (Planned(403), "roles in security.json"),
            (Planned(413), "fewer documents"),
            (Planned(500, body='{"error": {"trace": "..."}}'), "look into Solr's log"),
            (Planned(302, {"Location": "http://elsewhere/"}), "Solr answered 302"),
        ],
        ids=["404", "403", "413", "500", "302"],
    )
    def test_a_refusal_says_what_to_do(self, fault: Planned, words: str) -> None:
        async def main() -> None:
            async with double() as (solr, client):
                solr.planned = [fault]
                with pytest.raises(SolrError, match=words):
                    await client.select()
                assert len(solr.requests) == 1

        asyncio.run(main())


class TestWhatIsSent:
    def test_a_user_and_a_password_are_sent_and_never_shown(self) -> None:
        async def main() -> None:
            async with double(auth=("ann", "s3cret:é")) as (solr, client):
                solr.auth = ("ann", "s3cret:é")
                await client.ping()
                solr.auth = ("ann", "another")
                with pytest.raises(SolrError, match="give auth=") as caught:
                    await client.ping()
                assert caught.value.status == 401
                assert "s3cret" not in str(caught.value) + repr(client)

        asyncio.run(main())

    def test_many_documents_go_in_several_requests(self) -> None:
        async def main() -> None:
            async with double() as (solr, client):
                docs = [{"id": str(n), "a_t": "x" * 1_000_000} for n in range(9)]
                await client.add(docs)
                assert len(solr.pending) == 9
                assert len(solr.requests) == 3

        asyncio.run(main())

    def test_commit_within_is_sent_in_milliseconds(self) -> None:
        async def main() -> None:
            async with double() as (solr, client):
                await client.add([{"id": "1"}], commit_within=1.5)
                solr.pass_time(1.4)
                assert await ids(client) == []
                solr.pass_time(0.1)
                assert await ids(client) == ["1"]

        asyncio.run(main())

    def test_nothing_is_expanded_even_where_solr_is_told_to(self) -> None:
        async def main() -> None:
            async with double() as (solr, client):
                await client.select("*:*", params={"words": '${x:"}} {'})
                [(_, body)] = solr.requests
                assert "${" not in body
                assert json.loads(body)["params"]["words"] == '${x:"}} {'

        asyncio.run(main())


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("localhost:8983/solr/a", {}),
        ("http://", {}),
        ("http://secret@localhost/solr/a", {}),
        ("http://localhost/solr/a?q=1", {}),
        ("http://localhost/solr/a", {"timeout": 0}),
        ("http://localhost/solr/a", {"retry": 0}),
    ],
)
def test_what_cannot_be_meant_is_refused(url: str, options: Mapping[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\S \S") as caught:  # a sentence
        SolrClient(url, **options)
    assert "secret" not in str(caught.value)


def test_a_client_that_is_not_open_says_so() -> None:
    with pytest.raises(RuntimeError, match="async with SolrClient"):
        asyncio.run(SolrClient("http://localhost/solr/a").ping())


def test_commit_within_is_a_time() -> None:
    async def main() -> None:
        async with SolrClient("http://localhost/solr/a") as client:
            await client.add([{"id": "1"}], commit_within=0)

    with pytest.raises(UsageError, match="commit_within is 0"):
        asyncio.run(main())
