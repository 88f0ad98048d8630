"""Titan and Cohere on AWS Bedrock: botocore finds credentials and signs, aiohttp sends."""

from __future__ import annotations

import asyncio
import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias, cast
from urllib.parse import quote, urlsplit

from anabranch.errors import EmbeddingError, UsageError
from anabranch.jobs import Limiter, RateLimit, Retry
from anabranch.observe import Observer
from anabranch.rag.embedders.remote import (
    Kind,
    RemoteEmbedder,
    RequestLimits,
)
from anabranch.rag.service import check_address, json_object

Signer: TypeAlias = Callable[[str, bytes], Mapping[str, str]]
"""The headers that show who sends a POST of a JSON body to a URL. It may block."""


@dataclass(frozen=True, slots=True)
class Family:
    """Models that speak alike. ``dimensions``: those there are, the default first."""

    name: str
    dimensions: tuple[int, ...]
    limits: RequestLimits


_TITAN = RequestLimits(texts=1, tokens=8192, text_tokens=8192, characters=50_000)

# Source: Amazon Bedrock, user guide, "Inference request parameters": Titan text
# embeddings, Cohere Embed v3 and v4.
FAMILIES = (
    Family("titan-embed-text-v2", (1024, 512, 256), _TITAN),
    Family("titan-embed-text-v1", (1536,), _TITAN),
    Family(
        "cohere.embed-v4",
        (1536, 1024, 512, 256),
        RequestLimits(texts=96, tokens=128_000, text_tokens=128_000),
    ),
    Family(
        "cohere.embed-english-v3",
        (1024,),
        RequestLimits(texts=96, tokens=96 * 512, text_tokens=512, characters=2048),
    ),
    Family(
        "cohere.embed-multilingual-v3",
        (1024,),
        RequestLimits(texts=96, tokens=96 * 512, text_tokens=512, characters=2048),
    ),
)


class BedrockEmbedder(RemoteEmbedder):
    """A model of AWS Bedrock, asked by InvokeModel.

    Titan takes one text a request, so many requests run at once; Cohere takes up to 96
    and is told whether a text is a document or a question. What a model cannot read of a
    long text is cut off: behind 2,048 characters for Cohere v3, 50,000 for Titan.
    Throttling, time-outs and failures of the service are tried again.

    Use it as an async context manager. Credentials are looked for where AWS's own tools
    do, and renewed as these do.

    Args:
        model: A model's id, such as ``"amazon.titan-embed-text-v2:0"`` or
            ``"eu.cohere.embed-v4:0"``, or the ARN of an inference profile.
        region: Such as ``"eu-west-1"``; by default that of the profile or environment.
        profile: Of the AWS configuration files.
        family: What the model is, where its id does not say so: ``"cohere.embed-v4"``.
        dimensions: How long vectors shall be; by default the model's own.
        limits: What a request may hold; by default what Bedrock documents.
        url: Another endpoint than the region's.
        sign: Instead of botocore: the headers for a URL and a body.
        concurrency: Requests at once; by default 16 for Titan and 8 for Cohere.
        rate: What the account allows.
        retry: Tries in all, or a :class:`~anabranch.jobs.Retry`; by default five.
        timeout: Seconds to wait for a connection, and for each next sign of life.
        observer: Told how many tokens were used so far.

    Raises:
        UsageError: An argument cannot be meant, or there is no region.
        ImportError: The extra ``bedrock`` is not installed.
    """

    _remedies: ClassVar[Mapping[int | str, str]] = {
        "AccessDeniedException": "the identity may not invoke this model here: allow "
        "bedrock:InvokeModel, and ask for access to the model in this region",
        "ExpiredTokenException": "the credentials have run out: log in again",
        "InvalidSignatureException": "check the secret key, and this machine's clock",
        "ModelTimeoutException": "the model took too long: send fewer texts, or later",
        "ResourceNotFoundException": "check the model's id, and that the region has it",
        "ServiceQuotaExceededException": "ask AWS for a higher quota",
        "ThrottlingException": "give rate= or a lower concurrency=, or ask AWS for more",
        "UnrecognizedClientException": "the access key is not known: check credentials",
        "ValidationException": "check the model's id, its dimensions, and how long the "
        "texts are",
        403: "the identity may not invoke this model",
        404: "check the model's id, and that the region has it",
    }

    def __init__(
        self,
        model: str,
        *,
        region: str | None = None,
        profile: str | None = None,
        family: str | None = None,
        dimensions: int | None = None,
        limits: RequestLimits | None = None,
        url: str | None = None,
        sign: Signer | None = None,
        concurrency: int | None = None,
        rate: RateLimit | Limiter | None = None,
        retry: Retry | int | None = None,
        timeout: float = 60.0,
        observer: Observer | None = None,
    ) -> None:
        kin = _family(family or model)
        if dimensions is not None and dimensions not in kin.dimensions:
            those = " or ".join(map(str, kin.dimensions))
            raise UsageError(
                f"vectors of {kin.name} are of {those} numbers, not {dimensions}"
            )
        if sign is None:
            signer = AwsSigner(region, profile)
            region, sign = signer.region, signer
        if url is None:
            if region is None:
                raise UsageError("give region=, such as eu-west-1, or url=")
            if re.fullmatch(r"[a-z]{2}(-[a-z]+)+-\d+", region) is None:
                raise UsageError(f"{region!r} is not a region: give one such as eu-west-1")
            url = f"https://bedrock-runtime.{region}.amazonaws.com"
        check_address(url, "Bedrock", "https://bedrock-runtime.eu-west-1.amazonaws.com")
        if "@" in urlsplit(url).netloc:
            raise UsageError("url= of Bedrock has a login in it: give profile= instead")
        self._family = kin
        self._sign = sign
        base = url.rstrip("/")
        default = 16 if kin.limits.texts == 1 else 8
        super().__init__(
            model,
            url=f"{base}/model/{quote(model, safe='')}/invoke",
            shown_url=base,
            dimensions=dimensions or kin.dimensions[0],
            limits=limits or kin.limits,
            identity=("bedrock", base, kin.name),
            concurrency=default if concurrency is None else concurrency,
            rate=rate,
            retry=retry,
            timeout=timeout,
            observer=observer,
        )

    def _body(self, texts: Sequence[str], kind: Kind) -> Mapping[str, object]:
        match self._family.name:
            case "titan-embed-text-v1":
                return {"inputText": texts[0]}
            case "titan-embed-text-v2":
                return {
                    "inputText": texts[0],
                    "dimensions": self.dimensions,
                    "normalize": True,
                }
            case name:
                body = {"texts": list(texts), "input_type": f"search_{kind}"}
                if name != "cohere.embed-v4":
                    return {**body, "truncate": "END"}
                return {
                    **body,
                    "truncate": "RIGHT",
                    "embedding_types": ["float"],
                    "output_dimension": self.dimensions,
                }

    async def _headers(self, body: bytes) -> Mapping[str, str]:
        # Credentials that have run out are renewed over the network.
        return await asyncio.to_thread(self._sign, self._url, body)

    def _rows(self, data: Mapping[str, Any], count: int) -> Sequence[object]:
        if "embedding" in data:
            return [data["embedding"]]
        given = data.get("embeddings")
        if isinstance(given, dict):
            given = cast("dict[str, Any]", given).get("float")
        return cast("list[object]", given) if isinstance(given, list) else []

    def _usage(self, data: Mapping[str, Any], headers: Mapping[str, str]) -> int | None:
        count = data.get("inputTextTokenCount")
        if isinstance(count, int) and count >= 0:
            return count
        said = headers.get("x-amzn-bedrock-input-token-count", "")
        return int(said) if re.fullmatch(r"\d{1,15}", said) else None

    def _code(self, body: str, headers: Mapping[str, str]) -> str | None:
        # Such as ThrottlingException:http://internal.amazon.com/coral/com.amazon.bedrock/
        code = headers.get("x-amzn-ErrorType") or (json_object(body) or {}).get("__type")
        if not isinstance(code, str):
            return None
        return code.partition(":")[0].rpartition("#")[2] or None

    def _scrubbed(self, words: str) -> str:
        # What follows has the session's token in it.
        return words.partition("The Canonical String")[0].rstrip()


