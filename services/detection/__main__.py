"""`python -m services.detection`: finds objects and their boxes."""

from perception.v1 import detection_pb2_grpc as stubs
from perception.v1 import task_pb2

from services.detection.servicer import DetectionServicer
from services.runtime.task_service import serve_task


def main() -> None:
    """Serves until SIGTERM."""
    serve_task(
        task_pb2.TASK_DETECTION,
        "perception.v1.DetectionService",
        "Finds objects and their boxes.",
        lambda runtime, server: stubs.add_DetectionServiceServicer_to_server(DetectionServicer(runtime), server),
    )


if __name__ == "__main__":
    main()
