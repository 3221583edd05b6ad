#!/bin/sh
# Plain curl. Address and key come from OPENAI_BASE_URL and OPENAI_API_KEY.
# For each case: a line `case NAME BYTES STATUS CONTENT-TYPE`, then that many bytes of body and a line end.
set -eu
body=$(mktemp)
trap 'rm -f "$body"' EXIT

show() { # NAME, then curl's arguments
    name=$1
    shift
    meta=$(curl --silent --show-error --no-buffer --max-time 60 --output "$body" \
        --write-out '%{http_code} %{content_type}' --header "Authorization: Bearer ${KEY:-$OPENAI_API_KEY}" "$@")
    printf 'case %s %s %s\n' "$name" "$(wc -c <"$body" | tr -d ' ')" "$meta"
    cat "$body"
    printf '\n'
}

post() { # NAME PATH JSON
    show "$1" --header 'Content-Type: application/json' --data "$3" "$OPENAI_BASE_URL$2"
}

ask='"model": "tiny", "temperature": 0, "max_tokens": 8'
hello='"messages": [{"role": "user", "content": "Hello there"}]'

post chat /chat/completions "{$ask, $hello}"
post chat_stream /chat/completions "{$ask, $hello, \"stream\": true}"
post chat_stream_usage /chat/completions "{$ask, $hello, \"stream\": true, \"stream_options\": {\"include_usage\": true}}"
post completions /completions "{$ask, \"prompt\": \"Once upon\"}"
post completions_stream /completions "{$ask, \"prompt\": \"Once upon\", \"stream\": true}"
post responses /responses '{"model": "tiny", "temperature": 0, "max_output_tokens": 8, "input": "Hello there"}'
post responses_stream /responses '{"model": "tiny", "temperature": 0, "max_output_tokens": 8, "input": "Hello there", "stream": true}'
post messages /messages "{$ask, $hello}"
post messages_stream /messages "{$ask, $hello, \"stream\": true}"
post count_tokens /messages/count_tokens "{\"model\": \"tiny\", $hello}"
post error_bad_field /chat/completions "{$hello, \"model\": \"tiny\", \"temperature\": \"hot\"}"
post error_unknown_model /chat/completions "{$hello, \"model\": \"nobody\"}"
KEY=wrong
post error_wrong_key /chat/completions "{$ask, $hello}"