class AwsSigner:
    """Signs with SigV4, by botocore and with the credentials that it finds.

    Args:
        region: By default that of the profile or environment.
        profile: Of the AWS configuration files.

    Raises:
        ImportError: The extra ``bedrock`` is not installed.
        UsageError: There is no such profile, no region, or there are no credentials.
    """

    def __init__(self, region: str | None = None, profile: str | None = None) -> None:
        try:
            sessions: Any = importlib.import_module("botocore.session")
        except ModuleNotFoundError as error:
            raise ImportError(
                "BedrockEmbedder needs botocore: pip install 'anabranch[bedrock]'"
            ) from error
        exceptions: Any = importlib.import_module("botocore.exceptions")
        try:
            session = sessions.Session(profile=profile)
            found = region or session.get_config_variable("region")
            self._credentials: Any = session.get_credentials()
        except exceptions.BotoCoreError as error:
            raise UsageError(f"the AWS configuration cannot be used: {error}") from error
        if not found:
            raise UsageError(
                "there is no AWS region: give region=, such as eu-west-1, or set AWS_REGION"
            )
        if self._credentials is None:
            raise UsageError(
                "there are no AWS credentials: log in with AWS's tools, give profile=, or "
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        self.region: str = found

    def __call__(self, url: str, body: bytes) -> Mapping[str, str]:
        auth: Any = importlib.import_module("botocore.auth")
        requests: Any = importlib.import_module("botocore.awsrequest")
        request = requests.AWSRequest("POST", url, data=body)
        try:
            frozen = self._credentials.get_frozen_credentials()
        except Exception as error:  # of whichever way it finds credentials
            raise EmbeddingError(f"AWS credentials cannot be renewed: {error}") from error
        auth.SigV4Auth(frozen, "bedrock", self.region).add_auth(request)
        return dict(request.headers.items())


def _family(name: str) -> Family:
    for family in FAMILIES:
        if family.name in name:
            return family
    known = ", ".join(family.name for family in FAMILIES)
    raise UsageError(
        f"{name} is none of the models known here ({known}): give family=, if it is one"
    )
