"""Python that the drill runs inside pods: it damages a file of the model and copies it back, stops and continues vLLM's engine."""

BACKUP = "drill-backup"
"""Folder in the store with the copy of the damaged file."""

_MODEL = f"""
import filecmp, pathlib, shutil, sys
model, backup = pathlib.Path("/store", sys.argv[1]), pathlib.Path("/store", "{BACKUP}")
"""

DAMAGE = (
    _MODEL
    + """
weights = max(model.glob("*.safetensors"), key=lambda file: file.stat().st_size)
backup.mkdir(exist_ok=True)
copy = backup / weights.name
if not copy.exists():
    shutil.copy2(weights, copy.with_suffix(".part"))
    copy.with_suffix(".part").rename(copy)
mode = weights.stat().st_mode
weights.chmod(0o644)
with weights.open("r+b") as file:
    file.seek(weights.stat().st_size // 2)
    byte = file.read(1)[0]
    file.seek(-1, 1)
    file.write(bytes([byte ^ 1]))
weights.chmod(mode)
print("one bit of", weights, "is flipped")
"""
)
"""Flips one bit in the largest file of weights, after it was copied. Its argument is the model's path in the store."""

RESTORE = (
    _MODEL
    + """
for copy in backup.glob("*.safetensors"):
    weights = model / copy.name
    if not filecmp.cmp(copy, weights, shallow=False):
        part = weights.with_suffix(".part")
        shutil.copy2(copy, part)
        part.rename(weights)
        print(weights, "is copied back")
"""
)
"""Copies the file back if it differs, in one step for whoever reads it. The copy stays until `FORGET`."""

FORGET = _MODEL + "shutil.rmtree(backup, ignore_errors=True)\n"
"""Removes the copy."""

_ENGINE = """
import os, pathlib, signal, sys, time, urllib.request
def engine():
    found = [int(each.name) for each in pathlib.Path("/proc").iterdir() if each.name.isdigit() and parent(each) == 1]
    return [pid for pid in found if pid != os.getpid()]
def parent(process):
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
def running():
    page = urllib.request.urlopen("http://127.0.0.1:8000/metrics", timeout=5).read().decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line.startswith("vllm:num_requests_running"))
def send(what):
    for pid in engine():
        os.kill(pid, what)
"""

STOP_ENGINE = (
    _ENGINE
    + """
end = time.monotonic() + 90
while time.monotonic() < end:
    if running():
        send(signal.SIGSTOP)
        time.sleep(3)
        if running():
            print("the engine is stopped with", running(), "requests running")
            sys.exit(0)
        send(signal.SIGCONT)
    time.sleep(0.1)
sys.exit("no request was running for 90 s")
"""
)
"""Stops the processes that vLLM's HTTP server started, while a request is being answered."""

CONTINUE_ENGINE = _ENGINE + "send(signal.SIGCONT)\n"
"""Lets them go on."""
