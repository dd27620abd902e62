"""The whole system as a camera sees it: a stream through its gateway, judged by the identities of the things in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from queue import SimpleQueue

from perception import Frame, PerceptionError, StreamAnswer
from perception import Segment as FoundSegment
from perception.caller import Caller

from models.datasets.sample import Dataset, DatasetError, Sample, Segment
from models.evaluation.average_precision import CocoObject
from models.evaluation.overlays import Picture, draw_objects
from models.evaluation.result import EvaluationError, Findings
from models.evaluation.subjects.connection import CALL_SECONDS, GatewayConnection, failed_tasks
from models.evaluation.subjects.subject import Subject
from models.evaluation.timeline import FilmTimelines, timeline
from models.evaluation.tracking_accuracy import Identified, TrackedFrame, tracking_accuracy

Things = tuple[FoundSegment, ...]

TRACKED, UNTRACKED = "", "_without_tracker"
"""Endings of the metrics' names."""

_IDENTITIES: dict[str, Callable[[FoundSegment], int | None]] = {
    TRACKED: lambda segment: segment.track.id if segment.track else None,
    UNTRACKED: lambda segment: segment.id,
}

_COLOURS = (
    (230, 60, 60),
    (60, 170, 60),
    (70, 110, 240),
    (230, 190, 40),
    (190, 80, 220),
    (50, 200, 210),
    (240, 130, 40),
)
"""Of identities, over and over."""


class TrackingSubject(Subject[Things]):
    """The gateway at `address` with its tracker; every video of the data set is a stream of its own.

    Tracks move by the data set's own clock. Each frame is sent when the one before is answered, so that the gateway has
    to drop none.

    What counts: of the truth every thing that the data set labels in a frame, also where others hide most of it, with
    the box around its visible pixels, but for crowds and for categories that the system's taxonomy lacks. Of the answer
    every thing that has a track, of any category. The same answers are judged without the tracker, too: by the ids of
    the scenes' segments, which count from 1 in each frame, and there all things count, as all have such an id. A thing
    that is found where the truth has nothing, or too little to be labelled, is wrong.

    Raises:
        EvaluationError: nothing answers there, or a task of the system is not ready.
    """

    model = ""

    def __init__(self, address: str, dataset: Dataset, caller: Caller) -> None:
        self._gateway = GatewayConnection(address, caller)
        self._categories = {category.name for category in self._gateway.categories}
        self._answered: dict[int, Things] = {}
        self._failures: list[str] = []
        self._films: dict[str, dict[str, list[TrackedFrame]]] = {suffix: defaultdict(list) for suffix in _IDENTITIES}
        self._image_ids: dict[str, list[int]] = defaultdict(list)

    def ask(self, sample: Sample) -> Things:
        """What the stream answered: without the frames before it, a frame has no identities."""
        return self._answered[sample.image_id]

    def answers(self, dataset: Dataset) -> Iterator[tuple[Sample, Things]]:
        """All samples in their order with the things found in them; a frame without a scene is remembered as failed.

        Raises:
            DatasetError: the data set is not one of videos.
            EvaluationError: the gateway does not take the stream, or goes away.
        """
        samples = (dataset[index] for index in range(len(dataset)))
        for _, film in groupby(samples, _video):
            for sample, answer in self._stream(film):
                if failure := _failure(answer):
                    self._failures.append(f"{sample.file_name}: {failure}")
                segments = answer.scene.panoptic.segments if answer.scene else ()
                self._answered[sample.image_id] = tuple(segment for segment in segments if segment.is_thing)
                yield sample, self._answered[sample.image_id]

    def add(self, sample: Sample, answer: Things) -> None:
        """Collect a frame of its video. Raises `DatasetError` for a thing without identity."""
        video, truth = _video(sample), self._truth(sample)
        self._image_ids[video].append(sample.image_id)
        for suffix, identity in _IDENTITIES.items():
            self._films[suffix][video].append(TrackedFrame(truth, _identified(answer, identity)))

    def findings(self) -> Findings:
        """HOTA, DetA, AssA and IDF1 with the tracker and without it, and how often identities were switched."""
        if self._failures:
            raise EvaluationError(
                f"{len(self._failures)} of {len(self._answered)} frames were not perceived as they should be, "
                f"{self._failures[0]}"
            )
        accuracies = {suffix: tracking_accuracy(list(films.values())) for suffix, films in self._films.items()}
        timelines = tuple(
            FilmTimelines(video, timeline(self._films[TRACKED][video]), timeline(self._films[UNTRACKED][video]))
            for video in self._image_ids
        )
        return Findings(
            metrics={
                f"{name}{suffix}": value
                for suffix, accuracy in accuracies.items()
                for name, value in accuracy.metrics.items()
            },
            by_category={category: self._of_category(category) for category in self._occurring()},
            # Nothing has a track in a stream's first frame, so that it would always be the worst.
            frame_scores={
                image_id: float(score)
                for film in timelines
                for image_id, score in zip(self._image_ids[film.name][1:], film.tracked.frame_scores[1:], strict=True)
            },
            counts={f"identity_switches{suffix}": accuracy.switches for suffix, accuracy in accuracies.items()},
            timelines=timelines,
            notes=self._notes(),
        )

    def draw(self, sample: Sample, answer: Things) -> tuple[Picture, Picture]:
        """Boxes with category and identity, in a colour for each identity; of the answer those that have a track."""
        return (
            _drawn(sample.image, self._truth(sample)),
            _drawn(sample.image, _identified(answer, _IDENTITIES[TRACKED])),
        )

    def _stream(self, film: Iterable[Sample]) -> Iterator[tuple[Sample, StreamAnswer]]:
        frames: SimpleQueue[Frame | None] = SimpleQueue()
        answers = self._gateway.client.stream(
            iter(frames.get, None), camera="evaluation", deadline=CALL_SECONDS, max_in_flight=1, track=True
        )
        sent = None
        try:
            # The next picture is made while the gateway is at work on the one before.
            for sample in film:
                if sent is not None:
                    yield sent, next(answers)
                frames.put(Frame(sample.image, position=_seconds(sample)))
                sent = sample
            if sent is not None:
                yield sent, next(answers)
        except PerceptionError as error:
            raise EvaluationError(f"stream of frames: {error.code.name}: {error}") from error
        finally:
            frames.put(None)
            answers.close()

    def _truth(self, sample: Sample) -> tuple[Identified, ...]:
        return tuple(
            Identified(_track_of(segment, sample), segment.category, segment.box)
            for segment in sample.things
            if segment.category in self._categories and not segment.is_crowd
        )

    def _occurring(self) -> list[str]:
        """The categories that the truth has."""
        films = self._films[TRACKED].values()
        return sorted({thing.category for film in films for frame in film for thing in frame.truth})

    def _of_category(self, category: str) -> dict[str, float]:
        """HOTA and IDF1 of one category alone."""
        values: dict[str, float] = {}
        for suffix, films in self._films.items():
            accuracy = tracking_accuracy([[frame.only(category) for frame in film] for film in films.values()])
            values |= {f"{name}{suffix}": accuracy.metrics[name] for name in ("HOTA", "IDF1")}
        return values

    def _notes(self) -> tuple[str, ...]:
        tracked, untracked = self._films[TRACKED], self._films[UNTRACKED]
        seen = [(video, true.identity) for video, film in tracked.items() for frame in film for true in frame.truth]
        found, with_track = (
            sum(len(frame.found) for film in films.values() for frame in film) for films in (untracked, tracked)
        )
        return (
            f"{len(set(seen))} things in {len(tracked)} videos, seen {len(seen)} times; "
            f"{found} times a thing was found, {with_track} times with a track",
        )


