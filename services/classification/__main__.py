"""`python -m services.classification`: names what a picture, or a region of it, shows."""

from perception.v1 import classification_pb2_grpc as stubs
from perception.v1 import task_pb2

from services.classification.servicer import ClassificationServicer
from services.runtime.task_service import serve_task


def main() -> None:
    """Serves until SIGTERM."""
    serve_task(
        task_pb2.TASK_CLASSIFICATION,
        "perception.v1.ClassificationService",
        "Names what a picture, or a region of it, shows.",
        lambda runtime, server: stubs.add_ClassificationServiceServicer_to_server(
            ClassificationServicer(runtime), server
        ),
    )


if __name__ == "__main__":
    main()
