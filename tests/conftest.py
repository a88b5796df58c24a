"""Settings for all tests; they are set before NumPy is imported, here and in the worker processes of pytest-xdist."""

import atexit
import os
import shutil
import tempfile

# The matrix products of the tests are small: two threads of each of two workers wait for each other. Lesson 23 took
# 50 s that way, and takes 5 s with one thread.
for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ["MPLBACKEND"] = "Agg"
if "NUMBA_CACHE_DIR" not in os.environ:  # the home of who runs the tests is left alone
    os.environ["NUMBA_CACHE_DIR"] = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, os.environ["NUMBA_CACHE_DIR"], ignore_errors=True)

import hypothesis  # noqa: E402

# on a loaded machine any example may take longer than the 200 ms that are the default
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")
