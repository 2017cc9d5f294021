"""Does the llama.cpp that was compiled at installation run on this processor?

It is compiled for the processor at hand, and pip keeps what it compiled: in a home folder that machines share, another one's build is
found later and ends the process with an illegal instruction. So does one with AMX as soon as PyTorch has used AMX in the same thread.
`make setup` asks here (`python -m labkit.serving.compiled`) and compiles anew where the answer is no.
"""

import subprocess
import sys

_TRIAL = """
import sys, llama_cpp, torch
model = llama_cpp.Llama(sys.argv[1], n_ctx=256, n_threads=2, verbose=False)
for _ in range(3):
    model.eval(list(range(100, 160)))
    model.eval([42])
    states = torch.ones(256, 256, dtype=torch.bfloat16)
    states @ states
"""


def problem() -> str | None:
    """What is wrong with it, or None; the embedded base reads and writes a few tokens in a process of its own, in turn with
    PyTorch (three seconds)."""
    from labkit import models
    from labkit.errors import LabError

    try:
        gguf = models.embedded_file(models.DEFAULT)
    except LabError as error:
        return str(error)
    done = subprocess.run([sys.executable, "-c", _TRIAL, str(gguf)], capture_output=True, text=True)
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        return f"the compiled llama.cpp does not run on this processor (signal {-done.returncode})"
    return f"llama.cpp cannot be loaded: {(done.stderr.strip().splitlines() or ['?'])[-1]}"


if __name__ == "__main__":
    found = problem()
    if found:
        print(found, file=sys.stderr)
    sys.exit(1 if found else 0)
