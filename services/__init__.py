"""The services of the system, each a process of its own."""

import os

# gRPC's own log lines are no JSON and would stand between ours; it reads this when it is first imported.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
