"""An example of a DAG downstream: it starts when the dataset `latest` was published and proven.

The event's extra says what was published: release id, counts, and where it lies.
"""

from typing import Any

from airflow.sdk import Asset, dag, task


@dag(schedule=[Asset.ref(name="latest")])
def train_when_published() -> None:
    @task
    def start_training(triggering_asset_events: Any = None) -> dict[str, Any]:
        events = [event for events in triggering_asset_events.values() for event in events]
        published: dict[str, Any] = events[-1].extra
        return {
            "download": published["destination"],
            "release": published["release"],
            "release_id": published["release_id"],
            "num_classes": published["identities"],
            "num_image": published["images"],
        }

    start_training()


train_when_published()
