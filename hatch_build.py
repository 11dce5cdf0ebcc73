"""Build the kernel (`src/music_generator/engine/kernel.c`) beside its source, and name the wheel after its platform.

The compiler is ziglang, a Python package, so no other need be installed; it compiles for every platform of the table.
`KERNEL_TARGET=macosx-arm64` builds a wheel for another platform, `KERNEL_TARGET=none` one without a kernel. Where there
is no kernel, or it cannot be built, the NumPy reference generates the same music more slowly.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("src/music_generator/engine")
# platform: zig's name of it, the ending of a library, the wheel's tag. The library needs no libc, so any will do
PLATFORMS = {
    "linux-x86_64": ("x86_64-linux-gnu.2.17", "so", "manylinux2014_x86_64.musllinux_1_1_x86_64"),
    "linux-aarch64": ("aarch64-linux-gnu.2.17", "so", "manylinux2014_aarch64.musllinux_1_1_aarch64"),
    "macosx-x86_64": ("x86_64-macos.11.0", "dylib", "macosx_11_0_x86_64"),
    "macosx-arm64": ("aarch64-macos.11.0", "dylib", "macosx_11_0_arm64"),
    "win-amd64": ("x86_64-windows-gnu", "dll", "win_amd64"),
    "wasm32": ("wasm32-freestanding", "wasm", ""),  # for a page; not in a wheel
}
SYSTEMS = {"Linux": "linux", "Darwin": "macosx", "Windows": "win"}
VARIANTS = {
    "x86": {
        "ssse3": ["-mssse3", "-DCONTRACT"],
        "avx2": ["-mavx2"],
        "vnni": ["-mavx2", "-mavx512f", "-mavx512vl", "-mavx512vnni", "-mprefer-vector-width=256"],
    },
    "arm": {"neon": ["-DCONTRACT"], "dotprod": ["-mcpu=generic+dotprod"]},
    "wasm": {"simd128": ["-msimd128", "-DCONTRACT"]},
}
FLAGS = [
    "-O3", "-std=c11", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-ffp-contract=off", "-fno-math-errno",
    "-fvisibility=hidden",
]  # fmt: skip
LINK = {
    "win": ["-shared", "-s"],  # Windows needs an entry from its C library
    "wasm": ["-nostdlib", "-s", "-Wl,--no-entry", "-Wl,--export-dynamic", "-Wl,--export=__heap_base"],
    "": ["-shared", "-s", "-nostdlib"],
}


def this_platform() -> str:
    """Return this machine's platform as the table names it."""
    return f"{SYSTEMS.get(platform.system(), platform.system())}-{platform.machine().lower()}"


def compile_kernel(target: str, folder: Path, compiler: list[str], out: Path | None = None) -> Path:
    """Compile the kernel in `folder` and return the library, in `out` or beside its source.

    Raises:
        CalledProcessError, OSError: it cannot be compiled.
    """
    zig_target, ending, _ = PLATFORMS[target]
    system = next((name for name in ("win", "wasm") if target.startswith(name)), "")
    library = (out or folder) / f"libkernel.{ending}"
    kind = system if system == "wasm" else "x86" if target.endswith(("x86_64", "amd64")) else "arm"
    with tempfile.TemporaryDirectory() as scratch:
        caches = dict.fromkeys(("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"), scratch)

        def run(*arguments: str | Path) -> None:
            subprocess.run(
                [*compiler, "-target", zig_target, *map(str, arguments)], check=True, env=os.environ | caches
            )

        objects = []
        for vectors, flags in VARIANTS[kind].items():
            objects.append(Path(scratch) / f"{vectors}.o")
            run("-c", *FLAGS, *([] if system else ["-fPIC"]), *flags, f"-DVECTORS={vectors}", "-o", objects[-1],
                folder / "kernel.c")  # fmt: skip
        run(*LINK[system], "-o", Path(scratch) / library.name, *objects)
        beside = library.with_name(f".{library.name}")
        beside.write_bytes((Path(scratch) / library.name).read_bytes())
        beside.replace(library)  # the old one may be in use
    return library


class KernelHook(BuildHookInterface):  # type: ignore[misc]
    """Build the kernel for wheels and for editable installations."""

    def initialize(self, _version: str, build_data: dict[str, Any]) -> None:
        """Build the kernel and put it into the wheel."""
        folder = Path(self.root) / FOLDER
        for left in ("so", "dylib", "dll", "wasm"):
            (folder / f"libkernel.{left}").unlink(missing_ok=True)
        target = os.environ.get("KERNEL_TARGET") or this_platform()
        if target not in PLATFORMS or target == "wasm32":
            self.app.display_warning(f"no kernel for {target} : NumPy generates, more slowly")
            return
        try:
            library = compile_kernel(target, folder, [sys.executable, "-m", "ziglang", "cc"])
        except (OSError, subprocess.CalledProcessError) as error:
            self.app.display_warning(f"the kernel could not be built, so NumPy generates, more slowly: {error}")
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{PLATFORMS[target][2]}"
        build_data["artifacts"].append(str(library.relative_to(self.root)))
