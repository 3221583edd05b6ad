"""Texts that nobody would write: policies damaged by byte, by line, by word, and made up from the schema."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

_WORD = re.compile(rb"[A-Za-z0-9_.*/${}%-]+|[\[\]{}:,#&*!|>'\"-]|\s+")
_NAMES = ("a", "b", "chat", "own", "gdpr", "a/ci")
_TOKENS = (
    *(b"[ ] { } : , - # & * ! | > ' \" ? % @ ` << ~ null true false no on 0 1 -1 012 1e9 .5 .inf .nan 1_000".split()),
    *(b"2s 800ms 30d 99.9% 2k 2M $1.50 eu-* zero unknown sha256: ${ ${} ${A} ${KEY} $ is mode shadow enforce".split()),
    *(b"version targets models tenants routes auth lane model match require want region limits key keys time".split()),
    *(b"mon-fri 09:00-18:00 24:00-24:01 Europe/Berlin ../../etc/passwd http:// https://[::1 //h:99999999/v1".split()),
    b"\t", b"  ", b"\r", b"\r\n", b"\n---\n", b"\n...\n", b"\xef\xbb\xbf", b"\x00", b"\x85", b"\xc2\x85", b"\xff\xfe",
    b"\xe2\x80\xa8", b"\xf0\x9f\x92\xa5", b"\xed\xa0\x80", b"9" * 400, b"[" * 60, b"{a: " * 60, b"- " * 60, b"&a [*a]",
)  # fmt: skip
_LEAVES: tuple[Any, ...] = (
    0, 1, -1, 5, 64, 1.5, 10**17, True, False, "", " ", "x", "${KEY}", "${MISSING}", "eu-*", "zero", "30d", "2s", "9%",
    "2k", "shared", "dedicated", "shadow", [], {}, [[]], {"is": []}, {"is": {"is": 1}}, {"mode": "shadow"}, "9" * 200,
)  # fmt: skip


class Mutator:
    """Makes texts out of `texts`, the same ones for the same `chance`."""

    def __init__(self, texts: Sequence[bytes], schema: Mapping[str, Any], chance: random.Random) -> None:
        self._texts = texts
        self._schema = schema
        self._chance = chance
        self._trees = [tree for text in texts if isinstance(tree := _tree(text), dict)]

    def text(self) -> bytes:
        """One more text."""
        ways = (self._bytes, self._lines, self._words, self._words, self._trees_mixed, self._sampled)
        return self._chance.choice(ways)()

    def _repeatedly(self, change: Callable[[bytearray], None]) -> bytes:
        text = bytearray(self._chance.choice(self._texts))
        for _ in range(self._chance.choice((1, 1, 1, 2, 3, 8))):
            change(text)
        return bytes(text)

    def _bytes(self) -> bytes:
        def change(text: bytearray) -> None:
            at, length = self._chance.randrange(len(text) + 1), self._chance.choice((0, 1, 1, 2, 7, 60))
            kind = self._chance.randrange(5)
            if kind == 0:
                text[at : at + length] = b""
            elif kind == 1:
                text[at:at] = self._chance.randbytes(length)
            elif kind == 2:
                text[at : at + length] = self._chance.randbytes(length)
            elif kind == 3:
                text[at:at] = text[at : at + length]
            else:
                del text[at:]

        return self._repeatedly(change)

    def _lines(self) -> bytes:
        def change(text: bytearray) -> None:
            lines = text.splitlines(keepends=True) or [bytearray(b"\n")]
            other = self._chance.choice(self._texts).splitlines(keepends=True) or [b"\n"]
            at, kind = self._chance.randrange(len(lines)), self._chance.randrange(6)
            if kind == 0:
                del lines[at]
            elif kind == 1:
                lines[at:at] = [lines[self._chance.randrange(len(lines))]]
            elif kind == 2:
                lines[at] = bytearray(b" " * self._chance.randrange(9)) + lines[at].lstrip(b" ")
            elif kind == 3:
                lines[at:at] = [bytearray(line) for line in other[at : at + self._chance.randrange(1, 6)]]
            elif kind == 4:
                lines[at] = bytearray(self._chance.choice(other))
            else:
                lines[at] = lines[at].rstrip(b"\n") + bytearray(self._chance.choice(other))
            text[:] = b"".join(lines)

        return self._repeatedly(change)

    def _words(self) -> bytes:
        def change(text: bytearray) -> None:
            words = [match.span() for match in _WORD.finditer(text)] or [(0, 0)]
            begin, end = self._chance.choice(words)
            from_, to = self._chance.choice(words)
            token = bytes(text[from_:to]) if self._chance.random() < 0.4 else self._chance.choice(_TOKENS)
            if self._chance.random() < 0.25:
                end = begin
            text[begin:end] = token

        return self._repeatedly(change)

    def _trees_mixed(self) -> bytes:
        tree = self._chance.choice(self._trees)
        for _ in range(self._chance.choice((1, 1, 2, 4))):
            tree = self._grafted(tree, 0)
        return self._dumped(tree)

    def _grafted(self, tree: Any, depth: int) -> Any:
        """The tree with one part replaced: by a leaf, by nothing, or by a part of another tree."""
        if not isinstance(tree, dict | list) or not tree or self._chance.random() < 0.1 + 0.1 * depth:
            return self._chance.choice((self._chance.choice(_LEAVES), self._part(self._chance.choice(self._trees))))
        if isinstance(tree, list):
            at = self._chance.randrange(len(tree))
            return [*tree[:at], self._grafted(tree[at], depth + 1), *tree[at + 1 :]]
        key = self._chance.choice(list(tree))
        changed = dict(tree)
        kind = self._chance.randrange(8)
        if kind == 0:
            changed[self._chance.choice((*_NAMES, "mode", "is", key.upper(), f"{key}s"))] = changed.pop(key)
        elif kind == 1:
            del changed[key]
        else:
            changed[key] = self._grafted(tree[key], depth + 1)
        return changed

    def _part(self, tree: Any) -> Any:
        while isinstance(tree, dict | list) and tree and self._chance.random() < 0.7:
            tree = self._chance.choice(list(tree.values()) if isinstance(tree, dict) else tree)
        return tree

    def _sampled(self) -> bytes:
        return self._dumped(self._sample(self._schema, 0))

    def _sample(self, schema: Any, depth: int) -> Any:
        """A value that mostly fits `schema`."""
        chance = self._chance
        if schema is False or chance.random() < 0.015:
            return chance.choice(_LEAVES)
        if "$ref" in schema:
            return self._sample(self._schema["$defs"][schema["$ref"].rpartition("/")[2]], depth)
        if "examples" in schema and chance.random() < 0.8:
            return chance.choice(schema["examples"])
        if "anyOf" in schema:
            return self._sample(chance.choice(schema["anyOf"][:1] * 3 + schema["anyOf"]), depth)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return chance.choice(schema["enum"])
        if schema.get("type") == "array":
            return [self._sample(schema["items"], depth + 1) for _ in range(chance.choice((1, 1, 2, 3, 0)))]
        if schema.get("type") == "object":
            return self._sampled_mapping(schema, depth)
        if schema.get("type") == "boolean":
            return chance.random() < 0.5
        if schema.get("type") == "string":
            return chance.choice((*_NAMES, *_NAMES, *_LEAVES))
        return chance.randrange(1, 99)

    def _sampled_mapping(self, schema: Any, depth: int) -> dict[str, Any]:
        chance, properties = self._chance, schema.get("properties", {})
        wanted = [name for name in properties if chance.random() < (0.9 if depth == 0 else 0.15)]
        wanted += [name for name in schema.get("required", ()) if chance.random() < 0.99]
        made = {name: self._sample(properties[name], depth + 1) for name in dict.fromkeys(wanted)}
        if isinstance(schema.get("additionalProperties"), dict):
            names = chance.sample(_NAMES, chance.randrange(1, 4))
            made |= {name: self._sample(schema["additionalProperties"], depth + 1) for name in names}
        return made

    def _dumped(self, tree: Any) -> bytes:
        flow = self._chance.choice((True, False, None))
        dumped: str = yaml.dump(tree, Dumper=_Dumper, default_flow_style=flow, sort_keys=False, allow_unicode=True)
        return dumped.encode()


class _Dumper(yaml.CSafeDumper):
    """Writes no anchors: a part that stands in two places is written twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _tree(text: bytes) -> Any:
    try:
        return yaml.load(text, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, ValueError):
        return None
