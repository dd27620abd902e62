"""The services of the system, each a process of its own."""

import os

# gRPC's own log lines are no JSON and would stand between ours, as many as a caller likes: it writes one for every
# compressed message. Set it to ERROR to see them. It reads this when it is first imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
