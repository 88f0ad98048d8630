"""Where jobs run when not on the event loop: threads, processes, other machines."""

from anabranch.jobs.executors.choice import executor_of
from anabranch.jobs.executors.dispatcher import Dispatcher
from anabranch.jobs.executors.processes import ProcessExecutor
from anabranch.jobs.executors.protocol import Executor, Reply, RunsSource
from anabranch.jobs.executors.ray import RayExecutor
from anabranch.jobs.executors.threads import ThreadExecutor

__all__ = [
    "Dispatcher",
    "Executor",
    "ProcessExecutor",
    "RayExecutor",
    "Reply",
    "RunsSource",
    "ThreadExecutor",
    "executor_of",
]
