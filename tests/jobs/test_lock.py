"""One writer at a time, and no lock outlives its holder."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bmdkit.errors import LockedError
from bmdkit.jobs import lock

HOLD = """
import sys, time
from pathlib import Path
from bmdkit.jobs import lock
with lock.hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_holder_is_refused_until_the_first_lets_go(tmp_path):
    with lock.hold(tmp_path):
        assert lock.is_held(tmp_path)
        with pytest.raises(LockedError) as caught, lock.hold(tmp_path):
            pass
        assert caught.value.exit_code == 5
    assert not lock.is_held(tmp_path)
    with lock.hold(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_dead_holder_s_lock_is_reclaimed(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    with holder.stdout:
        assert holder.stdout.readline() == "held\n"
        assert lock.is_held(tmp_path)
        with pytest.raises(LockedError), lock.hold(tmp_path):
            pass
        holder.kill()
        holder.wait()
    with lock.hold(tmp_path):
        pass


def test_shards_share_a_folder_with_each_other_but_not_with_a_whole_run(tmp_path):
    with lock.hold(tmp_path, shard=(1, 2)):
        with lock.hold(tmp_path, shard=(2, 2)):
            pass
        for other in ((1, 2), None):
            with pytest.raises(LockedError), lock.hold(tmp_path, shard=other):
                pass
    with lock.hold(tmp_path), pytest.raises(LockedError), lock.hold(tmp_path, shard=(1, 2)):
        pass
