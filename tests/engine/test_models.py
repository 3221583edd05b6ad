"""Public model names: listed, looked up, and sent upstream by the name that the engine knows."""

import httpx

from tests.engine import spillway as proxies
from tests.engine.asks import chat, messages, responses
from tests.engine.fixtures import StartSpillway, client
from tests.engine.replies import events
from tests.engine.vllm import Engine

ALIASES = """
version: 1
targets:
  engine:
    lane: dedicated
    engine: vllm
    url: {url}
    model: tiny
    api_key: ${{ENGINE_KEY}}
    gpus: {{type: CPU, count: 1, usd_per_hour: 1.20}}
models:
  gpt-4o: [engine]
  claude: [{{target: engine, model: tiny}}]
"""


def test_models_are_listed_and_found(proxied: httpx.Client) -> None:
    listed = proxied.get("/models").json()
    assert (listed["object"], [model["id"] for model in listed["data"]]) == ("list", ["tiny"])
    assert proxied.get("/models/tiny").json()["id"] == "tiny"
    assert proxied.get("/models/nobody").status_code == 404


def test_app_may_ask_by_a_name_of_its_own(engine: Engine, start_spillway: StartSpillway) -> None:
    running = start_spillway(ALIASES.format(url=engine.url))
    with client(running.url, proxies.KEY) as http:
        for path, body in (
            ("/chat/completions", chat(model="gpt-4o")),
            ("/responses", responses(model="gpt-4o")),
            ("/messages", messages(model="claude")),
        ):
            assert http.post(path, json=body).status_code == 200
            assert events(http.post(path, json=body | {"stream": True}).content)
        assert http.post("/chat/completions", json=chat(model="tiny")).status_code == 404
