"""How fuzzers spoil what is good: bytes and JSON, by chance that a seed repeats."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

_ODD_NUMBERS = (0, -1, 1, 255, 1 << 31, (1 << 63) - 1, -(1 << 63), 10**30, 1.5, -0.0, 1e308)
_ODD_TEXTS = ("", "\0", "\n", "..", "../../x", "/etc/passwd", "\ud800", "ä€😀", "%00", "x" * 5000, "'\"<>&;`$(", "NaN")


def spoil(data: bytes, chance: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """Change some bytes: flipped, cut, doubled, moved, or taken from others."""
    spoilt = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        place = chance.randrange(len(spoilt) + 1)
        length = chance.choice((1, 1, 2, 4, 16, 100))
        match chance.randrange(8):
            case 0 if place < len(spoilt):
                spoilt[place] ^= 1 << chance.randrange(8)
            case 1 if place < len(spoilt):
                spoilt[place] = chance.choice((0, 9, 10, 13, 32, 127, 255, chance.randrange(256)))
            case 2:
                del spoilt[place : place + length]
            case 3:
                spoilt[place:place] = spoilt[place : place + length]
            case 4:
                spoilt[place:place] = chance.randbytes(length)
            case 5:
                del spoilt[place:]
            case 6 if others:
                other = chance.choice(others)
                start = chance.randrange(len(other) + 1)
                spoilt[place:place] = other[start : start + length]
            case _:
                spoilt[place:place] = spoilt[place : place + 1] * chance.choice((10, 1000))
    return bytes(spoilt)


def odd_value(chance: random.Random, depth: int = 3) -> Any:
    """Some value of JSON, rarely the one that is expected."""
    kind = chance.randrange(7 if depth else 5)
    makers: Sequence[Callable[[], Any]] = (
        lambda: None,
        lambda: chance.random() < 0.5,
        lambda: chance.choice(_ODD_NUMBERS),
        lambda: chance.choice(_ODD_TEXTS),
        lambda: str(chance.getrandbits(64)),
        lambda: [odd_value(chance, depth - 1) for _ in range(chance.randrange(4))],
        lambda: {chance.choice(_ODD_TEXTS): odd_value(chance, depth - 1) for _ in range(chance.randrange(4))},
    )
    return makers[kind]()


def spoil_value(value: Any, chance: random.Random) -> Any:
    """Change a value of JSON somewhere in it."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        name = chance.choice(list(value))
        match chance.randrange(6):
            case 0:
                return {key: each for key, each in value.items() if key != name}
            case 1:
                return value | {chance.choice((name.upper(), name + "x", chance.choice(_ODD_TEXTS))): value[name]}
            case _:
                return value | {name: spoil_value(value[name], chance)}
    if isinstance(value, list) and value and chance.random() < 0.9:
        place = chance.randrange(len(value))
        match chance.randrange(4):
            case 0:
                return value[:place] + value[place + 1 :]
            case 1:
                return value[: place + 1] + value[place:]
            case _:
                return [*value[:place], spoil_value(value[place], chance), *value[place + 1 :]]
    return odd_value(chance)


def spoil_json(data: bytes, chance: random.Random) -> bytes:
    """Change a document of JSON: its values mostly, its bytes now and then."""
    if chance.random() < 0.3:
        return spoil(data, chance)
    value = json.loads(data)
    for _ in range(chance.choice((1, 1, 2, 4))):
        value = spoil_value(value, chance)
    return json.dumps(value, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
