"""The API's messages and gRPC stubs, generated from `protos/perception/v1`."""
