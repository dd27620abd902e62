"""`python -m services.semantic_segmentation`: gives every pixel a class."""

from perception.v1 import semantic_segmentation_pb2_grpc as stubs
from perception.v1 import task_pb2

from services.runtime.task_service import serve_task
from services.semantic_segmentation.servicer import SemanticSegmentationServicer


def main() -> None:
    """Serves until SIGTERM."""
    serve_task(
        task_pb2.TASK_SEMANTIC_SEGMENTATION,
        "perception.v1.SemanticSegmentationService",
        "Gives every pixel a class.",
        lambda runtime, server: stubs.add_SemanticSegmentationServiceServicer_to_server(
            SemanticSegmentationServicer(runtime), server
        ),
    )


if __name__ == "__main__":
    main()
