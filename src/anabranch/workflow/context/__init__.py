"""The context of a run, the state in it, and how both are written down."""

from anabranch.workflow.context.context import Context
from anabranch.workflow.context.serializers import (
    BaseSerializer,
    JsonPickleSerializer,
    JsonSerializer,
    PickleSerializer,
)
from anabranch.workflow.context.state_store import (
    DictState,
    InMemoryStateStore,
    StateStore,
)

__all__ = [
    "BaseSerializer",
    "Context",
    "DictState",
    "InMemoryStateStore",
    "JsonPickleSerializer",
    "JsonSerializer",
    "PickleSerializer",
    "StateStore",
]
