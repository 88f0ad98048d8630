"""Bringing a store up to date with sources: read, split, embed, store, all at once."""

from anabranch.rag.pipeline.report import Report
from anabranch.rag.pipeline.run import Pipeline

__all__ = ["Pipeline", "Report"]
