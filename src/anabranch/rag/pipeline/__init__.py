"""Bringing a store up to date with sources: read, split, embed, store, all at once."""

from anabranch.rag.pipeline.pipeline import Pipeline
from anabranch.rag.pipeline.report import Report

__all__ = ["Pipeline", "Report"]
