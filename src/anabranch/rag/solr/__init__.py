"""Apache Solr: an async client, its query language, and a store for passages."""

from anabranch.rag.solr.client import Commit, SolrClient
from anabranch.rag.solr.store import SolrStore

__all__ = ["Commit", "SolrClient", "SolrStore"]
