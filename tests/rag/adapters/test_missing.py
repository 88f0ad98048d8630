"""What is said where the other library is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("library", "package"),
    [("llamaindex", "llama-index-core"), ("langchain", "langchain-core")],
)
def test_a_missing_library_is_named_with_its_command(library: str, package: str):
    program = (
        "import sys\n"
        "sys.modules['llama_index'] = sys.modules['langchain_core'] = None\n"
        f"try: import anabranch.rag.adapters.{library}\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout == (
        f"anabranch.rag.adapters.{library} needs {package}: pip install {package}\n"
    )
