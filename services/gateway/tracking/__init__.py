"""Trackers follow things from frame to frame. They differ in how they tell who is who."""

from services.gateway.tracking.base import Observation, Track, Tracker
from services.gateway.tracking.byte_track import ByteTracker

__all__ = ["ByteTracker", "Observation", "Track", "Tracker"]
