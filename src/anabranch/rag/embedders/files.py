"""The files of models whose weights ship inside packages."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

from anabranch.errors import ModelError


def model_file(package: str, name: str, *, sha256: str, extra: str) -> Path:
    """The path of a file in an installed package, which is not imported.

    Raises:
        ImportError: The package is not installed; the sentence has the command.
        ModelError: The file is missing, or its digest is not the pinned one.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            f"this model needs the package {package}: pip install 'anabranch[{extra}]'"
        )
    path = Path(next(iter(spec.submodule_search_locations))) / name
    remedy = f"pip install --force-reinstall 'anabranch[{extra}]'"
    if not path.is_file():
        raise ModelError(f"{package} is installed without its file {name}: {remedy}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise ModelError(
            f"{name} of {package} has the SHA-256 {found}, not the pinned {sha256}: it is "
            f"another model, or damaged; {remedy}"
        )
    return path
