"""A pickle machine that never imports or calls what a pickle names.

A pickle is a program for a small stack machine. Two of its instructions are dangerous: one imports any object of any
module by name, the other calls it. This machine has neither: a name becomes a :class:`Name`, and a call becomes a
:class:`Made`, a record of the name and the arguments. A name that is not allowed, and all that is made with it, becomes
:class:`Forbidden`, which only has the name. So even a malicious pickle gives only strings, numbers, containers and
records, which the reader interprets.

The instructions are those that Python writes for data since protocol 2 (Lib/pickletools.py of CPython). Others
(persistent ids, extension codes, old-style instances, out-of-band buffers) are errors.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

__all__ = ["NOTHING", "Forbidden", "ForbiddenName", "Made", "Name", "UnreadablePickle", "run"]

NOTHING: Final = object()
"""The state of objects without state."""

_PLAIN_KEYS = (str, bytes, int, float, bool, type(None))
"""Allowed keys of dicts: hashing them is fast and cannot overflow the stack."""


class UnreadablePickle(Exception):  # noqa: N818 - a message that says why, turned into a DataError by its caller
    """These bytes are not a whole pickle, or not one of data."""


class ForbiddenName(UnreadablePickle):
    """What is read needs a name that is not allowed."""


class Name(NamedTuple):
    """The name of a class or function in a pickle. It is not imported."""

    module: str
    name: str


@dataclass(slots=True, eq=False)
class Made:
    """A record of a call that was not made: its name, its arguments, and the state to set on the result."""

    name: Name
    args: tuple[Any, ...]
    state: Any = NOTHING


@dataclass(slots=True, eq=False, frozen=True)
class Forbidden:
    """What stands for a name that is not allowed, and for all that is made with it. It is never imported or called."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


def run(data: bytes, admitted: Container[tuple[str, str]]) -> object:
    """Run a pickle, and return its result.

    Parameters
    ----------
    data
        The bytes.
    admitted
        The allowed names, as (module, name).

    Returns
    -------
    object
        Strings, bytes, numbers, None, lists, tuples, dicts, :class:`Name`, :class:`Made` and, for other names and for
        sets, :class:`Forbidden`. Their size is proportional to that of ``data``.

    Raises
    ------
    UnreadablePickle
        If it is truncated, damaged, older than protocol 2, or has other instructions than those for data.
    """
    machine = _Machine(data, admitted)
    try:
        return machine.run()
    except (IndexError, KeyError) as error:
        raise UnreadablePickle("an instruction refers to a missing object") from error
    except UnicodeDecodeError as error:
        raise UnreadablePickle("a string is not UTF-8") from error


class _Machine:
    """The bytes, the position in them, the stack, the positions of its marks, and the numbered memory."""

    __slots__ = ("admitted", "at", "data", "marks", "memory", "stack")

    def __init__(self, data: bytes, admitted: Container[tuple[str, str]]) -> None:
        self.data, self.admitted, self.at = data, admitted, 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memory: dict[int, Any] = {}

    def run(self) -> object:
        if self.data[:1] != b"\x80":
            raise UnreadablePickle("it does not start as pickles since protocol 2 do")
        data, instructions = self.data, _INSTRUCTIONS
        while (code := data[self.at]) != _STOP:
            self.at += 1
            instruction = instructions[code]
            if instruction is None:
                raise UnreadablePickle(f"instruction {bytes([code])!r} at byte {self.at - 1} is none that data need")
            instruction(self)
        if len(self.stack) != 1 or self.marks:
            raise UnreadablePickle("it leaves more, or less, than one object")
        return self.stack[0]

    def take(self, n: int) -> bytes:
        start, self.at = self.at, self.at + n
        if self.at > len(self.data):
            raise UnreadablePickle(f"it ends before the {n} bytes that it announces at byte {start}")
        return self.data[start : self.at]

    def number(self, layout: struct.Struct) -> Any:
        return layout.unpack(self.take(layout.size))[0]

    def text(self, n: int) -> None:
        self.stack.append(self.take(n).decode())

    def line(self) -> str:
        end = self.data.find(b"\n", self.at)
        if end < 0:
            raise UnreadablePickle("it ends within a name")
        return self.take(end + 1 - self.at)[:-1].decode()

    def above_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def refer(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise UnreadablePickle("a name is not a string")
        self.stack.append(Name(module, name) if (module, name) in self.admitted else Forbidden(module, name))

    def call(self, function: object, args: object) -> None:
        if isinstance(function, Forbidden):
            self.stack.append(function)
            return
        if not isinstance(function, Name) or not isinstance(args, tuple):
            raise UnreadablePickle("it calls something without a name")
        if function.name != "getattr":
            self.stack.append(Made(function, args))
        elif len(args) == 2 and isinstance(args[0], Name):
            self.refer(".".join(args[0]), args[1])  # an attribute is a name too, which must be allowed
        elif args and isinstance(args[0], Forbidden):
            self.stack.append(args[0])
        else:
            raise UnreadablePickle("it gets an attribute of something without a name")

    def call_with_names(self, function: object, args: object, named: object) -> None:
        if not isinstance(function, Forbidden):
            raise UnreadablePickle(f"it calls something with named arguments ({type(named).__name__})")
        self.call(function, args)

    def protocol(self) -> None:
        version = self.number(_U1)
        if self.at != 2 or not 2 <= version <= 5:
            raise UnreadablePickle(f"protocol {version} is unknown, or given twice")

    def memoize(self, index: int) -> None:
        self.memory[index] = self.stack[-1]

    def recall(self) -> None:
        """Push objects from memory, in a loop over consecutive instructions, which make up most of a string column."""
        data, at, memory, push, place = self.data, self.at - 1, self.memory, self.stack.append, _U4.unpack_from
        while True:
            if data[at] == _RECALL:
                push(memory[data[at + 1]])
                at += 2
            elif data[at] == _RECALL_FAR and at + 5 <= len(data):
                push(memory[place(data, at + 1)[0]])
                at += 5
            elif at < self.at:
                raise UnreadablePickle("it ends within an instruction")
            else:
                break
        self.at = at

    def extend(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], Forbidden):
            return
        if type(self.stack[-1]) is not list:
            raise UnreadablePickle("it appends to something other than a list")
        self.stack[-1].extend(items)

    def put(self, items: list[Any]) -> None:
        keys, target = items[::2], self.stack[-1]
        if isinstance(target, Forbidden):
            return
        if type(target) is not dict or len(items) % 2 or not all(isinstance(key, _PLAIN_KEYS) for key in keys):
            raise UnreadablePickle("a dict has invalid keys")
        target.update(zip(keys, items[1::2], strict=True))

    def last(self, n: int) -> list[Any]:
        return [self.stack.pop() for _ in range(n)][::-1]

    def build(self) -> None:
        state, made = self.stack.pop(), self.stack[-1]
        if isinstance(made, Forbidden):
            return
        if not isinstance(made, Made) or made.state is not NOTHING:
            raise UnreadablePickle("it sets the state of an object without one, or twice")
        made.state = state


