"""Writes models small enough to be written by hand: no package for that is needed.

The model here is a cross-encoder of a kind. Each token has a number, and the score of a
pair is the sum of the numbers of the passage's tokens: ``sum(table[ids] * mask * types)``.

Source: ONNX, "onnx.proto" (fields by their numbers); Protocol Buffers, "Encoding".
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, processors

FLOAT, INT64 = 1, 7
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def write_model(
    folder: Path,
    words: dict[str, float],
    *,
    outputs: int = 1,
    inputs: Sequence[str] = ("input_ids", "attention_mask", "token_type_ids"),
) -> None:
    """``model.onnx`` and ``tokenizer.json`` of a model that scores words."""
    vocabulary = {word: n for n, word in enumerate([*SPECIAL, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    # What only fills up must not count.
    numbers = [100.0, 0.0, 0.0, 0.0, *words.values()]
    # Column 0 is "no" where there are two; in the others the same number stands.
    rows = [[n if c or outputs == 1 else -n for c in range(outputs)] for n in numbers]
    (folder / "model.onnx").write_bytes(_model(rows, inputs))


def _model(rows: Sequence[Sequence[float]], inputs: Sequence[str]) -> bytes:
    steps = [_node("Gather", ["table", inputs[0]], "found")]
    last = "found"
    for name in inputs[1:]:
        steps += [
            _node("Cast", [name], f"{name}_float", _integer("to", FLOAT)),
            _node("Unsqueeze", [f"{name}_float"], f"{name}_wide", _integers("axes", [2])),
            _node("Mul", [last, f"{name}_wide"], f"times_{name}"),
        ]
        last = f"times_{name}"
    steps.append(
        _node(
            "ReduceSum", [last], "logits", _integers("axes", [1]), _integer("keepdims", 0)
        )
    )
    flat = [n for row in rows for n in row]
    table = (
        _number(1, len(rows)) + _number(1, len(rows[0])) + _number(2, FLOAT)
        + _bytes(8, b"table") + _bytes(9, struct.pack(f"<{len(flat)}f", *flat))
    )  # fmt: skip
    graph = b"".join(_bytes(1, step) for step in steps) + _bytes(2, b"g") + _bytes(5, table)
    graph += b"".join(_bytes(11, _value(name, INT64, ["b", "s"])) for name in inputs)
    graph += _bytes(12, _value("logits", FLOAT, ["b", "o"]))
    return _number(1, 7) + _bytes(7, graph) + _bytes(8, _number(2, 12))


def _node(kind: str, inputs: Sequence[str], output: str, *attributes: bytes) -> bytes:
    found = b"".join(_bytes(1, name.encode()) for name in inputs)
    found += _bytes(2, output.encode()) + _bytes(4, kind.encode())
    return found + b"".join(_bytes(5, attribute) for attribute in attributes)


def _integer(name: str, value: int) -> bytes:
    return _bytes(1, name.encode()) + _number(3, value) + _number(20, 2)


def _integers(name: str, values: Sequence[int]) -> bytes:
    return (
        _bytes(1, name.encode()) + b"".join(_number(8, n) for n in values) + _number(20, 7)
    )


def _value(name: str, kind: int, axes: Sequence[str]) -> bytes:
    shape = b"".join(_bytes(1, _bytes(2, axis.encode())) for axis in axes)
    tensor = _number(1, kind) + _bytes(2, shape)
    return _bytes(1, name.encode()) + _bytes(2, _bytes(1, tensor))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
