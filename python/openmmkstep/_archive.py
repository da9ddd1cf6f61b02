"""Model files as archives: what must be right before torch, which trusts what it reads, sees them.

A model file is a ZIP archive. torch does not compare checksums, and crashes on some files that are not what it wrote.
So the archive's structure, the checksums, the pickled data and the extents of all tensors are checked here first. Nothing
of the file is run: pickles are read by a reader that knows only stand-ins.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
import struct
import zipfile
import zlib

_MAX_CODE_BYTES = 64_000_000  # all compressed entries together: a model's code has some 10 kB
_MAX_NESTING = 200  # of brackets in code; torch's parser is recursive
# What zipfile raises on damaged archives; NotImplementedError and RuntimeError are of flags that the damage has set.
_ARCHIVE_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    ValueError,
    EOFError,
    OSError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
)
# Code that could write files, or that torch would run while it loads the model. TorchModel.cpp has the same.
_FORBIDDEN = re.compile(r"__setstate__|[.]\s*(save|from_file)\b")
_COMMON = r"byteorder|\.data/(version|serialization_id)|extra/[\w.-]+"
_SCRIPT = re.compile(
    rf"{_COMMON}|data\.pkl|constants\.pkl|version|\.format_version|\.storage_alignment|(data|constants)/\d+"
    r"|code/[\w/.<>-]+\.py(\.debug_pkl)?"
)
_PACKAGE = re.compile(rf"{_COMMON}|archive_format|archive_version|data/aotinductor/model/[\w.-]+\.(so|json)")
_ITEM_SIZES = {
    "DoubleStorage": 8,
    "LongStorage": 8,
    "ComplexFloatStorage": 8,
    "ComplexDoubleStorage": 16,
    "FloatStorage": 4,
    "IntStorage": 4,
    "HalfStorage": 2,
    "BFloat16Storage": 2,
    "ShortStorage": 2,
    "CharStorage": 1,
    "ByteStorage": 1,
    "BoolStorage": 1,
}
_OPCODES = frozenset(
    "PROTO STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINUNICODE "
    "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS GLOBAL REDUCE BUILD "
    "NEWOBJ BINPUT LONG_BINPUT BINGET LONG_BINGET BINPERSID".split()
)


class Archive:
    """The entries of a model file whose structure and checksums are right.

    Parameters
    ----------
    data : bytes
        of the file
    name : str or path
        what messages call it

    Raises
    ------
    ValueError
        If the bytes are no model file, or one that was truncated, damaged or tampered with.
    """

    def __init__(self, data: bytes, name):
        self.name = name
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
            self._check_entries(len(data))
            bad = self._zip.testzip()
        except _ARCHIVE_ERRORS as e:
            raise ValueError(self._complaint(e)) from e
        if bad is not None:
            raise ValueError(self._complaint(f"wrong checksum of {bad}"))
        self.isNative = "archive_format" in self.entries

    def _complaint(self, reason) -> str:
        return f"'{self.name}' is not a TorchScript file, or it is truncated or corrupt ({reason})."

    def _check_entries(self, size: int) -> None:
        infos = self._zip.infolist()
        names = [info.filename for info in infos]
        roots = {n.split("/")[0] for n in names}
        if len(roots) != 1 or not roots.pop().strip(".") or len(set(names)) != len(names):
            raise ValueError("its entries are not in one folder, or occur twice")
        self.entries = {}
        for info in infos:
            inner = info.filename.partition("/")[2]
            if ".." in inner.split("/") or "\\" in inner or "\0" in info.orig_filename or not inner:
                raise ValueError(f"an entry has the path {info.filename!r}")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
                raise ValueError(f"{info.filename} is packed in another way than torch does")
            if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
                raise ValueError(f"{info.filename} has two sizes")
            self.entries[inner] = info
        if sum(info.compress_size for info in infos) > size:
            raise ValueError("its entries overlap")
        if sum(info.file_size for info in infos if info.compress_type == zipfile.ZIP_DEFLATED) > _MAX_CODE_BYTES:
            raise ValueError(f"its compressed entries would take more than {_MAX_CODE_BYTES} bytes")

    def read(self, entry: str) -> bytes:
        """The content of an entry; KeyError if there is none of this name."""
        return self._zip.read(self.entries[entry])

    def check_content(self) -> None:
        """Raise ValueError unless every entry is one that torch writes for a model, and the data is consistent."""
        kind = _PACKAGE if self.isNative else _SCRIPT
        for entry in self.entries:
            if not kind.fullmatch(entry):
                raise ValueError(
                    f"'{self.name}' holds {entry!r}, which is no part of a model. Write models with openmmkstep.saveModel()."
                )
        if self.isNative:
            return
        if not {"data.pkl", "constants.pkl"} <= set(self.entries) or not any(
            e.startswith("code/") for e in self.entries
        ):
            raise ValueError(
                f"'{self.name}' is not a TorchScript file: it has no code of a model. What torch.save() writes is no model file; "
                "use openmmkstep.saveModel()."
            )
        for entry in self.entries:
            if entry.endswith("pkl"):
                self._check_pickle(entry)
            elif entry.endswith(".py"):
                self._check_code(entry)

    def _check_pickle(self, entry: str) -> None:
        content = self.read(entry)
        try:
            for count, (opcode, argument, _) in enumerate(pickletools.genops(content)):
                if opcode.name not in _OPCODES:
                    raise ValueError(f"it uses {opcode.name}")
                if "PUT" in opcode.name and argument > count:
                    raise ValueError(f"its memo has a gap at {argument}")
            _Reader(self, entry, content).load()
        except RecursionError as e:
            raise ValueError(f"'{self.name}' has damaged or foreign data in {entry} (it is nested too deep).") from e
        except Exception as e:  # a damaged pickle can do anything that the stand-ins can
            raise ValueError(f"'{self.name}' has damaged or foreign data in {entry} ({e}).") from e

    def _check_code(self, entry: str) -> None:
        code = self.read(entry).decode(errors="replace")
        found = _FORBIDDEN.search(code)
        if found:
            raise ValueError(
                f"The code of the model '{self.name}' contains '{found.group()}', which a model of energies and forces has no use "
                "for and which could write files. It is not loaded. If it is the name of a submodule, rename that."
            )
        depth = deepest = 0
        for character in code:
            depth += (character in "([{") - (character in ")]}")
            deepest = max(deepest, depth)
        if deepest > _MAX_NESTING:
            raise ValueError(
                f"'{self.name}' has brackets nested {deepest} deep in {entry}, which is no code of a model."
            )


class _Reader(pickle.Unpickler):
    """Reads what torch pickles with stand-ins for all classes, and checks that tensors lie inside their storages."""

    def __init__(self, archive: Archive, entry: str, content: bytes):
        super().__init__(io.BytesIO(content))
        self.archive, self.entry = archive, entry

    def find_class(self, module: str, name: str):
        if module == "__torch__" or module.startswith("__torch__."):
            return type(name, (), {})
        if module == "torch" and name in _ITEM_SIZES:
            return name
        if module == "torch._utils" and name == "_rebuild_tensor_v2":
            return _check_tensor
        if module == "collections" and name == "OrderedDict":
            return dict
        if module == "torch.jit._pickle":
            return {
                "build_intlist": list,
                "build_doublelist": list,
                "build_boollist": list,
                "build_tensorlist": list,
                "restore_type_tag": _first,
            }[name]
        raise ValueError(f"it names {module}.{name}")

    def persistent_load(self, pid):
        kind, storage, key, device, count = pid
        entry = f"{'constants' if self.entry == 'constants.pkl' else 'data'}/{key}"
        if kind != "storage" or device != "cpu" or not isinstance(count, int) or count < 0:
            raise ValueError(f"it has a storage of the kind {kind!r} on {device!r}")
        if self.archive.entries[entry].file_size != count * _ITEM_SIZES[storage]:
            raise ValueError(f"{entry} has another size than is said here")
        return count


def _first(value, _tag):
    return value


def _check_tensor(count: int, offset: int, size, stride, *_):
    values = (count, offset, *size, *stride)
    if not all(type(v) is int and v >= 0 for v in values) or len(size) != len(stride):
        raise ValueError("a tensor has a shape that is none")
    if 0 not in size and offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) >= max(count, 1):
        raise ValueError("a tensor reaches beyond its data")
    if math.prod(size) > max(count, 1):
        raise ValueError("a tensor has more elements than data")
    return None
