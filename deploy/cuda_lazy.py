"""Stand-ins for the CUDA libraries at link time: cuda_lazy.py CUDARC_SOURCES FOLDER WORK

For each library that cudarc calls, FOLDER gets lib<name>.a with all its functions. Each jumps to the real one, which is looked
up by dlopen at its first call; where the library is missing, it returns the library's own error status instead.
"""

import pathlib
import re
import subprocess
import sys

# cudarc's module, the file names to try, the status of a missing library
LIBRARIES = {
    "cuda": ("driver", ["libcuda.so.1"], 100),  # CUDA_ERROR_NO_DEVICE
    "cublas": ("cublas", ["libcublas.so.13"], 1),  # CUBLAS_STATUS_NOT_INITIALIZED
    "cublasLt": ("cublaslt", ["libcublasLt.so.13"], 1),
    "curand": ("curand", ["libcurand.so.10"], 203),  # CURAND_STATUS_INITIALIZATION_FAILED
    "nvrtc": ("nvrtc", ["libnvrtc.so.13"], 11),  # NVRTC_ERROR_INTERNAL_ERROR
}

FINDER = r"""
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

void *@lib@_places[@count@];
static const char *const functions[] = { @functions@ };
static const unsigned char gives_text[] = { @gives_text@ };
static const char *const files[] = { @files@ };
static void *library;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void open_library(void) {
    for (unsigned i = 0; i < sizeof files / sizeof *files && !library; i++) library = dlopen(files[i], RTLD_NOW | RTLD_LOCAL);
}

static long missing_status(void) { return @status@; }
static const char *missing_text(void) { return "@file@ is missing"; }

/* The function to jump to; every thread that finds it finds the same. */
void *@lib@_find(unsigned index) {
    pthread_once(&once, open_library);
    void *found = library ? dlsym(library, functions[index]) : 0;
    if (library && !found) fprintf(stderr, "%s has no function %s\n", files[0], functions[index]);
    if (!found) found = gives_text[index] ? (void *)missing_text : (void *)missing_status;
    __atomic_store_n(&@lib@_places[index], found, __ATOMIC_RELEASE);
    return found;
}
"""

# A first call keeps all registers that hold arguments, asks for the function and goes on to it.
FIRST_CALL = """
    .text
@lib@_first_call:
    push %rdi; push %rsi; push %rdx; push %rcx; push %r8; push %r9
    sub $136, %rsp
@save@
    mov %eax, %edi
    call @lib@_find
    mov %rax, %r11
@restore@
    add $136, %rsp
    pop %r9; pop %r8; pop %rcx; pop %rdx; pop %rsi; pop %rdi
    jmp *%r11
    .section .note.GNU-stack, "", @progbits
    .text
"""

FUNCTION = """
    .globl @name@
    .type @name@, @function
@name@:
    mov @lib@_places + 8 * @index@(%rip), %r11
    mov $@index@, %eax
    test %r11, %r11
    je @lib@_first_call
    jmp *%r11
    .size @name@, . - @name@
"""


def fill(template, **values):
    """The template with every @key@ replaced."""
    return re.sub(r"@(\w+)@", lambda match: str(values[match.group(1)]), template)


def functions_of(source):
    """The functions that a module of cudarc links, each with whether it returns a text."""
    declared = re.findall(r'extern "C" \{\s*fn (\w+)\([^;]*?\)\s*(->[^;]+)?;', source)
    found = {name: "c_char" in result for name, result in declared}
    return sorted(found.items())


def build(lib, module, files, status, sources, folder, work):
    functions = functions_of((sources / "src" / module / "sys" / "mod.rs").read_text())
    if not functions:
        sys.exit(f"cuda_lazy.py: no functions found in cudarc's {module}: is this a version that it was not written for?")
    finder = fill(
        FINDER,
        lib=lib,
        count=len(functions),
        functions=", ".join(f'"{name}"' for name, _ in functions),
        gives_text=", ".join(str(int(text)) for _, text in functions),
        files=", ".join(f'"{file}"' for file in files),
        file=files[0],
        status=status,
    )
    registers = [f"%xmm{i}, {16 * i}(%rsp)" for i in range(8)]
    save = "\n".join(f"    movups {each}" for each in registers)
    restore = "\n".join("    movups {1}, {0}".format(*each.split(", ")) for each in registers)
    assembly = fill(FIRST_CALL.replace("@progbits", "%progbits"), lib=lib, save=save, restore=restore)
    for index, (name, _) in enumerate(functions):
        assembly += fill(FUNCTION.replace("@function", "%function"), lib=lib, name=name, index=index)
    objects = []
    for name, text in ((f"{lib}_finder.c", finder), (f"{lib}_functions.s", assembly)):
        source = work / name
        source.write_text(text)
        objects.append(source.with_suffix(".o"))
        subprocess.run(["cc", "-O1", "-fPIC", "-c", source, "-o", objects[-1]], check=True)
    archive = folder / f"lib{lib}.a"
    archive.unlink(missing_ok=True)
    subprocess.run(["ar", "rcs", archive, *objects], check=True)
    print(f"lib{lib}.a: {len(functions)} functions")


def main():
    sources, folder, work = map(pathlib.Path, sys.argv[1:])
    for lib, (module, files, status) in LIBRARIES.items():
        build(lib, module, files, status, sources, folder, work)


main()
