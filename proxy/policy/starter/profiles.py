"""What suits each kind of application: the one table from which `init` writes and by which the presets are held.

Theory of operation
-------------------
The figures are starting points with a reason: what people notice (a second before they look away, some 6 tokens/s of
reading, 4 of speech), and what a Llama-3.3-70B on a few GPUs was published to do (0.09 s to the first token with 16
requests in flight, 0.4 s with 64, 1.3 s and 26 tokens/s with 128).

Money that is not worth spending is refused (`require`); speed is wanted (`want`), because a slow answer is mostly
better than none. Offline work wants no speed at all: it takes what is paid for already.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from proxy.policy.model import Endpoint, Modality, Prefer
from proxy.policy.starter.kinds import Kind, Profile, Work, ask

_AGENTS = Profile(
    does="long prompts, tools, many steps one after the other",
    works=(
        Work(
            name="long-context",
            endpoint=Endpoint.CHAT,
            input_tokens=64_000,
            max_output_tokens=2000,
            match=(("input_tokens", "{min: 32k}"),),
            require=(ask("max_usd_per_request", "0.05", "a step that carries everything said so far"),),
            want=(
                ask("ttft_p99", "15s", "64k tokens take some 5 s to read when nothing of them is cached"),
                ask("e2e_p90", "90s", "a run is twenty such steps; nobody watches each"),
                ask("uptime", "99.9%", "one failed step fails the run"),
            ),
            prefer=Prefer.DEDICATED,
            why="the engine that served the last step has its prefix cached; the cheapest provider has not",
            max_failovers=2,
            why_failovers="a run that dies at step nineteen is paid for and worth nothing",
        ),
        Work(
            name="agents",
            endpoint=Endpoint.CHAT,
            input_tokens=12_000,
            max_output_tokens=2000,
            require=(ask("max_usd_per_request", "0.02", "a loop that has gone wrong stops being paid for"),),
            want=(
                ask("ttft_p99", "5s", "steps follow one another: their waits add up"),
                ask("e2e_p90", "30s", "what counts is the whole step, since a tool waits for its end"),
                ask("uptime", "99.9%", "one failed step fails the run"),
            ),
            prefer=Prefer.DEDICATED,
            why="the engine that served the last step has its prefix cached; the cheapest provider has not",
            max_failovers=2,
            why_failovers="a run that dies at step nineteen is paid for and worth nothing",
        ),
    ),
    offline_usd_per_mtok="0.50",
    max_in_flight=64,
    why_in_flight="long contexts fill the KV cache long before the batch is full",
    timeouts="first_token: 60s, idle: 60s, total: 15m",
    why_timeouts="long prompts are read for seconds, and a model may think between two tools",
    rpm=300,
)

_CHAT = Profile(
    does="a person reads the answer while it is written",
    works=(
        Work(
            name="chat",
            endpoint=Endpoint.CHAT,
            input_tokens=1200,
            max_output_tokens=500,
            require=(ask("max_usd_per_request", "0.01", "ten usual turns: stops a pasted book, not a chat"),),
            want=(
                ask("ttft_p99", "1500ms", "after a second or so people look away"),
                ask("perceived_tps", "20", "a fast reader takes 6 tokens/s and should never catch up"),
                ask("uptime", "99.9%", "43 minutes a month"),
            ),
            prefer=Prefer.COST,
            why="GPUs that are paid for first, then the cheapest provider",
        ),
    ),
    offline_usd_per_mtok="0.50",
    max_in_flight=128,
    why_in_flight="about where the first token of a 70B on two H100 takes 1.3 s",
    timeouts="first_token: 10s, idle: 20s, total: 3m",
    why_timeouts="whoever waited ten seconds has gone",
)

_VOICE = Profile(
    does="the answer is spoken: silence is the failure",
    works=(
        Work(
            name="voice",
            endpoint=Endpoint.CHAT,
            input_tokens=1500,
            max_output_tokens=200,
            require=(
                ask("max_usd_per_request", "0.005", "a spoken turn is short; a dear one has lost its way"),
                ask(
                    "ttft_p99",
                    "1500ms",
                    "being tried: refuse at once, and let the app say so, over silence",
                    shadow=True,
                ),
            ),
            want=(
                ask("ttft_p99", "500ms", "speech needs 300 ms more, and a pause of a second sounds broken"),
                ask("perceived_tps", "25", "speech takes 4 tokens/s, but is made a clause at a time"),
                ask("uptime", "99.95%", "22 minutes a month; a call cannot be reloaded"),
            ),
            prefer=Prefer.LATENCY,
            why="whoever speaks first, whatever it costs within the limit above",
        ),
    ),
    offline_usd_per_mtok="1.00",
    max_in_flight=32,
    why_in_flight="small batches answer at once: 0.1-0.2 s to the first token; the rest spills, nothing waits",
    timeouts="connect: 1s, first_token: 1500ms, idle: 2s, total: 30s",
    why_timeouts="given up in time for another target to answer within the same pause",
    rpm=300,
)

_MEDIA = Profile(
    does="images, audio, video and files in the prompt",
    works=(
        Work(
            name="long-media",
            endpoint=Endpoint.CHAT,
            input_tokens=50_000,
            max_output_tokens=4000,
            modalities=(Modality.VIDEO, Modality.FILE),
            require=(ask("max_usd_per_request", "0.25", "an hour of video is a million tokens: that goes offline"),),
            want=(
                ask("e2e_p95", "2m", "people send it and do something else"),
                ask("uptime", "99.5%", "sent again when it fails"),
            ),
            prefer=Prefer.COST,
            why="big prompts cost by the token: GPUs that are paid for first",
        ),
        Work(
            name="media",
            endpoint=Endpoint.CHAT,
            input_tokens=3000,
            max_output_tokens=1000,
            require=(ask("max_usd_per_request", "0.05", "a few images, not an album"),),
            want=(
                ask("ttft_p99", "8s", "an image is fetched, decoded and read before the first token"),
                ask("e2e_p95", "45s", "a caption, a transcript, an answer about a picture"),
                ask("uptime", "99.5%", "sent again when it fails"),
            ),
            prefer=Prefer.COST,
            why="big prompts cost by the token: GPUs that are paid for first",
        ),
    ),
    offline_usd_per_mtok="0.60",
    max_in_flight=32,
    why_in_flight="an image takes the engine as long as a thousand tokens and more",
    timeouts="first_token: 2m, idle: 60s, total: 20m",
    why_timeouts="uploads are large, and nothing comes back until they are read",
    rpm=120,
)

_SEARCH = Profile(
    does="queries become vectors, and what they find becomes a short answer",
    works=(
        Work(
            name="embed",
            endpoint=Endpoint.EMBEDDINGS,
            input_tokens=100,
            max_output_tokens=None,
            match=(("endpoint", "embeddings"),),
            require=(ask("max_usd_per_request", "0.001", "a query, or a page; a corpus goes offline"),),
            want=(
                ask("e2e_p99", "250ms", "the search itself has yet to begin"),
                ask("uptime", "99.9%", "no vector, no results"),
            ),
            prefer=Prefer.COST,
            why="GPUs that are paid for first, then the cheapest provider",
        ),
        Work(
            name="answers",
            endpoint=Endpoint.CHAT,
            input_tokens=4000,
            max_output_tokens=300,
            require=(ask("max_usd_per_request", "0.005", "searches are many and earn little each"),),
            want=(
                ask("ttft_p99", "800ms", "it stands above results that came in half a second"),
                ask("e2e_p95", "4s", "a paragraph; later nobody reads it"),
                ask("uptime", "99.9%", "43 minutes a month"),
            ),
            prefer=Prefer.COST,
            why="GPUs that are paid for first, then the cheapest provider",
        ),
    ),
    offline_usd_per_mtok="0.10",
    max_in_flight=128,
    why_in_flight="short requests leave soon",
    timeouts="first_token: 3s, idle: 5s, total: 15s",
    why_timeouts="results are shown without an answer rather than late",
)

_RECOMMENDATION = Profile(
    does="vectors and scores in bulk, most of them made overnight",
    works=(
        Work(
            name="embed",
            endpoint=Endpoint.EMBEDDINGS,
            input_tokens=200,
            max_output_tokens=None,
            match=(("endpoint", "embeddings"),),
            require=(ask("max_usd_per_request", "0.001", "what one visitor just did; a catalogue goes offline"),),
            want=(
                ask("e2e_p99", "200ms", "it is one of several steps behind one page"),
                ask("uptime", "99.5%", "without it the page shows what is popular"),
            ),
            prefer=Prefer.COST,
            why="GPUs that are paid for first, then the cheapest provider",
        ),
        Work(
            name="rank",
            endpoint=Endpoint.CHAT,
            input_tokens=2000,
            max_output_tokens=20,
            require=(ask("max_usd_per_request", "0.001", "one page view earns about as much"),),
            want=(
                ask("e2e_p95", "600ms", "the page waits for it, then shows what was ranked overnight"),
                ask("uptime", "99.5%", "without it the page shows what is popular"),
            ),
            prefer=Prefer.COST,
            why="GPUs that are paid for first, then the cheapest provider",
            max_failovers=0,
            why_failovers="a second try would come after the page",
        ),
    ),
    offline_usd_per_mtok="0.05",
    max_in_flight=256,
    why_in_flight="throughput counts, and prompts are short",
    timeouts="first_token: 2s, total: 10s",
    why_timeouts="a page that waits longer is not seen",
    rpm=1200,
)

_COMPLETION = Profile(
    does="the rest of a line, while somebody types",
    works=(
        Work(
            name="completion",
            endpoint=Endpoint.COMPLETIONS,
            input_tokens=2000,
            max_output_tokens=64,
            require=(ask("max_usd_per_request", "0.001", "one for every pause of every typist: thousands a day"),),
            want=(
                ask("ttft_p99", "300ms", "slower than typing is not shown"),
                ask("e2e_p90", "700ms", "the whole suggestion is shown at once"),
                ask("uptime", "99.5%", "a missing suggestion is not noticed"),
            ),
            prefer=Prefer.LATENCY,
            why="the fastest now; a suggestion that is late is wasted at any price",
            max_failovers=0,
            why_failovers="by the time of a second try another key was pressed",
        ),
    ),
    offline_usd_per_mtok="0.30",
    max_in_flight=48,
    why_in_flight="small batches keep the gap between tokens short",
    timeouts="connect: 500ms, first_token: 1s, idle: 1s, total: 3s",
    why_timeouts="frees the engine of answers that nobody will see",
    rpm=3000,
)

_MODERATION = Profile(
    does="a verdict before anything is shown: it must not fall out",
    works=(
        Work(
            name="moderation",
            endpoint=Endpoint.CHAT,
            input_tokens=600,
            max_output_tokens=20,
            want=(
                ask(
                    "max_usd_per_request", "0.0002", "wanted only: an unmoderated message costs more than a dear check"
                ),
                ask("e2e_p99", "1s", "it stands before every message, in both directions"),
                ask("uptime", "99.99%", "4 minutes a month: while it is out, so is the product"),
            ),
            prefer=Prefer.COST,
            why="every message is checked: GPUs that are paid for first, then the cheapest provider",
            max_failovers=3,
            why_failovers="every target is tried before a message goes unchecked",
        ),
    ),
    offline_usd_per_mtok="0.10",
    max_in_flight=256,
    why_in_flight="prompts are short and verdicts a few tokens",
    timeouts="connect: 1s, first_token: 2s, idle: 2s, total: 5s",
    why_timeouts="leaves time for the next target",
    rpm=3000,
)

PROFILES: Mapping[Kind, Profile] = MappingProxyType(
    {
        Kind.AGENTS: _AGENTS,
        Kind.CHAT: _CHAT,
        Kind.VOICE: _VOICE,
        Kind.MEDIA: _MEDIA,
        Kind.SEARCH: _SEARCH,
        Kind.RECOMMENDATION: _RECOMMENDATION,
        Kind.COMPLETION: _COMPLETION,
        Kind.MODERATION: _MODERATION,
    }
)
