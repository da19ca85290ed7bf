import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
KEPT = """
import os, threading
from pathlib import Path
from billing.ingest.malloc import reuse_freed_blocks

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024**2

def work():
    for _ in range(4):
        blocks = [bytes([1]) * (3 * 1024**2) for _ in range(12)]
        # what is freed last lies at the end, and would hold all that lies before it
        last = bytes([1]) * 1000
        del blocks
    kept.append(last)

kept, before = [], resident()
with reuse_freed_blocks():
    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    held = resident() - before
print(held, resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries than GNU's have no such settings")
def test_what_is_free_is_kept_for_the_next_block_and_given_back_at_the_end() -> None:
    done = subprocess.run([sys.executable, "-c", KEPT], cwd=ROOT, capture_output=True, text=True, check=True)
    while_working, after = map(int, done.stdout.split())
    assert while_working >= 30
    assert after <= 10
