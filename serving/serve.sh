#!/bin/sh
# Starts TensorFlow Serving on saved_models/: in Docker where that works, else the program itself.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
models=$(dirname "$here")/saved_models

if docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1; then
    exec docker compose --file "$here/docker-compose.yml" up
fi
if command -v tensorflow_model_server >/dev/null 2>&1; then
    echo "warning: tensorflow_model_server answers the whole network on ports 8500 and 8501, and asks nobody who they are. Close them to others, or use Docker" >&2
    config=$(mktemp)
    trap 'rm -f "$config"' EXIT
    escaped=$(printf '%s' "$models" | sed 's/[&|\\]/\\&/g')
    sed "s|\"/models/|\"$escaped/|" "$here/models.config" >"$config"
    tensorflow_model_server \
        --port=8500 \
        --rest_api_port=8501 \
        --model_config_file="$config" \
        --enable_batching=true \
        --batching_parameters_file="$here/batching_parameters.txt" \
        --monitoring_config_file="$here/monitoring.config" \
        --file_system_poll_wait_seconds=1
    exit
fi
echo "error: TensorFlow Serving needs a running Docker with compose, or tensorflow_model_server on PATH. Found neither. Install one, or try a client on the small server for tests: .venv/bin/python -m rdi_keras.cli.loopback saved_models/digits" >&2
exit 2
