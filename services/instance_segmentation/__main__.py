"""`python -m services.instance_segmentation`: finds objects, their boxes and their masks."""

from perception.v1 import instance_segmentation_pb2_grpc as stubs
from perception.v1 import task_pb2

from services.instance_segmentation.servicer import InstanceSegmentationServicer
from services.runtime.task_service import serve_task


def main() -> None:
    """Serves until SIGTERM."""
    serve_task(
        task_pb2.TASK_INSTANCE_SEGMENTATION,
        "perception.v1.InstanceSegmentationService",
        "Finds objects, their boxes and their masks.",
        lambda runtime, server: stubs.add_InstanceSegmentationServiceServicer_to_server(
            InstanceSegmentationServicer(runtime), server
        ),
    )


if __name__ == "__main__":
    main()