_U1, _U2, _I4, _U4, _U8, _F8 = (struct.Struct(code) for code in ("<B", "<H", "<i", "<I", "<Q", ">d"))
_STOP, _RECALL, _RECALL_FAR = b".hj"
_SET = Forbidden("builtins", "set")


def _instructions() -> dict[bytes, Callable[[_Machine], object]]:
    return {
        b"\x80": _Machine.protocol,
        b"\x95": lambda m: m.take(8),  # FRAME, which only helps readers of files
        b"(": lambda m: m.marks.append(len(m.stack)),
        b"0": lambda m: m.stack.pop(),
        b"1": lambda m: m.above_mark(),
        # constants
        b"N": lambda m: m.stack.append(None),
        b"\x88": lambda m: m.stack.append(True),
        b"\x89": lambda m: m.stack.append(False),
        b"K": lambda m: m.stack.append(m.number(_U1)),
        b"M": lambda m: m.stack.append(m.number(_U2)),
        b"J": lambda m: m.stack.append(m.number(_I4)),
        b"G": lambda m: m.stack.append(m.number(_F8)),
        b"\x8a": lambda m: m.stack.append(int.from_bytes(m.take(m.number(_U1)), "little", signed=True)),
        b"\x8c": lambda m: m.text(m.number(_U1)),
        b"X": lambda m: m.text(m.number(_U4)),
        b"\x8d": lambda m: m.text(m.number(_U8)),
        b"C": lambda m: m.stack.append(m.take(m.number(_U1))),
        b"B": lambda m: m.stack.append(m.take(m.number(_U4))),
        b"\x8e": lambda m: m.stack.append(m.take(m.number(_U8))),
        b"\x96": lambda m: m.stack.append(m.take(m.number(_U8))),  # a bytearray, which is never modified here
        # containers
        b")": lambda m: m.stack.append(()),
        b"\x85": lambda m: m.stack.append(tuple(m.last(1))),
        b"\x86": lambda m: m.stack.append(tuple(m.last(2))),
        b"\x87": lambda m: m.stack.append(tuple(m.last(3))),
        b"t": lambda m: m.stack.append(tuple(m.above_mark())),
        b"]": lambda m: m.stack.append([]),
        b"a": lambda m: m.extend(m.last(1)),
        b"e": lambda m: m.extend(m.above_mark()),
        b"}": lambda m: m.stack.append({}),
        b"s": lambda m: m.put(m.last(2)),
        b"u": lambda m: m.put(m.above_mark()),
        b"\x8f": lambda m: m.stack.append(_SET),
        b"\x90": lambda m: m.extend(m.above_mark()),
        b"\x91": lambda m: (m.above_mark(), m.stack.append(_SET)),
        b"q": lambda m: m.memoize(m.number(_U1)),
        b"r": lambda m: m.memoize(m.number(_U4)),
        b"\x94": lambda m: m.memoize(len(m.memory)),
        b"h": _Machine.recall,
        b"j": _Machine.recall,
        # names and calls
        b"c": lambda m: m.refer(m.line(), m.line()),
        b"\x93": lambda m: m.refer(*m.last(2)),
        b"R": lambda m: m.call(*m.last(2)),
        b"\x81": lambda m: m.call(*m.last(2)),
        b"\x92": lambda m: m.call_with_names(*m.last(3)),
        b"b": _Machine.build,
    }


_INSTRUCTIONS: tuple[Callable[[_Machine], object] | None, ...] = tuple(
    _instructions().get(bytes([code])) for code in range(256)
)
