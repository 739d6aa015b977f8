"""Builds the compiled kernels; everything else about the package is in pyproject.toml.

`fastgmm.kernels._pass` is one Cython module linked with plain C objects: the instruction-set dispatcher and
the tile kernels, whose single body (tiles.h) is compiled once per instruction set with flags of its own, so
that one binary runs everywhere and is fast where it can be. `fastgmm.kernels._linalg` is Cython alone: LAPACK
is reached through SciPy at run time, and nothing but Cython and a C compiler is needed to build.

Environment variables
---------------------
FASTGMM_REQUIRE_OPENMP=1     fail instead of building a serial library (set while building wheels)
FASTGMM_OPENMP_PREFIX=DIR    where include/omp.h and lib/libomp are (macOS, unusual places)
FASTGMM_SANITIZE=LIST        build with -fsanitize=LIST for `make sanitize`; never for use
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CompileError, LinkError

KERNELS = "src/fastgmm/kernels"

# Plain C objects of _pass: source -> value of -march, None for the compiler's base. Listed by name: a stray
# file must never end up in a build, nor a missing one go unnoticed.
ANYWHERE = {"dispatch.c": None, "tiles_base.c": None, "tiles_base_single.c": None}
ON_X86_64 = {
    "dispatch.c": None,
    "tiles_base.c": "x86-64-v2",
    "tiles_base_single.c": "x86-64-v2",
    "tiles_v3.c": "x86-64-v3",
    "tiles_v3_single.c": "x86-64-v3",
    "tiles_v4.c": "x86-64-v4",
    "tiles_v4_single.c": "x86-64-v4",
}

# No -ffast-math (NaN, inf and the order of sums matter here) and no -march=native (binaries travel).
# With -std=c11 contraction to fused multiply-add is off unless asked for.
C_FLAGS = [
    "-O3",
    "-std=c11",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-fvisibility=hidden",  # the objects of _pass talk to each other only
    "-Wno-psabi",  # vectors are passed between static functions only: their ABI is nobody's concern
]

NEEDS_VECTORS = """
typedef double doubles __attribute__((vector_size(32)));
typedef long long integers __attribute__((vector_size(32)));
void probe(doubles *a, const doubles *b, const integers *c)
{
    *a = __builtin_shufflevector(*a, *b, 0, 4, 2, 6) + __builtin_convertvector(*c, doubles);
}
"""
NEEDS_X86_64 = "#ifndef __x86_64__\n#error not x86-64: only the base kernels are built\n#endif\nint x86_64;\n"
NEEDS_OPENMP = """
#include <omp.h>
int main(void) {
    int total = 0;
    #pragma omp parallel for reduction(+:total)
    for (int i = 0; i < 100; i++) total += i;
    return total == 4950 && omp_get_max_threads() > 0 ? 0 : 1;
}
"""

NO_COMPILER = """fastgmm needs a C compiler that knows GCC's vector extensions (GCC >= 12 or Clang >= 12).
None was found, or it does not work: see its messages above, and set CC to choose another."""

NO_CLANG_CL = """fastgmm cannot be built by Microsoft's cl.exe alone: it has no GCC vector extensions.
Install clang-cl (LLVM, or Visual Studio's 'C++ Clang tools for Windows') and put its folder on PATH."""

NO_OPENMP = """
***********************************************************************************************
  fastgmm: the compiler cannot build OpenMP programs. fastgmm is being built WITHOUT THREADS:
  it will work, and use one core. Install OpenMP for your compiler (macOS: llvm-openmp, then set
  FASTGMM_OPENMP_PREFIX to its folder) and install fastgmm again.
***********************************************************************************************
"""


def in_kernels(names):
    """Paths of files of the kernels' folder, relative to this file as setuptools wants them."""
    return [f"{KERNELS}/{name}" for name in names]


def is_stale(target, sources):
    """Whether `target` is missing or older than one of `sources`."""
    return not os.path.exists(target) or os.path.getmtime(target) < max(map(os.path.getmtime, sources))


class BuildKernels(build_ext):
    """build_ext that probes the compiler and adds one object per instruction set to `_pass`."""

    def finalize_options(self):
        """Compile the extension modules side by side unless told otherwise."""
        super().finalize_options()
        if self.parallel is None:
            self.parallel = os.cpu_count() or 1

    def build_extensions(self):
        """Probe the compiler, translate Cython to C, compile the plain C objects, then build as usual."""
        # Every header is taken for a dependency of every object: there are few, and none must be forgotten.
        included = sorted(name for ending in ("h", "pxd", "pxi") for name in glob(f"{KERNELS}/*.{ending}"))
        depends = ["setup.py", *included]
        with self.vector_compiler():
            if not self.compiles(NEEDS_VECTORS):
                raise CompileError(NO_COMPILER)
            is_x86_64 = self.compiles(NEEDS_X86_64)
        objects = ON_X86_64 if is_x86_64 else ANYWHERE
        sanitize = os.environ.get("FASTGMM_SANITIZE", "")
        object_args = C_FLAGS + sanitizer_flags(sanitize)
        if is_x86_64:  # so that dispatch.c knows which tables are linked, and does not decide a second time
            object_args.append("-DFASTGMM_X86_64=1")
        compile_args, link_args = self.openmp_flags()
        if not self.is_msvc():
            compile_args = object_args + compile_args
        if sanitize:
            link_args.append(f"-fsanitize={sanitize}")
        self.force = self.force or self.settings_changed(object_args, compile_args, link_args, objects)

        for extension in self.extensions:
            extension.sources = self.translated(extension)
            extension.depends = depends
            extension.include_dirs = [KERNELS]
            extension.extra_compile_args = compile_args
            extension.extra_link_args = link_args
            if extension.name.endswith("._pass"):
                extension.extra_objects = self.compile_objects(objects, object_args, depends)
                # A changed C file must relink the module, whose own sources did not change.
                extension.depends = depends + in_kernels(objects)
        super().build_extensions()

    def translated(self, extension):
        """Run Cython, with its output among the temporary files and not beside the sources; the C files."""
        from Cython.Build import cythonize  # here: metadata commands must not need Cython

        (result,) = cythonize(
            [extension],
            build_dir=os.path.join(self.build_temp, "cython"),
            include_path=["src"],
            force=bool(self.force),
        )
        return result.sources

    def compile_objects(self, objects, arguments, depends):
        """Compile the plain C files of `_pass`, each for its own instruction set; their object files."""

        def compile_one(item):
            name, march = item
            source = f"{KERNELS}/{name}"
            (target,) = self.compiler.object_filenames([source], output_dir=self.build_temp)
            if self.force or is_stale(target, [source, *depends]):
                flags = self.spelled(arguments + ([f"-march={march}"] if march else []))
                self.compiler.compile([source], output_dir=self.build_temp, extra_postargs=flags)
            return target

        os.makedirs(os.path.join(self.build_temp, KERNELS), exist_ok=True)
        with self.vector_compiler(), ThreadPoolExecutor(max(1, int(self.parallel or 1))) as pool:
            return list(pool.map(compile_one, objects.items()))

    def settings_changed(self, *settings):
        """Whether what is in build_temp was built with other settings (setuptools compares dates only)."""
        settings = [list(getattr(self.compiler, "compiler_so", None) or [self.compiler.cc]), *settings]
        record = os.path.join(self.build_temp, "settings.json")
        text = json.dumps([*settings, sys.version])
        try:
            with open(record, encoding="utf-8") as file:
                changed = file.read() != text
        except FileNotFoundError:
            changed = True
        os.makedirs(self.build_temp, exist_ok=True)
        with open(record, "w", encoding="utf-8") as file:
            file.write(text)
        return changed

    # ---- what the compiler can do -------------------------------------------------------------------------

    def is_msvc(self):
        """Whether flags go through Microsoft's command line (clang-cl takes it too)."""
        return self.compiler.compiler_type == "msvc"

    def spelled(self, flags):
        """GCC's flags as the vector compiler takes them: clang-cl has them behind a prefix."""
        if not self.is_msvc():
            return list(flags)
        return ["/std:c11" if flag == "-std=c11" else f"/clang:{flag}" for flag in flags]

    @contextmanager
    def vector_compiler(self):
        """Compile with clang-cl instead of cl.exe inside this context; elsewhere one compiler does it all.

        The Cython modules stay with cl.exe: its OpenMP is the one that scikit-learn loads already, while
        clang-cl's would be a second one, and quarrel with the third that PyTorch brings.
        """
        if not self.is_msvc():
            yield
            return
        if not self.compiler.initialized:
            self.compiler.initialize(self.plat_name)
        clang_cl = shutil.which("clang-cl")
        if not clang_cl:
            raise CompileError(NO_CLANG_CL)
        saved = self.compiler.cc, self.compiler.compile_options
        self.compiler.cc = clang_cl
        # /GL would write cl.exe's own intermediate code.
        self.compiler.compile_options = [option for option in saved[1] if option != "/GL"]
        try:
            yield
        finally:
            self.compiler.cc, self.compiler.compile_options = saved

    def compiles(self, program, compile_args=(), link_args=None):
        """Whether `program` compiles, and links where `link_args` are given."""
        with tempfile.TemporaryDirectory() as folder:
            source = os.path.join(folder, "probe.c")
            with open(source, "w", encoding="utf-8") as file:
                file.write(program)
            try:
                objects = self.compiler.compile(
                    [source], output_dir=folder, extra_postargs=list(compile_args)
                )
                if link_args is not None:
                    self.compiler.link_executable(
                        objects, "probe", output_dir=folder, extra_postargs=list(link_args)
                    )
            except (BaseError, CompileError, LinkError):
                return False
        return True

    def openmp_flags(self):
        """Flags that compile and link OpenMP programs, or none with a warning that cannot be overlooked."""
        if self.is_msvc():
            compile_args, link_args = ["/openmp"], []
        elif sys.platform == "darwin":
            compile_args, link_args = ["-Xpreprocessor", "-fopenmp"], ["-lomp"]
            # Two copies of LLVM's runtime in a process abort it. scikit-learn's wheels bring one, which is
            # loaded already when ours is looked for: take that one wherever it is.
            link_args.append("-Wl,-rpath,@loader_path/../../sklearn/.dylibs")
        else:
            compile_args, link_args = ["-fopenmp"], ["-fopenmp"]
        prefix = os.environ.get("FASTGMM_OPENMP_PREFIX")
        if prefix:
            compile_args.append(f"-I{prefix}/include")
            link_args += [f"-L{prefix}/lib", f"-Wl,-rpath,{prefix}/lib"]
        if self.compiles(NEEDS_OPENMP, compile_args, link_args):
            return compile_args, link_args
        if os.environ.get("FASTGMM_REQUIRE_OPENMP", "0") not in ("", "0"):
            raise CompileError("FASTGMM_REQUIRE_OPENMP is set and the compiler cannot build OpenMP programs")
        print(NO_OPENMP, file=sys.stderr, flush=True)
        return [], []


def sanitizer_flags(sanitize):
    """Compiler flags of a sanitized build: readable reports, and undefined behaviour ends the program."""
    if not sanitize:
        return []
    flags = [f"-fsanitize={sanitize}", "-fno-omit-frame-pointer", "-g", "-O1"]
    return flags + (["-fno-sanitize-recover=undefined"] if "undefined" in sanitize.split(",") else [])


setup(
    ext_modules=[
        Extension("fastgmm.kernels._pass", in_kernels(["_pass.pyx"])),
        Extension("fastgmm.kernels._linalg", in_kernels(["_linalg.pyx"])),
        Extension("fastgmm.kernels._order", in_kernels(["_order.pyx"])),
        Extension("fastgmm.kernels._bytes", in_kernels(["_bytes.pyx"])),
        Extension("fastgmm.kernels._kmeans", in_kernels(["_kmeans.pyx"])),
    ],
    cmdclass={"build_ext": BuildKernels},
)
