"""Runs a command; its wall time and peak memory as JSON. Only the standard library.

  timed.py OUT.json COMMAND...
"""
import json
import resource
import subprocess
import sys
import time

begun = time.perf_counter()
status = subprocess.run(sys.argv[2:]).returncode
seconds = time.perf_counter() - begun
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as out:
    json.dump({"seconds": seconds, "cpu_seconds": usage.ru_utime + usage.ru_stime, "peak_memory_mb": usage.ru_maxrss * 1024 / 1e6}, out)
sys.exit(status)