def _video(sample: Sample) -> str:
    if sample.video is None:
        raise DatasetError(f"sample {sample.file_name!r}: expected a frame of a video, found a picture")
    return sample.video


def _seconds(sample: Sample) -> float:
    if sample.seconds is None:
        raise DatasetError(f"sample {sample.file_name!r}: expected when it was taken, found nothing of it")
    return sample.seconds


def _track_of(segment: Segment, sample: Sample) -> int:
    if segment.track_id is None:
        raise DatasetError(f"sample {sample.file_name!r}, segment {segment.id}: expected a track id, found none")
    return segment.track_id


def _failure(answer: StreamAnswer) -> str:
    """Why an answer is not what the system can do; empty where it is."""
    if answer.dropped:
        return f"dropped, {answer.dropped.reason}: {answer.dropped.message}"
    if answer.error:
        return f"{answer.error.code}: {answer.error.message}"
    if answer.degradation:
        return f"degraded, {answer.degradation}"
    return failed_tasks(answer.scene) if answer.scene else "no scene"


def _identified(things: Things, identity: Callable[[FoundSegment], int | None]) -> tuple[Identified, ...]:
    """The things that have an identity."""
    return tuple(
        Identified(number, thing.category, thing.box) for thing in things if (number := identity(thing)) is not None
    )


def _drawn(picture: Picture, things: tuple[Identified, ...]) -> Picture:
    labels = {f"{thing.category} {thing.identity}": thing for thing in things}
    objects = [CocoObject(label, thing.box, area=0) for label, thing in labels.items()]
    return draw_objects(
        picture, objects, {label: _COLOURS[thing.identity % len(_COLOURS)] for label, thing in labels.items()}
    )
