"""An example of a DAG downstream: it starts when the dataset `latest` was published and proven.

The event's extra says what was published: release id, counts, and where it lies. Name the asset by both name and
URI, as here: with `Asset.ref(name=…)` Airflow 3.3.2 starts the run too, but hands it no event.
"""

from typing import Any

from airflow.sdk import Asset, dag, task

PUBLISHED = Asset(name="latest", uri="s3://data-labeling.livereachmedia.com/latest/set/")


@dag(schedule=[PUBLISHED])
def train_when_published() -> None:
    @task
    def start_training(triggering_asset_events: Any = None) -> dict[str, Any]:
        published: dict[str, Any] = triggering_asset_events[PUBLISHED][-1].extra
        return {
            "download": published["destination"],
            "release": published["release"],
            "release_id": published["release_id"],
            "num_classes": published["identities"],
            "num_image": published["images"],
        }

    start_training()


train_when_published()
