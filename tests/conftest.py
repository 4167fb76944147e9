"""One thread for each test process: several with two threads on two cores spend their time waiting for each other."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
